"""What the guard knows of one unit: a stratum of a pool, or a slice that is none of its strata.

A unit has one running test (``detector``) over all signals, and the daily sums from which an alert says how much worse the pilot is. Judgements
wait in a block until both arms have some. Feedback of one source is bounded: two opinions of a conversation a day count, and of a tenant
that has less than half of the unit's traffic no more than twice what all others say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from router.core.guard import events, means, pairs, past
from router.core.guard.cause import Causes
from router.core.guard.detector import DAY_MS, Detector
from router.core.guard.grid import Grid

Array = NDArray[np.float64]
Arm = Literal["pilot", "reference"]

HOUR_MS: Final = 3_600_000
#: Feedback may speak of requests of so many hours ago, and alerts of so many days.
HOURS_KEPT, DAYS_KEPT = 8 * 24, 60
#: Judgements of one arm wait so long for those of the other.
BLOCK_WAITS_MS: Final = 3 * DAY_MS
_LEAST_IN_BLOCK: Final = 2
#: What is thought of the reference before it was judged: so many judgements, so many of them bad.
_PRIOR_JUDGED, _PRIOR_BAD = 15.0, 1.2
_PRIOR_PAIRS, _PRIOR_SPREAD = 50.0, 15.0
#: After so many judgements older ones count less.
_JUDGED_KEPT: Final = 2000.0
#: A judge's taste is that of so many verdicts.
_LATELY: Final = 100.0
_TENANTS_KEPT, _OTHERS = 64, "\0others"
#: Conversations told apart in a day; further ones share as many places.
_SESSIONS_KEPT: Final = 20_000
_SESSION_OPINIONS: Final = 2
#: Judgements of the pilot belong to its past after so many days, and which they are.
PAST_DAYS: Final = 7
OF_PAST: Final = ("review", "label")


@dataclass(slots=True)
class Sums:
    """Of one signal and arm: how many, sum and sum of squares of ``bad`` (of pairs: of the verdicts)."""

    n: float = 0.0
    bad: float = 0.0
    square: float = 0.0

    def add(self, bad: float, count: float = 1.0) -> None:
        self.n += count
        self.bad += bad * count
        self.square += bad * bad * count

    def merge(self, other: Sums) -> None:
        self.n += other.n
        self.bad += other.bad
        self.square += other.square


@dataclass(slots=True)
class Block:
    """Judgements that wait for the other arm; since when."""

    pilot: Counter[float] = field(default_factory=Counter)
    reference: Counter[float] = field(default_factory=Counter)
    since_ms: int = 0


@dataclass(slots=True)
class Tenant:
    """Of a tenant in this unit: requests, and events as far as they counted, fading with a week."""

    requests: float = 0.0
    events: float = 0.0


class Unit:
    """See the module's text. ``name``: of the stratum or slice; ``now_ms``: when it starts."""

    def __init__(self, name: str, grid: Grid, now_ms: int) -> None:
        self.name, self.grid, self.started_ms = name, grid, now_ms
        self.detector = Detector(grid.prior, now_ms)
        self.hours: dict[int, list[float]] = {}  # hour -> requests of reference, of pilot
        self.days: dict[int, dict[str, list[Sums]]] = {}  # day -> signal -> reference, pilot
        self.judged: dict[str, list[float]] = {}  # signal -> judged, bad: of the reference
        self.verdicts: list[float] = [_PRIOR_PAIRS, _PRIOR_SPREAD]  # how many, sum of squares
        self.lately: list[float] = [0.0, 0.0]  # how many verdicts, their sum: the last ``_LATELY`` or so
        self.causes = Causes()
        self.tenants: dict[str, Tenant] = {}
        self.sessions: Counter[str] = Counter()
        self._sessions_day = 0
        self._blocks: dict[str, Block] = {}
        self._pending: Array = np.zeros(len(grid.prior))
        self._pairs: Counter[float] = Counter()
        self._now: Counter[float] = Counter()
        self._past: tuple[int, float | None] = (-1, None)
        self._touched = False

    # What comes in

    def requests(self, arm: Arm, count: int, at_ms: int, tenant: str | None = None) -> None:
        """So many requests of an arm in the hour of ``at_ms``."""
        self.hours.setdefault(at_ms // HOUR_MS, [0.0, 0.0])[arm == "pilot"] += count
        self._sums("requests", at_ms)[arm == "pilot"].n += count
        if tenant is not None:
            name = self._bucket(tenant)
            if name not in self.tenants:
                self.tenants[name] = Tenant()
            self.tenants[name].requests += count

    def event(
        self, signal: str, arm: Arm, asked_ms: int, now_ms: int, *, bad: float = 1.0, tenant: str | None = None
    ) -> None:
        """An event of weight ``bad`` in 0..1 about a request of ``asked_ms``."""
        counts = self.hours.get(asked_ms // HOUR_MS)
        if counts is None or bad <= 0.0:
            return
        weight = bad * self._bound(tenant)
        share = counts[1] / max(1.0, counts[0] + counts[1])
        self._pending += events.log_factors(self.grid.sizes[signal], arm == "pilot", share, weight)
        self._sums(signal, now_ms)[arm == "pilot"].add(weight)
        self._touched = True

    def judgement(self, signal: str, arm: Arm, bad: float, now_ms: int) -> None:
        """A review, label, rating or survey of an answer; ``bad`` in 0..1."""
        block = self._blocks.setdefault(signal, Block(since_ms=now_ms))
        (block.pilot if arm == "pilot" else block.reference)[round(bad, 3)] += 1
        self._sums(signal, now_ms)[arm == "pilot"].add(bad)
        if arm == "pilot" and signal in OF_PAST:
            self._now[round(bad, 3)] += 1

    def pair(self, verdict: float, now_ms: int) -> None:
        """A judge compared the pilot's answer with the reference's: -1..1, 1: worse."""
        self._pairs[round(verdict, 3)] += 1
        self._sums("judge", now_ms)[1].add(verdict)

    def note(self, what: str, value: float, at_ms: int) -> None:
        """A sum of the pilot's that no test looks at."""
        self._sums(what, at_ms)[1].add(value)

    def one_of_session(self, session: str | None, now_ms: int) -> bool:
        """Whether another opinion of this conversation still counts today."""
        if session is None:
            return True
        if now_ms // DAY_MS != self._sessions_day:
            self._sessions_day, self.sessions = now_ms // DAY_MS, Counter()
        if session not in self.sessions and len(self.sessions) >= _SESSIONS_KEPT:
            session = f"\0{xxhash.xxh32_intdigest(session.encode()) % _SESSIONS_KEPT}"
        self.sessions[session] += 1
        return self.sessions[session] <= _SESSION_OPINIONS

    # What it comes to

    def step(self, now_ms: int, *, judge_power: float, judge_bias: float) -> None:
        """Bring the test up to ``now_ms`` with all that came in."""
        for signal, block in self._blocks.items():
            self._judge_block(signal, block, now_ms)
        if self._now and (m := self._bound_of_past(now_ms)) is not None:
            self._pending += past.log_factors(self.grid.sizes["past"], m, self._now)
            self._touched = True
        self._now.clear()
        if self._pairs:
            spread = self.verdicts[1] / self.verdicts[0]
            self._pending += pairs.log_factors(
                self.grid.sizes["judge"], spread, self._pairs, power=judge_power, bias=judge_bias
            )
            for verdict, count in self._pairs.items():
                self.verdicts[0] += count
                self.verdicts[1] += count * verdict * verdict
                self.lately[0] += count
                self.lately[1] += count * verdict
            self.verdicts, self.lately = _faded(self.verdicts), _faded(self.lately, _LATELY)
            self._pairs.clear()
            self._touched = True
        if self._touched:
            self.detector.observe(self._pending, now_ms)
            self._pending = np.zeros(len(self.grid.prior))
            self._touched = False
        self._forget(now_ms)

    def _judge_block(self, signal: str, block: Block, now_ms: int) -> None:
        n1, n0 = block.pilot.total(), block.reference.total()
        if min(n1, n0) < _LEAST_IN_BLOCK:
            if now_ms - block.since_ms > BLOCK_WAITS_MS and max(n1, n0):
                self._learn(signal, block.reference)
                self._blocks[signal] = Block(since_ms=now_ms)
            return
        judged, bad = self.judged.get(signal, [_PRIOR_JUDGED, _PRIOR_BAD])
        sizes = self.grid.sizes[signal]
        self._pending += means.log_factors(sizes, bad / judged, block.pilot, block.reference)
        self._learn(signal, block.reference)
        self._blocks[signal] = Block(since_ms=now_ms)
        self._touched = True

    def _bound_of_past(self, now_ms: int) -> float | None:
        """The most that the pilot's share of bad answers was until a week ago; reckoned once a day."""
        today = now_ms // DAY_MS
        if self._past[0] != today:
            old = [
                signals[signal][1]
                for day, signals in self.days.items()
                for signal in OF_PAST
                if day < today - PAST_DAYS and signal in signals
            ]
            self._past = (today, past.bound(sum(one.n for one in old), sum(one.bad for one in old)))
        return self._past[1]

    def _learn(self, signal: str, reference: Mapping[float, int]) -> None:
        known = self.judged.setdefault(signal, [_PRIOR_JUDGED, _PRIOR_BAD])
        for bad, count in reference.items():
            known[0] += count
            known[1] += count * bad
        self.judged[signal] = _faded(known)

    @property
    def evidence(self) -> float:
        """Logarithm of its test's M."""
        return self.detector.evidence

    @property
    def leading(self) -> tuple[str, int]:
        """The group of alternatives that has most of the evidence, and when what it shows began, ms since the epoch."""
        log_m = self.detector.log_m
        best = int(np.argmax(log_m))
        group = self.grid.group[best]
        return group, int(self.detector.began_ms[best])

    def mean_verdict(self) -> tuple[float, float]:
        """How many verdicts on pairs there were lately, and their mean."""
        n, total = self.lately
        return n, total / n if n > 0 else 0.0

    def supported(self, groups: Collection[str]) -> float:
        """How much the alternatives of these groups have gained since they last had nothing, the best of them."""
        inside = [name in groups for name in self.grid.group]
        return float(self.detector.cusum[inside].max())

    def since(self, signal: str, since_ms: int) -> tuple[Sums, Sums]:
        """Sums of reference and pilot since a day."""
        found = (Sums(), Sums())
        for day, signals in self.days.items():
            if day >= since_ms // DAY_MS and signal in signals:
                for total, sums in zip(found, signals[signal], strict=True):
                    total.merge(sums)
        return found

    def before(self, signal: str, before_ms: int) -> Sums:
        """Sums of the pilot before a day."""
        total = Sums()
        for day, signals in self.days.items():
            if day < before_ms // DAY_MS and signal in signals:
                total.merge(signals[signal][1])
        return total

    def restart(self, now_ms: int) -> None:
        """Begin the test anew; what is known of the reference stays."""
        self.detector.restart(now_ms)
        self._pending = np.zeros(len(self.grid.prior))
        self._blocks.clear()
        self._pairs.clear()
        self._now.clear()
        self._touched = False

    def _bound(self, tenant: str | None) -> float:
        """The weight of one more event of a tenant, 0..1."""
        if tenant is None:
            return 1.0
        name = self._bucket(tenant)
        mine = self.tenants.get(name)
        if mine is None:
            return 1.0
        requests = sum(one.requests for one in self.tenants.values())
        others = sum(one.events for one in self.tenants.values()) - mine.events
        weight = 1.0
        if name == _OTHERS or mine.requests * 2.0 < requests:
            weight = min(1.0, max(0.0, 5.0 + 2.0 * others - mine.events))
        mine.events += weight
        return weight

    def _bucket(self, tenant: str) -> str:
        """Tenants beyond the first ``_TENANTS_KEPT`` are one."""
        return tenant if tenant in self.tenants or len(self.tenants) < _TENANTS_KEPT - 1 else _OTHERS

    def _sums(self, signal: str, at_ms: int) -> list[Sums]:
        signals = self.days.setdefault(at_ms // DAY_MS, {})
        if (found := signals.get(signal)) is None:
            found = signals[signal] = [Sums(), Sums()]
        return found

    def _forget(self, now_ms: int) -> None:
        hour, day = now_ms // HOUR_MS, now_ms // DAY_MS
        while self.hours and (oldest := next(iter(self.hours))) < hour - HOURS_KEPT:
            del self.hours[oldest]
        while self.days and (first := next(iter(self.days))) < day - DAYS_KEPT:
            del self.days[first]
            for tenant in self.tenants.values():  # once a day
                tenant.requests *= 6 / 7
                tenant.events *= 6 / 7

    def dump(self) -> dict[str, Any]:
        """JSON values, exactly."""
        return {
            "started_ms": self.started_ms,
            "detector": self.detector.dump(),
            "hours": list(self.hours.items()),
            "days": [
                [day, {signal: [[s.n, s.bad, s.square] for s in both] for signal, both in signals.items()}]
                for day, signals in self.days.items()
            ],
            "judged": self.judged,
            "verdicts": self.verdicts,
            "lately": self.lately,
            "tenants": {name: [one.requests, one.events] for name, one in self.tenants.items()},
            "sessions": [self._sessions_day, dict(self.sessions)],
            "blocks": {
                signal: [list(block.pilot.items()), list(block.reference.items()), block.since_ms]
                for signal, block in self._blocks.items()
            },
            "pending": self._pending.tolist() if self._touched else None,
            "pairs": list(self._pairs.items()),
            "now": list(self._now.items()),
            "past": self._past,
            "causes": self.causes.dump(),
        }

    @classmethod
    def load(cls, name: str, grid: Grid, found: Mapping[str, Any]) -> Unit:
        """The inverse of ``dump``."""
        unit = cls(name, grid, found["started_ms"])
        unit.detector.load(found["detector"])
        unit.hours = {hour: list(counts) for hour, counts in found["hours"]}
        unit.days = {
            day: {signal: [Sums(*one) for one in both] for signal, both in signals.items()}
            for day, signals in found["days"]
        }
        unit.judged = {signal: list(known) for signal, known in found["judged"].items()}
        unit.verdicts, unit.lately = list(found["verdicts"]), list(found["lately"])
        unit.tenants = {tenant: Tenant(*one) for tenant, one in found["tenants"].items()}
        unit._sessions_day, sessions = found["sessions"]
        unit.sessions = Counter(sessions)
        unit._blocks = {
            signal: Block(_counter(pilot), _counter(reference), since_ms)
            for signal, (pilot, reference, since_ms) in found["blocks"].items()
        }
        if found["pending"] is not None and len(found["pending"]) == len(grid.prior):
            unit._pending, unit._touched = np.array(found["pending"]), True
        unit._pairs, unit._now = _counter(found["pairs"]), _counter(found["now"])
        unit._past = (found["past"][0], found["past"][1])
        unit.causes.load(found["causes"])
        return unit


def _faded(known: list[float], most: float = _JUDGED_KEPT) -> list[float]:
    """The same means, of at most ``most`` judgements."""
    return [one * most / known[0] for one in known] if known[0] > most else known


def _counter(items: Iterable[tuple[float, int]]) -> Counter[float]:
    return Counter(dict(items))
