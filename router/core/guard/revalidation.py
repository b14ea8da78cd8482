"""Whether a unit that was given back to the baseline may go to the cheap model again, by shadow pairs alone.

The hypothesis is that the cheap model is worse by the margin m or more: E[d] >= J m, d the judge's verdict in -1..1 (1: worse) and J what it
sees of a difference. For 0 <= l <= 1/2 the factor 1 + l (J m - d) has an expectation of at most 1 then, so the mean over some l of the products is
a test martingale started at a fixed time: the chance that it ever reaches 1/alpha, and a unit that is too bad is released, is at most alpha (Ville).

All that is only as true as the judge. One that guesses sees no difference anywhere, and would let a bad unit come back again and again; so a unit
that its pairs released comes back by them no second time within ``RELAPSE_MS``.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from router.core.guard.detector import DAY_MS

#: Chance that a unit which is worse by the margin is ever released.
ALPHA: Final = 0.01
#: What alarms again so soon after its pairs let it come back: they were wrong of it, and a person has to release it.
RELAPSE_MS: Final = 60 * DAY_MS
_STAKES: Final = np.array([0.05, 0.1, 0.2, 0.4])


class Revalidation:
    """Of one unit. ``margin`` 0..1; ``judge_power`` J in 0..1."""

    def __init__(self, margin: float, judge_power: float, alpha: float = ALPHA) -> None:
        self._tolerated = margin * judge_power
        self._alpha = alpha
        self._log_m = np.zeros(len(_STAKES))
        self.pairs = 0

    def observe(self, verdict: float) -> None:
        """-1..1; 1: the cheap model's answer is worse."""
        self._log_m += np.log1p(_STAKES * (self._tolerated - verdict))
        self.pairs += 1

    @property
    def evidence(self) -> float:
        """The natural logarithm of the test martingale."""
        return float(np.logaddexp.reduce(self._log_m) - np.log(len(_STAKES)))

    @property
    def passed(self) -> bool:
        return self.evidence >= -math.log(self._alpha)

    def dump(self) -> list[Any]:
        """JSON values."""
        return [self.pairs, self._log_m.tolist()]

    def load(self, values: list[Any]) -> None:
        """The inverse of ``dump``."""
        self.pairs, log_m = values
        self._log_m = np.array(log_m)


def relapsed(released_ms: int | None, now_ms: int) -> bool:
    """Whether a unit that alarms now did so soon after its pairs had released it, if they have."""
    return released_ms is not None and now_ms < released_ms + RELAPSE_MS
