"""Which answers people look at: by what is known before the answer, alike in all cohorts, so many a day on average.

    inclusion = min(1, pace x focus x score),    score = 1.5 - p_ok of the cheapest model,  1 where nobody knows it

The less a request looks like what the cheapest model is good at, the sooner its answer is looked at, at most three times as often as
another; none is left out. What model answers plays no part, nor does the cohort: so rates of cohorts stay comparable, each answer
weighted by 1 / inclusion. ``focus``: a factor for strata that are under suspicion.

``pace`` is found from the past: reviews a day over the sum of focus x score of a day's requests (``Flow``). It is part of the facts of a decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1
from typing import Final

DAY_MS: Final = 86_400_000
#: The past counts for this long, on average.
MEMORY_MS: Final = DAY_MS
#: A rate is taken as if it had been seen for so long at least: the first requests of all do not come at a million a day.
LEAST_MS: Final = 600_000


def score_of(p_ok: float | None) -> float:
    """0.5 .. 1.5: how much an answer deserves to be looked at."""
    return 1.0 if p_ok is None else 1.5 - p_ok


def inclusion_of(pace: float, p_ok: float | None, focus: float = 1.0) -> float:
    """Probability 0..1 that an answer is looked at.

    >>> inclusion_of(0.01, 0.5), inclusion_of(0.01, 0.0, focus=25), inclusion_of(0.5, None, focus=5)
    (0.01, 0.375, 1.0)
    """
    return min(1.0, max(0.0, pace * focus) * score_of(p_ok))


def weight_of(pace: float, p_ok: float | None, focus: float = 1.0, usual: float | None = None) -> float:
    """What an opinion on it weighs beside others of its stratum, 1 on average: learners take weights for numbers of opinions.

    ``usual``: the stratum's focus, where a slice of it is looked at more closely.

    >>> weight_of(0.01, 0.5), weight_of(0.01, 1.0), weight_of(7.0, 1.0), weight_of(0.01, 0.5, focus=4.0, usual=1.0)
    (1.0, 2.0, 1.0, 0.25)
    """
    inclusion = inclusion_of(pace, p_ok, focus)
    return min(1.0, pace * (focus if usual is None else usual)) / inclusion if inclusion > 0.0 else 1.0


@dataclass(slots=True)
class Flow:
    """What a pool's requests amount to a day, forgetting exponentially. ``total`` as of ``at_ms``; seen since ``began_ms``."""

    began_ms: int
    at_ms: int
    total: float = 0.0

    def note(self, amount: float, now_ms: int) -> None:
        """One more request."""
        self.total = self._kept(now_ms) + amount
        self.at_ms = max(self.at_ms, now_ms)

    def per_day(self, now_ms: int) -> float:
        """The rate as of now; of a steady flow what it is, from the first ten minutes on."""
        seen_ms = max(now_ms - self.began_ms, LEAST_MS)
        return self._kept(now_ms) * DAY_MS / (MEMORY_MS * -expm1(-seen_ms / MEMORY_MS))

    def _kept(self, now_ms: int) -> float:
        return self.total * exp(-max(0, now_ms - self.at_ms) / MEMORY_MS)


def pace_of(per_day: int, flow_per_day: float) -> float | None:
    """For ``per_day`` reviews of a flow; three digits, so that records stay short. ``None`` where nothing is to be looked at."""
    if per_day <= 0 or flow_per_day <= 0.0:
        return None
    return float(f"{per_day / flow_per_day:.3g}")
