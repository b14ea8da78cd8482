"""What a pilot must show in a stratum before more of its traffic is the pilot's: success metrics, declared beforehand.

Pilot and reference (control and holdout) are compared as assigned, within one stratum and one stage of the rollout: both arms see the same hours.

| metric | value | clears | fails |
|---|---|---|---|
| quality | share of bad answers, pilot less reference: by reviews, and by a judge on shadow pairs, weighted by their precision | upper end < margin | lower end > margin |
| saving | 1 - cost a request of the pilot / of the reference | lower end > ``min_saving`` | upper end < it |
| latency | 95th percentile of the pilot / of the reference | upper end <= ``latency_ratio`` | lower end > it |
| errors | share of requests without an answer, pilot less reference | upper end < ``error_increase`` | lower end > it |

The ends are those of a confidence sequence, so a gate may be looked at every minute. For an estimate with standard error s, information v = 1/s^2:

    half width = s sqrt((1 + r/v) ln((v + r) / (r alpha^2))),    r = v* / (-2 ln alpha + ln(-2 ln alpha) + 1)

Robbins' normal mixture, tightest at v*, where the half width is about the gap that matters; with estimated variances it holds asymptotically
(Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 2024), hence the
least numbers of observations. ``benchmarks/rollout.py`` measures the coverage. A metric fails at a much smaller alpha: all of a pool's gates together
roll back one good stratum with probability ``alpha`` at most.

Strata are never pooled: a bad one among many good ones is what a rollout has to find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from router.core.guard.unit import Arm
from router.core.quantiles import RELATIVE_ERROR, Sketch, from_json, merge, quantile, quantiles, to_json

Metric = Literal["quality", "saving", "latency", "errors"]
State = Literal["clear", "open", "failed"]

#: Strata a pool has at most, and metrics: how often one might fail by chance.
_GATES: Final = 64 * 4
#: Least observations of an arm for requests, and windows for money: below, no normal approximation is believed.
LEAST_REQUESTS, LEAST_WINDOWS = 200, 30
_P95: Final = 0.95
#: Both quantiles of a ratio are off by the sketch's error at most.
_SKETCH: Final = (1 - RELATIVE_ERROR) / (1 + RELATIVE_ERROR)
#: Windows that are open at a time.
_LATE: Final = 2
_Z: Final = 3.0
#: Reviews an arm of a later stage from which on they count.
_LEAST_MORE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Success metrics; ``None``: not asked for. ``least``: reviews an arm, or half as many pairs as it takes, before quality is judged."""

    margin: float
    min_saving: float | None = 0.0
    latency_ratio: float | None = 1.5
    error_increase: float | None = 0.02
    alpha: float = 0.05
    least: int = 50
    judge_power: float = 0.7


class Gate(NamedTuple):
    """One metric: its value with both ends, what it is held against, observations, and what is lacking where it could not be judged yet."""

    metric: Metric
    state: State
    value: float | None
    low: float | None
    high: float | None
    bound: float
    n: int
    lacks: str | None = None


@dataclass(slots=True)
class Money:
    """Sums over windows of (n requests, c nano-dollars): the windows are the sample, so hours that differ widen the interval."""

    windows: int = 0
    n: float = 0.0
    c: float = 0.0
    nn: float = 0.0
    nc: float = 0.0
    cc: float = 0.0

    def add(self, n: float, c: float) -> None:
        """One window."""
        self.windows += 1
        self.n, self.c = self.n + n, self.c + c
        self.nn, self.nc, self.cc = self.nn + n * n, self.nc + n * c, self.cc + c * c

    def rate(self) -> tuple[float, float]:
        """Cost a request, and the variance of its logarithm (ratio of sums, linearised)."""
        ratio = self.c / self.n
        squares = self.cc - 2 * ratio * self.nc + ratio * ratio * self.nn
        return ratio, max(0.0, squares) / (self.n * self.n) / (ratio * ratio)

    def dump(self) -> list[float]:
        return [self.windows, self.n, self.c, self.nn, self.nc, self.cc]

    @classmethod
    def load(cls, found: list[float]) -> Money:
        return cls(int(found[0]), *found[1:])


@dataclass(slots=True)
class Side:
    """One arm of one stratum in one stage. ``bad``: sum over reviews of 1 - value."""

    requests: int = 0
    failed: int = 0
    reviews: int = 0
    bad: float = 0.0
    unpriced: int = 0
    latency: Sketch = field(default_factory=dict)
    money: Money = field(default_factory=Money)
    open: dict[int, list[float]] = field(default_factory=dict)

    def dump(self) -> list[Any]:
        counts = [self.requests, self.failed, self.reviews, self.bad, self.unpriced]
        return [counts, to_json(self.latency), self.money.dump(), [[at, *sums] for at, sums in self.open.items()]]

    @classmethod
    def load(cls, found: list[Any]) -> Side:
        counts, latency, money, windows = found
        requests, failed, reviews, bad, unpriced = counts
        opened = {int(at): [n, c] for at, n, c in windows}
        return cls(requests, failed, reviews, bad, unpriced, from_json(latency), Money.load(money), opened)


