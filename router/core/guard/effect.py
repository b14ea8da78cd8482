"""How much worse the pilot is, with an interval that holds although somebody chose the moment and the beginning.

The difference D of two means over the days since a change began, with standard error s from the sums of n judgements, lies within

    D +- s * sqrt((n r^2 + 1) / (n r^2) * (ln((n r^2 + 1) / a^2)))        r^2 = -(2 ln a - ln(1 - 2 ln a)) / n_0

at all times together with probability 1 - a, for large n (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory",
2024). The beginning was chosen, too: one of at most 60 days, so a = ALPHA / 60 (Bonferroni). Reviews and verdicts on pairs speak of the same
share of bad answers and are pooled by their precision, verdicts divided by what a judge sees of a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from router.core.guard.grid import TESTS
from router.core.guard.unit import DAYS_KEPT, Sums, Unit

ALPHA: Final = 0.05
#: The interval is narrowest after about so many judgements.
_NARROW_AT: Final = 200.0
_JUDGEMENTS: Final = ("review", "label")


@dataclass(frozen=True, slots=True)
class Effect:
    """By how much the share of bad answers (of events: their rate) is higher in the pilot; ``n`` observations of reference and of pilot."""

    value: float
    low: float
    high: float
    reference: int
    pilot: int


def effect(unit: Unit, group: str, since_ms: int, judge_power: float, judge_bias: float) -> Effect:
    """Of a unit since a time, in what the group of alternatives listens to."""
    if group == "past":
        return _pooled([_since_before(unit, since_ms)])
    signals = unit.grid.signals_of(group)
    parts = [_difference(*unit.since(signal, since_ms)) for signal in signals if signal in _JUDGEMENTS]
    if "judge" in signals:
        parts.append(_verdicts(unit.since("judge", since_ms)[1], judge_power, judge_bias))
    if not any(parts):
        requests = unit.since("requests", since_ms)
        found = {signal: unit.since(signal, since_ms) for signal in signals}
        parts = [
            _difference(*sums) if TESTS[signal] == "means" else _rates(sums, requests) for signal, sums in found.items()
        ]
    return _pooled(parts)


def difference(before: Sums, now: Sums) -> Effect:
    """Of two samples of the same thing; the beginning was chosen as above."""
    return _pooled([_difference(before, now)])


@dataclass(frozen=True, slots=True)
class _Part:
    value: float
    error: float
    reference: float
    pilot: float


def _since_before(unit: Unit, since_ms: int) -> _Part | None:
    """The pilot's reviews since then beside its own before."""
    now, before = unit.since("review", since_ms)[1], unit.before("review", since_ms)
    return _difference(before, now)


def _difference(reference: Sums, pilot: Sums) -> _Part | None:
    if reference.n < 1 or pilot.n < 1:
        return None
    return _Part(
        pilot.bad / pilot.n - reference.bad / reference.n,
        math.hypot(_error(reference), _error(pilot)),
        reference.n,
        pilot.n,
    )


def _verdicts(sums: Sums, power: float, bias: float) -> _Part | None:
    if sums.n < 1:
        return None
    return _Part((sums.bad / sums.n - bias) / power, _error(sums) / power, sums.n, sums.n)


def _rates(events: Sequence[Sums], requests: Sequence[Sums]) -> _Part | None:
    (k0, k1), (n0, n1) = (events[0].bad, events[1].bad), (requests[0].n, requests[1].n)
    if not n0 or not n1:
        return None
    return _Part(k1 / n1 - k0 / n0, math.sqrt((k1 + 0.5) / n1**2 + (k0 + 0.5) / n0**2), n0, n1)


def _error(sums: Sums) -> float:
    """Standard error of the mean, of values in -1..1; half a bad one added, so that it is never nothing."""
    mean = sums.bad / sums.n
    return math.sqrt((max(sums.square / sums.n - mean * mean, 0.0) + 0.5 / sums.n) / sums.n)


def _pooled(found: Sequence[_Part | None]) -> Effect:
    parts = [part for part in found if part is not None]
    if not parts:
        return Effect(0.0, -1.0, 1.0, 0, 0)
    weights = [1.0 / part.error**2 for part in parts]
    total = sum(weights)
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True)) / total
    n = sum(part.pilot + part.reference for part in parts)
    half = boundary(n, ALPHA / DAYS_KEPT) / math.sqrt(total)
    return Effect(
        value,
        max(-1.0, value - half),
        min(1.0, value + half),
        round(sum(part.reference for part in parts)),
        round(sum(part.pilot for part in parts)),
    )


def boundary(n: float, alpha: float) -> float:
    """Standard errors to either side that hold at all times.

    >>> round(boundary(200, 0.05), 2)
    3.04
    """
    r2 = (-2.0 * math.log(alpha) + math.log(1.0 - 2.0 * math.log(alpha))) / _NARROW_AT
    scaled = max(n, 1.0) * r2
    return math.sqrt((scaled + 1.0) / scaled * math.log((scaled + 1.0) / alpha**2))
