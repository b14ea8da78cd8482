"""How an endpoint fares beside the others of its model: what was measured lately, and whether it stands out. Pure.

``Tally`` keeps calls, failures and latencies that fade: what is ``HALF_LIFE_S`` old counts half.

An endpoint is an *outlier* when ``MIN_CALLS`` or more (faded) calls of its own, and as many of the others together, say so:

- *failures*: its rate is above that of the others by more than ``MIN_EXCESS`` and by more than ``SIGMAS`` standard errors of the
  difference (two proportions, pooled). Where all fail alike nobody stands out.
- *latency*: the geometric mean of its latencies is ``SLOWER`` times the median of the others' or more.

Source: Envoy's outlier detection (success rate against the mean of the cluster), with a test of two proportions instead of the
spread over hosts: a model has two or three endpoints, and the spread of two numbers says nothing. The geometric mean, since
latencies of answers of all lengths are log-normal, roughly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final

HALF_LIFE_S: Final = 30.0
MIN_CALLS: Final = 20.0
MIN_EXCESS: Final = 0.15
SIGMAS: Final = 3.0
SLOWER: Final = 5.0
#: No call is quicker: keeps logarithms finite.
MIN_LATENCY_S: Final = 1e-4


class Tally:
    """Faded counts of one endpoint: ``calls`` that told something, ``failed`` ones, and ``timed`` ones with their latency."""

    def __init__(self, now_s: float) -> None:
        self.clear(now_s)

    def clear(self, now_s: float) -> None:
        self.calls = self.failed = self.timed = self._logs = 0.0
        self._at_s = now_s

    def add(self, now_s: float, *, failed: bool, latency_s: float | None = None) -> None:
        self.fade(now_s)
        self.calls += 1
        self.failed += failed
        if latency_s is not None:
            self.timed += 1
            self._logs += math.log(max(latency_s, MIN_LATENCY_S))

    def fade(self, now_s: float) -> None:
        """Bring the counts to ``now_s``; a time before the last one changes nothing."""
        if now_s > self._at_s:
            left = 0.5 ** ((now_s - self._at_s) / HALF_LIFE_S)
            self.calls *= left
            self.failed *= left
            self.timed *= left
            self._logs *= left
            self._at_s = now_s

    @property
    def failure_rate(self) -> float:
        return self.failed / self.calls if self.calls > 0 else 0.0

    @property
    def latency_s(self) -> float | None:
        """Geometric mean; ``None`` while less than a twentieth of a call is left to tell."""
        return math.exp(self._logs / self.timed) if self.timed >= 0.05 else None


def stands_out(mine: Tally, others: Sequence[Tally]) -> str | None:
    """Why an endpoint is an outlier, in words for people; ``None`` when it is none. All tallies faded to one time."""
    calls, failed = sum(one.calls for one in others), sum(one.failed for one in others)
    if mine.calls >= MIN_CALLS and calls >= MIN_CALLS:
        usual = failed / calls
        pooled = (failed + mine.failed) / (calls + mine.calls)
        error = math.sqrt(pooled * (1 - pooled) * (1 / calls + 1 / mine.calls))
        if mine.failure_rate - usual > max(MIN_EXCESS, SIGMAS * error):
            return f"{mine.failure_rate:.0%} of calls fail, {usual:.0%} elsewhere"
    timed = [one for one in others if one.latency_s is not None]
    if mine.timed >= MIN_CALLS and mine.latency_s is not None and sum(one.timed for one in timed) >= MIN_CALLS:
        typical_s = median(one.latency_s for one in timed if one.latency_s is not None)
        if mine.latency_s >= SLOWER * typical_s:
            return f"a call takes {mine.latency_s:.3g} s, {typical_s:.3g} s elsewhere"
    return None