class Estimate(NamedTuple):
    """A difference and its variance, and how many observations it is of."""

    value: float
    variance: float
    n: int


@dataclass(slots=True)
class Evidence:
    """Of one stratum in one stage. ``pairs``: number, sum of verdicts (-1..1, above 0: the pilot's is worse), sum of their squares."""

    pilot: Side = field(default_factory=Side)
    reference: Side = field(default_factory=Side)
    pairs: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def side(self, arm: Arm) -> Side:
        return self.pilot if arm == "pilot" else self.reference

    def served(self, arm: Arm, requests: int, ok: int, latency: Mapping[int, int]) -> None:
        """Results: how many, how many with an answer, and their latencies (``core.quantiles``)."""
        side = self.side(arm)
        side.requests += requests
        side.failed += requests - ok
        merge(side.latency, latency)

    def spent(self, arm: Arm, at_ms: int, requests: int, nano_usd: int) -> None:
        """Money for requests, a part of the window that began at ``at_ms``. The two latest windows may still get more; what comes later is one of its own."""
        windows = self.side(arm).open
        sums = windows.setdefault(at_ms, [0.0, 0.0])
        sums[0] += requests
        sums[1] += nano_usd
        while len(windows) > _LATE:
            self.side(arm).money.add(*windows.pop(min(windows)))

    def unpriced(self, arm: Arm, calls: int) -> None:
        """Calls whose cost nobody knows: no saving can be told then."""
        self.side(arm).unpriced += calls

    def reviewed(self, arm: Arm, n: int, good: float) -> None:
        """``n`` reviews, whose values sum to ``good``."""
        side = self.side(arm)
        side.reviews += n
        side.bad += n - good

    def pair(self, verdict: float) -> None:
        """-1..1; above 0: the cheaper model's answer is worse than the baseline's."""
        self.pairs[0] += 1
        self.pairs[1] += verdict
        self.pairs[2] += verdict * verdict

    def quality(self, goals: Goals, before: Estimate | None = None) -> Estimate | None:
        """How much larger the pilot's share of bad answers is, with what earlier stages have shown; ``None`` without enough of either kind."""
        least = goals.least if before is None else _LEAST_MORE
        found = [before, self._by_reviews(least), self._by_pairs(least, goals.judge_power)]
        return joined([one for one in found if one is not None])

    def _by_reviews(self, least: int) -> Estimate | None:
        p, r = self.pilot, self.reference
        if min(p.reviews, r.reviews) < least:
            return None
        return _difference(p.bad, p.reviews, r.bad, r.reviews)

    def _by_pairs(self, least: int, judge_power: float) -> Estimate | None:
        n, total, squares = self.pairs
        if n < 2 * least:
            return None
        mean = total / n
        spread = max(squares / n - mean * mean, 1.0 / n)
        return Estimate(mean / judge_power, spread / n / judge_power**2, int(n))

    def dump(self) -> list[Any]:
        """JSON values, exactly."""
        return [self.pilot.dump(), self.reference.dump(), self.pairs]

    @classmethod
    def load(cls, found: list[Any]) -> Evidence:
        """The inverse of ``dump``."""
        return cls(Side.load(found[0]), Side.load(found[1]), [float(one) for one in found[2]])


def gates(evidence: Evidence, goals: Goals, before: Estimate | None = None, *, traffic: bool = True) -> list[Gate]:
    """All metrics that are asked for.

    ``before``: quality as earlier stages have shown it. ``traffic`` false: nothing is the pilot's yet (a stage of 0 %), so only pairs can speak.
    """
    found = [_quality(evidence, goals, before)]
    if not traffic:
        return found
    if goals.min_saving is not None:
        found.append(_saving(evidence, goals))
    if goals.latency_ratio is not None:
        found.append(_latency(evidence, goals))
    if goals.error_increase is not None:
        found.append(_errors(evidence, goals))
    return found


def joined(found: list[Estimate]) -> Estimate | None:
    """Of independent estimates of the same difference, the one that is weighted by precision.

    >>> joined([Estimate(0.0, 0.01, 10), Estimate(0.3, 0.02, 5)])
    Estimate(value=0.1, variance=0.006666666666666667, n=15)
    """
    if not found:
        return None
    weights = [1.0 / one.variance for one in found]
    value = sum(weight * one.value for weight, one in zip(weights, found, strict=True)) / sum(weights)
    return Estimate(value, 1.0 / sum(weights), sum(one.n for one in found))


def half_width(error: float, gap: float, alpha: float) -> float:
    """Of the confidence sequence around an estimate with this standard error; tightest where it is about ``gap``.

    >>> round(half_width(0.033, 0.10, 0.05) / 0.033, 2)
    3.03
    """
    information, best = 1.0 / (error * error), (_Z / gap) ** 2
    r = best / (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1)
    return error * math.sqrt((1 + r / information) * math.log((information + r) / (r * alpha * alpha)))


