"""The baseline against its own past: all else is compared with it, so when it gets worse itself every comparison looks better than it is.

Each stratum, and the whole pool, has a running test (``detector``) of one signal: reviews and labels of the reference's answers, against an upper bound of what
they were until ``PAST_DAYS`` ago (``past``: the same factors, here of the reference). Their shares sum to one, so one false word comes in ``arl_days`` on average or
later; that is apart from the pilot's tests, whose thresholds are as without it: a pool has at most two false words in ``arl_days``, pages and these together.

Where the whole pool alarms it is named, for a model mostly changes everywhere; else the stratum with most evidence. Nothing follows but a ``watch``: giving
traffic back to a baseline that got worse would be wrong. A fence makes no difference here. What lasts becomes the past after a week, and the evidence
goes as the days that are kept fill with it; who closes the alert says that what is now is usual, and the past begins anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from router.core.guard import past
from router.core.guard.detector import DAY_MS, Detector
from router.core.guard.effect import Effect, difference
from router.core.guard.slices import ALL
from router.core.guard.unit import DAYS_KEPT, OF_PAST, PAST_DAYS, Sums

#: Excesses that are bet on, in margins; equally likely beforehand.
_SIZES: Final = (0.5, 1.0, 2.0)
#: The pool's share of the false words; the strata have the rest, as many as are there.
_POOL_SHARE: Final = 0.3
MOST_STRATA: Final = 64
#: M stays below its threshold plus so many nats: lowering it takes nothing from the promise, and what is over is over within days.
_ROOM: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worse:
    """A test that alarms. ``evidence``, ``threshold``: natural logarithms; ``since_ms``: when it probably began.

    ``before``, ``now``: what was judged until then and since (of the last ``PAST_DAYS`` at most); ``effect``: the difference of bad answers.
    """

    unit: str
    evidence: float
    threshold: float
    since_ms: int
    at_ms: int
    before: Sums
    now: Sums
    effect: Effect


@dataclass(slots=True)
class Own:
    """One stratum, or the pool: its test, what was judged by day, and what was since the last step."""

    detector: Detector
    days: dict[int, Sums] = field(default_factory=dict)
    now: Counter[float] = field(default_factory=Counter)
    bound: tuple[int, float | None] = (-1, None)

    def bound_at(self, now_ms: int) -> float | None:
        """The most that the share of bad answers was until a week ago; reckoned once a day."""
        today = now_ms // DAY_MS
        if self.bound[0] != today:
            old = [sums for day, sums in self.days.items() if day < today - PAST_DAYS]
            self.bound = (today, past.bound(sum(one.n for one in old), sum(one.bad for one in old)))
        return self.bound[1]


class Baseline:
    """Of one pool; ``margin`` 0..1."""

    def __init__(self, margin: float, arl_days: float) -> None:
        self._excess = np.array([min(0.9, size * margin) for size in _SIZES])
        self._prior = np.full(len(_SIZES), 1.0 / len(_SIZES))
        self._arl_days = arl_days
        self.units: dict[str, Own] = {}

    def judgement(self, signal: str, stratum: str, bad: float, now_ms: int) -> None:
        """A review or label of an answer of the reference, ``bad`` in 0..1; of other signals nothing is heard."""
        if signal not in OF_PAST:
            return
        for name in (stratum, ALL):
            if name not in self.units:
                if len(self.units) > MOST_STRATA and name != ALL:
                    continue
                self.units[name] = Own(Detector(self._prior, now_ms))
            one = self.units[name]
            one.now[round(bad, 3)] += 1
            one.days.setdefault(now_ms // DAY_MS, Sums()).add(bad)

    def step(self, now_ms: int) -> None:
        """Bring the tests up to date."""
        for name, one in self.units.items():
            bound = one.bound_at(now_ms)
            if bound is not None and one.now:
                one.detector.observe(past.log_factors(self._excess, bound, one.now), now_ms)
                one.detector.log_m -= max(0.0, one.detector.evidence - self.threshold(name) - _ROOM)
            one.now.clear()
            for day in [day for day in one.days if day < now_ms // DAY_MS - DAYS_KEPT]:
                del one.days[day]

    def worse(self, now_ms: int) -> Worse | None:
        """The unit to be named, if one alarms."""
        due = {name: one for name, one in self.units.items() if one.detector.evidence >= self.threshold(name)}
        if not due:
            return None
        name = ALL if ALL in due else max(due, key=lambda unit: due[unit].detector.evidence)
        one = due[name]
        since_ms = int(one.detector.began_ms[int(np.argmax(one.detector.log_m))])
        before, now = self._sums(name, max(since_ms, now_ms - PAST_DAYS * DAY_MS))
        return Worse(
            unit=name,
            evidence=one.detector.evidence,
            threshold=self.threshold(name),
            since_ms=since_ms,
            at_ms=now_ms,
            before=before,
            now=now,
            effect=difference(before, now),
        )

    def threshold(self, name: str) -> float:
        """Logarithm of M at which a unit alarms."""
        share = _POOL_SHARE if name == ALL else (1.0 - _POOL_SHARE) / max(1, len(self.units) - 1)
        return math.log(self._arl_days / share)

    def evidence(self, name: str) -> float:
        """Logarithm of a unit's M."""
        return self.units[name].detector.evidence

    def _sums(self, name: str, since_ms: int) -> tuple[Sums, Sums]:
        """What was judged before a day, and since."""
        found = (Sums(), Sums())
        for day, sums in self.units[name].days.items():
            found[day >= since_ms // DAY_MS].merge(sums)
        return found

    def restart(self, now_ms: int) -> None:
        """Begin anew: what is now is usual."""
        self.units = {name: Own(Detector(self._prior, now_ms)) for name in self.units}

    def dump(self) -> dict[str, Any]:
        """JSON values, exactly."""
        return {
            name: [
                one.detector.dump(),
                [[day, sums.n, sums.bad, sums.square] for day, sums in one.days.items()],
                list(one.now.items()),
                one.bound,
            ]
            for name, one in self.units.items()
        }

    def load(self, found: Mapping[str, Any]) -> None:
        """The inverse of ``dump``."""
        for name, (detector, days, now, bound) in found.items():
            one = self.units[name] = Own(Detector(self._prior, detector[0]))
            one.detector.load(detector)
            one.days = {day: Sums(*sums) for day, *sums in days}
            one.now = Counter(dict(now))
            one.bound = (bound[0], bound[1])
