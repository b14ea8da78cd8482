"""Detectors to compare the guard with. Each says at which hours it alarms; after an alarm of a stratum that stratum is given back and silent.

| name | what it adds up | knob that is tuned |
|---|---|---|
| cusum | max(0, S + m u - m^2 v / 2), m the margin: Page's test for a drop of the margin (by hand) | height |
| page-hinkley | z = u / sqrt(v) of each hour, river's | threshold |
| adwin | z, cut off at +-5 and brought to 0..1, river's; drops for the better are ignored | delta |
| dashboard | each week the pilot's thumbs and bad reviews against all its weeks before, two z-tests | z |

``strata`` true: one detector a stratum, at one knob; false: one on the sum of all strata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from benchmarks.guard_parts.heard import BAD_REVIEWS, REQUESTS, REVIEWS, THUMBS, Heard

Array = NDArray[np.float64]

WEEK = 7 * 24
#: A tenth of a standard deviation of an hour: about half of what a drop of the margin brings.
ALLOWANCE = 0.1
_CUT = 5.0


class Alarm(NamedTuple):
    """``stratum``: -1 where the detector knows none."""

    hour: int
    stratum: int


class Kind(NamedTuple):
    """Alarms of one column of a heard world, by knob; ``low`` and ``high``: knobs between which the search goes, the more careful one last."""

    alarms: Callable[[Heard, float, float], list[int]]
    low: float
    high: float


def cusum(heard: Heard, knob: float, margin: float) -> list[int]:
    steps = margin * heard.score[:, 0] - margin**2 * heard.information[:, 0] / 2
    found, total = [], 0.0
    for hour, step in enumerate(steps.tolist()):
        total = max(0.0, total + step)
        if total >= knob:
            found.append(hour)
            total = 0.0
    return found


def page_hinkley(heard: Heard, knob: float, margin: float) -> list[int]:  # noqa: ARG001
    detector = PageHinkley(min_instances=30, delta=ALLOWANCE, threshold=knob, mode="up")
    found = []
    for hour, z in _scores(heard):
        detector.update(z)
        if detector.drift_detected:
            found.append(hour)
    return found


def adwin(heard: Heard, knob: float, margin: float) -> list[int]:  # noqa: ARG001
    """``knob``: minus the natural logarithm of delta."""
    detector = ADWIN(delta=float(np.exp(-knob)))
    found, before = [], 0.0
    for hour, z in _scores(heard):
        before = detector.estimation
        detector.update((min(max(z, -_CUT), _CUT) + _CUT) / (2 * _CUT))
        if detector.drift_detected and detector.estimation > before:
            found.append(hour)
            detector = ADWIN(delta=float(np.exp(-knob)))
    return found


def dashboard(heard: Heard, knob: float, margin: float) -> list[int]:  # noqa: ARG001
    raw = heard.raw[:, 0]
    weeks = raw[: len(raw) // WEEK * WEEK].reshape(-1, WEEK, 4).sum(axis=1)
    found = []
    for number in range(1, len(weeks)):
        past, now = weeks[:number].sum(axis=0), weeks[number]
        if max(_z(past, now, REQUESTS, THUMBS), _z(past, now, REVIEWS, BAD_REVIEWS)) >= knob:
            found.append((number + 1) * WEEK - 1)
    return found


KINDS: dict[str, Kind] = {
    "cusum": Kind(cusum, 0.5, 60.0),
    "page-hinkley": Kind(page_hinkley, 1.0, 400.0),
    "adwin": Kind(adwin, 0.0, 200.0),
    "dashboard": Kind(dashboard, 0.2, 10.0),
}


def alarms(kind: str, heard: Heard, knob: float, margin: float, *, strata: bool) -> list[Alarm]:
    """All alarms in the order of time, a detector that alarmed going on from nothing."""
    one, found = KINDS[kind], []
    for number, column in enumerate(_columns(heard)) if strata else [(-1, _pooled(heard))]:
        found += [Alarm(hour, number) for hour in one.alarms(column, knob, margin)]
    return sorted(found)


def tuned(kind: str, calm: Sequence[Heard], days: float, arl_days: float, margin: float, *, strata: bool) -> float:
    """The least careful knob at which the calm worlds of ``days`` days together have no more than one alarm in ``arl_days``."""
    allowed = days / arl_days
    low, high = KINDS[kind].low, KINDS[kind].high
    for _ in range(14):
        middle = (low + high) / 2
        if sum(len(alarms(kind, one, middle, margin, strata=strata)) for one in calm) > allowed:
            low = middle
        else:
            high = middle
    return high


def _columns(heard: Heard) -> list[Heard]:
    return [
        Heard([name], heard.score[:, [at]], heard.information[:, [at]], heard.raw[:, [at]])
        for at, name in enumerate(heard.strata)
    ]


def _pooled(heard: Heard) -> Heard:
    sums = (one.sum(axis=1, keepdims=True) for one in (heard.score, heard.information, heard.raw))
    return Heard(["all"], *sums)


def _scores(heard: Heard) -> list[tuple[int, float]]:
    u, v = heard.score[:, 0], heard.information[:, 0]
    hours = np.flatnonzero(v > 0)
    return list(zip(hours.tolist(), (u[hours] / np.sqrt(v[hours])).tolist(), strict=True))


def _z(past: Array, now: Array, of: int, bad: int) -> float:
    n0, n1 = past[of], now[of]
    if min(n0, n1) < 1:
        return 0.0
    p = (past[bad] + now[bad]) / (n0 + n1)
    error = np.sqrt(max(p * (1 - p), 1e-9) * (1 / n0 + 1 / n1))
    return float((now[bad] / n1 - past[bad] / n0) / error)