def _quality(evidence: Evidence, goals: Goals, before: Estimate | None) -> Gate:
    found = evidence.quality(goals, before)
    if found is None:
        have = min(evidence.pilot.reviews, evidence.reference.reviews)
        lacks = f"{have} of {goals.least} reviews an arm, {int(evidence.pairs[0])} of {2 * goals.least} pairs"
        return Gate("quality", "open", None, None, None, goals.margin, int(evidence.pairs[0]) + have, lacks)
    return _gate("quality", found, goals.margin, goals.margin, goals.alpha)


def _saving(evidence: Evidence, goals: Goals) -> Gate:
    assert goals.min_saving is not None
    p, r, wanted = evidence.pilot, evidence.reference, goals.min_saving
    lacks = None
    if p.unpriced or r.unpriced:
        lacks = f"the price of {p.unpriced + r.unpriced} calls"
    elif min(p.money.windows, r.money.windows) < LEAST_WINDOWS:
        lacks = f"{min(p.money.windows, r.money.windows)} of {LEAST_WINDOWS} windows"
    elif min(p.money.c, r.money.c, p.money.n, r.money.n) <= 0:
        lacks = "cost"
    if lacks is not None:
        return Gate("saving", "open", None, None, None, wanted, p.requests, lacks)
    mine, variance = p.money.rate()
    theirs, other = r.money.rate()
    ratio = mine / theirs
    found = Estimate(-(1.0 - ratio), ratio * ratio * max(variance + other, 1e-12), p.requests)
    gate = _gate("saving", found, -wanted, max(0.02, abs(found.value + wanted)), goals.alpha)
    assert gate.value is not None
    assert gate.low is not None
    assert gate.high is not None
    return gate._replace(value=-gate.value, low=-gate.high, high=-gate.low, bound=wanted)


def _errors(evidence: Evidence, goals: Goals) -> Gate:
    assert goals.error_increase is not None
    p, r = evidence.pilot, evidence.reference
    if min(p.requests, r.requests) < LEAST_REQUESTS:
        lacks = f"{min(p.requests, r.requests)} of {LEAST_REQUESTS} requests an arm"
        return Gate("errors", "open", None, None, None, goals.error_increase, p.requests, lacks)
    found = _difference(p.failed, p.requests, r.failed, r.requests)
    return _gate("errors", found, goals.error_increase, goals.error_increase, goals.alpha)


def _latency(evidence: Evidence, goals: Goals) -> Gate:
    assert goals.latency_ratio is not None
    p, r, limit = evidence.pilot, evidence.reference, goals.latency_ratio
    n, m = sum(p.latency.values()), sum(r.latency.values())
    theirs = quantile(r.latency, _P95)
    if min(n, m) < LEAST_REQUESTS or not theirs:
        return Gate("latency", "open", None, None, None, limit, n, f"{min(n, m)} of {LEAST_REQUESTS} requests an arm")
    error = math.sqrt(_P95 * (1 - _P95) * (1 / n + 1 / m))
    wide, wider = (half_width(error, 0.03, alpha) for alpha in (goals.alpha, _alpha_failed(goals.alpha)))
    shares = (max(0.0, _P95 - wider), max(0.0, _P95 - wide), _P95, min(1.0, _P95 + wide))
    lowest, low, value, high = ((one or 0.0) / theirs for one in quantiles(p.latency, shares))
    high = high / _SKETCH if _P95 + wide < 1.0 else math.inf  # beyond the data nothing is known
    state: State = "clear" if high <= limit else "failed" if lowest * _SKETCH > limit else "open"
    return Gate("latency", state, value, low * _SKETCH, high, limit, n)


def _gate(metric: Metric, found: Estimate, bound: float, gap: float, alpha: float) -> Gate:
    """Of an estimate that must stay below ``bound``."""
    error = math.sqrt(found.variance)
    wide, wider = half_width(error, gap, alpha), half_width(error, gap, _alpha_failed(alpha))
    low, high = found.value - wide, found.value + wide
    state: State = "clear" if high < bound else "failed" if found.value - wider > bound else "open"
    return Gate(metric, state, found.value, low, high, bound, found.n)


def _alpha_failed(alpha: float) -> float:
    return alpha / _GATES


def _difference(bad: float, n: int, other_bad: float, other_n: int) -> Estimate:
    """Of two shares. Each variance is at least that of both arms together: few rare events of one arm say little of how rare they are there."""
    both = _spread(bad + other_bad, n + other_n)
    variance = max(_spread(bad, n), both) / n + max(_spread(other_bad, other_n), both) / other_n
    return Estimate(bad / n - other_bad / other_n, variance, n + other_n)


def _spread(bad: float, n: int) -> float:
    """Variance of one observation in 0..1, never nothing: half a bad and half a good one are added."""
    mean = (bad + 0.5) / (n + 1)
    return mean * (1 - mean)
