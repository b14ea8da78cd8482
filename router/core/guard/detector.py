"""A running test without an end: the Shiryaev-Roberts e-detector, mixed over alternatives and over the day on which a change began.

Problem: quality may fall on any day, by any amount, in any signal. A test that is looked at all the time must still give a false
alarm only once in a long while.

For each alternative c with prior p_c (sum 1) and the factor L_c of what was just observed, whose expectation is at most 1 as long as
nothing is wrong, given all that was seen before,

    M_c <- (M_c + p_c * days passed) * L_c            M = sum over c of M_c

While nothing is wrong M - (days since the start) is a supermartingale, so an alarm at M >= a comes after a days on average, or later
(Shin, Ramdas & Rinaldo, "E-detectors", 2022). Units with shares w_i (sum 1) alarm at M_i >= a / w_i: then the whole pool, all units and
signals together, has an average run length of at least a days. Nothing is assumed of the distribution but what the factors need.

``began`` of an alternative is the last moment when its CUSUM was zero: the likeliest beginning of what it now shows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DAY_MS: Final = 86_400_000
#: In place of the logarithm of nothing, so that sums of it stay finite and JSON has it.
NOTHING: Final = -1e9


class Detector:
    """One unit's test. ``prior``: of its alternatives, sum 1; ``now_ms``: when it starts, with nothing."""

    __slots__ = ("_log_prior", "began_ms", "cusum", "log_m", "now_ms")

    def __init__(self, prior: Array, now_ms: int) -> None:
        self._log_prior = np.log(prior)
        self.now_ms = now_ms
        self.log_m: Array = np.full(len(prior), NOTHING)
        self.cusum: Array = np.zeros(len(prior))
        self.began_ms: Array = np.full(len(prior), float(now_ms))

    def observe(self, log_factors: Array, now_ms: int) -> None:
        """What was observed up to ``now_ms``: the logarithm of each alternative's factor."""
        self.pass_to(now_ms)
        self.log_m = np.maximum(self.log_m + log_factors, NOTHING)
        self.cusum = np.maximum(self.cusum + log_factors, 0.0)
        self.began_ms = np.where(self.cusum <= 0.0, float(now_ms), self.began_ms)

    def pass_to(self, now_ms: int) -> None:
        """Time passes; of a longer one without an observation a day counts, for where nothing is seen nothing can be shown."""
        days = min(1.0, (now_ms - self.now_ms) / DAY_MS)
        if days > 0.0:
            self.log_m = np.logaddexp(self.log_m, self._log_prior + np.log(days))
            self.now_ms = now_ms

    def begin(self, days: float) -> None:
        """A further test from now on, of so many days' weight."""
        self.log_m = np.logaddexp(self.log_m, self._log_prior + np.log(days))

    @property
    def evidence(self) -> float:
        """The natural logarithm of M: an alarm is due at ln(a / w)."""
        return float(np.logaddexp.reduce(self.log_m))

    def restart(self, now_ms: int) -> None:
        """Forget everything."""
        self.__init__(np.exp(self._log_prior), now_ms)  # type: ignore[misc]

    def dump(self) -> list[Any]:
        """JSON values, exactly."""
        return [self.now_ms, self.log_m.tolist(), self.cusum.tolist(), self.began_ms.tolist()]

    def load(self, values: list[Any]) -> None:
        """The inverse of ``dump``; of another number of alternatives: starts anew at that time."""
        now_ms, log_m, cusum, began_ms = values
        if len(log_m) != len(self.log_m):
            self.restart(now_ms)
            return
        self.now_ms = now_ms
        self.log_m, self.cusum, self.began_ms = (np.array(one, dtype=float) for one in (log_m, cusum, began_ms))
