"""A world played through the guard: hour by hour, with reviews and shadow pairs where the guard wants them, and units given back when it alarms.

The guard sees what an installation would: counts of requests by cohort, what the provider says that it serves, thumbs with their delay, reviews, verdicts on pairs. Whether an answer is
bad is drawn here and never shown to it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from router.core.guard.alerts import QUIET_MS
from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Finding, Guard, Opinion, Place, Settings
from router.core.guard.revalidation import Revalidation, relapsed
from router.core.guard.slices import ALL
from router.core.guard.unit import HOUR_MS, Arm
from router.simulation.traffic import HOURS, Hour, Stream
from router.simulation.world import JudgeChange, Storm, World

START_MS: Final = 1_750_003_200_000  # a full hour
#: Pairs a day for a unit that was given back, and at most so many.
RELEASE_PAIRS_A_DAY, RELEASE_PAIRS = 100.0, 1500
#: The cheap model, and what its provider calls it at first.
CHEAP: Final = "cheap"
#: Of the reviews, as many are of the reference as of the pilot.
REFERENCE_SHARE: Final = 0.5


@dataclass(slots=True)
class Story:
    """What happened. Costs in calls of the baseline; days since the start."""

    world: World
    seed: int
    findings: list[tuple[float, Finding]] = field(default_factory=list)
    releases: list[tuple[float, str]] = field(default_factory=list)
    pairs: int = 0
    reviews: int = 0
    hours: list[dict[str, float]] = field(default_factory=list)
    moved: dict[int, float] = field(default_factory=dict)  # cell -> requests given back
    baseline: list[tuple[float, str]] = field(default_factory=list)  # day, unit: the baseline is worse than it was


class Listener(Protocol):
    """Who hears what happens in a world and says what to do about it: the guard, or something to be compared with it."""

    @property
    def fenced(self) -> Mapping[str, int]: ...

    def requests(self, place: Place, arm: Arm, count: int, at_ms: int) -> None: ...

    def opinion(self, opinion: Opinion, now_ms: int) -> None: ...

    def pair(self, place: Place, verdict: float, now_ms: int) -> None: ...

    def served(self, model: str, name: str, at_ms: int) -> None: ...

    def attention(self) -> dict[str, tuple[float, float]]: ...

    def step(self, now_ms: int) -> list[Finding]: ...

    def fence(self, name: str, now_ms: int) -> None: ...

    def release(self, name: str, now_ms: int) -> None: ...

    def fence_of(self, place: Place) -> str | None: ...


class Player:
    """One run. ``listener``: in place of the guard, so that others can be compared."""

    def __init__(
        self, world: World, seed: int, settings: Settings | None = None, listener: Listener | None = None
    ) -> None:
        self.world, self.story = world, Story(world, seed)
        self.stream = Stream(world, seed)
        self.settings = settings or Settings(margin=world.margin)
        self.guard = listener or Guard(self.settings, world.strata, START_MS)
        self._random = np.random.default_rng([seed, 2])
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._owed: dict[tuple[str, str], float] = {}
        self._fenced = np.zeros(len(self.stream.cells), dtype=bool)
        self._again: dict[str, Revalidation] = {}
        self._released_ms: dict[str, int] = {}
        self._versions = sorted(world.versions, key=lambda one: one.day)
        self._watched_ms: dict[str, int] = {}
        self._baseline_ms = 0
        tenants = sorted({cell.tenant for cell in self.stream.cells}, key=str)
        units = [name for name in self.stream.units if name != ALL]
        self._places = [Place(name, tenant=tenant) for name in units for tenant in tenants]
        self._inside = np.zeros(
            (len(self.stream.cells), len(self._places)), dtype=np.int64
        )  # cell, place: 1 if it is there
        for at, place in enumerate(self._places):
            mine = [cell.tenant == place.tenant for cell in self.stream.cells]
            self._inside[:, at] = self.stream.units[place.stratum] & mine

    def play(self, tell: Callable[[float], None] | None = None) -> Story:
        """From the first hour to the last."""
        for hour in range(int(self.world.days * HOURS)):
            self._hour(hour)
            if tell is not None and hour % HOURS == 0:
                tell(hour / HOURS)
        return self.story

    def _hour(self, hour: int) -> None:
        now_ms = START_MS + hour * HOUR_MS
        found = self.stream.hour(hour)
        pilot = np.where(self._fenced, 0, found.pilot)
        self.guard.served(CHEAP, self._version(hour), now_ms)
        self._count(found, pilot, now_ms)
        self._thumbs(found, pilot, now_ms)
        attention = self.guard.attention()
        reviewed = self._review(found, pilot, attention, now_ms)
        paired = self._pair(found, pilot, attention, now_ms)
        again = self._revalidate(found, now_ms)
        later_ms = now_ms + HOUR_MS
        while self._due and self._due[0][0] <= later_ms:
            heapq.heappop(self._due)[2]()
        for finding in self.guard.step(later_ms)[:1]:
            self._alarm(finding, found.day + 1 / HOURS, later_ms)
        self._look_at_baseline(found.day + 1 / HOURS, later_ms)
        self.story.pairs += paired
        self.story.reviews += reviewed
        for cell in np.flatnonzero(self._fenced):
            self.story.moved[int(cell)] = self.story.moved.get(int(cell), 0.0) + float(found.pilot[cell])
        saved = 1.0 - self.world.cheap_cost
        self.story.hours.append(
            {
                "day": found.day,
                "unguarded": float(found.pilot.sum()) * saved,
                "guarded": float(pilot.sum()) * saved
                - paired * (1.0 + self.world.judge_cost)
                - again * (self.world.cheap_cost + self.world.judge_cost),
                "harmed": float((pilot * np.maximum(found.cheap_bad - found.baseline_bad, 0.0)).sum()),
                "harmed_unguarded": float((found.pilot * np.maximum(found.cheap_bad - found.baseline_bad, 0.0)).sum()),
                "pilot": float(pilot.sum()),
                "bad": float((pilot * found.cheap_bad).sum()),
            }
        )

    # What the guard hears

    def _version(self, hour: int) -> str:
        """Under which name the cheap model answers in this hour."""
        names = [CHEAP, *(one.served_model for one in self._versions if one.day * HOURS <= hour)]
        alternates = len(names) > 1 and self._versions[len(names) - 2].alternate
        return names[-2] if alternates and hour % 2 else names[-1]

    def _count(self, found: Hour, pilot: NDArray[np.int64], now_ms: int) -> None:
        each = np.where(self._fenced, 0, np.stack([pilot, found.reference])) @ self._inside
        for place, of_pilot, of_reference in zip(self._places, *each.tolist(), strict=True):
            if place.stratum in self.guard.fenced:
                continue
            if of_pilot:
                self.guard.requests(place, "pilot", of_pilot, now_ms)
            if of_reference:
                self.guard.requests(place, "reference", of_reference, now_ms)

    def _thumbs(self, found: Hour, pilot: NDArray[np.int64], now_ms: int) -> None:
        thumbs = self.world.thumbs
        sigma = math.log(thumbs.delay_p95_h / thumbs.delay_median_h) / 1.645
        for arm, count, bad in (("pilot", pilot, found.cheap_bad), ("reference", found.reference, found.baseline_bad)):
            count = np.where(self._fenced, 0, count)  # noqa: PLW2901
            rate = thumbs.good + (thumbs.bad - thumbs.good) * bad
            down = self._random.binomial(count, rate)
            for cell in np.flatnonzero(down):
                for _ in range(int(down[cell])):
                    delay_h = thumbs.delay_median_h * math.exp(sigma * self._random.standard_normal())
                    self._say(("thumbs", 0.0), arm, int(cell), now_ms, delay_h)
        for storm in self.world.storms:
            if storm.day <= found.day < storm.until:
                self._storm(storm, pilot, found.reference, now_ms)

    def _storm(self, storm: Storm, pilot: Any, reference: Any, now_ms: int) -> None:
        mine = np.array([cell.tenant == storm.tenant for cell in self.stream.cells])
        arms = [("pilot", pilot)] + ([("reference", reference)] if storm.arm == "all" else [])
        weights = np.concatenate([np.where(mine & ~self._fenced, count, 0) for _, count in arms]).astype(float)
        if weights.sum() > 0:
            cells = len(self.stream.cells)
            for at in self._random.choice(
                len(weights), self._random.poisson(storm.per_day / HOURS), p=weights / weights.sum()
            ):
                self._say(("thumbs", 0.0), arms[at // cells][0], int(at % cells), now_ms, 0.5)

    def _review(self, found: Hour, pilot: Any, attention: dict[str, tuple[float, float]], now_ms: int) -> int:
        reviews, total = self.world.reviews, 0
        for name, (share, _) in attention.items():
            for arm, count, bad, part in (
                ("pilot", pilot, found.cheap_bad, 1 - REFERENCE_SHARE),
                ("reference", found.reference, found.baseline_bad, REFERENCE_SHARE),
            ):
                cells = self._draw(name, "review-" + arm, reviews.per_day / HOURS * share * part, count)
                for cell in cells:
                    is_bad = self._random.random() < bad[cell]
                    seen = self._random.random() < (reviews.sensitivity if is_bad else 1 - reviews.specificity)
                    delay_h = 1.0 + self._random.random() * max(reviews.delay_h - 1.0, 0.0)
                    self._say(("review", 0.0 if seen else 1.0), arm, cell, now_ms, delay_h)
                total += len(cells)
        return total

    def _pair(self, found: Hour, pilot: Any, attention: dict[str, tuple[float, float]], now_ms: int) -> int:
        total = 0
        for name, (_, share) in attention.items():
            cells = self._draw(name, "pair", self.world.judge.pairs_per_day / HOURS * share, pilot)
            for cell in cells:
                verdict = self._verdict(found, cell)
                self._at(now_ms + HOUR_MS, self._hear_pair, cell, verdict, now_ms + HOUR_MS)
            total += len(cells)
        return total

    def _revalidate(self, found: Hour, now_ms: int) -> int:
        """Pairs of units that were given back: the cheap model answers in the shadow."""
        total = 0
        for name, again in list(self._again.items()):
            if again.pairs >= RELEASE_PAIRS:
                continue
            cells = self._draw(name, "again", RELEASE_PAIRS_A_DAY / HOURS, found.reference, fenced=True)
            for cell in cells:
                again.observe(self._verdict(found, cell))
            total += len(cells)
            if again.passed:
                del self._again[name]
                self._released_ms[name] = now_ms
                self.guard.release(name, now_ms)
                self._fence()
                self.story.releases.append((found.day, name))
        return total

    def _verdict(self, found: Hour, cell: int) -> float:
        judge = self._judge(found.day)
        seen = []
        for bad in (found.cheap_bad[cell], found.baseline_bad[cell]):
            is_bad = self._random.random() < bad
            seen.append(is_bad if self._random.random() < judge.accuracy else not is_bad)
        if self._random.random() < judge.bias:
            return 1.0
        return float(seen[0]) - float(seen[1])

    def _judge(self, day: float) -> JudgeChange:
        usual = JudgeChange(day=0, until=self.world.days, accuracy=self.world.judge.accuracy)
        return next((one for one in self.world.judges if one.day <= day < one.until), usual)

    def _draw(self, unit: str, what: str, expected: float, count: Any, *, fenced: bool = False) -> list[int]:
        """Cells of some requests of a unit, on average so many."""
        inside = self.stream.units.get(unit)
        if inside is None:
            return []
        owed = self._owed[unit, what] = min(self._owed.get((unit, what), 0.0) + expected, 50.0)
        if owed < 1.0:
            return []
        weights = np.where(inside & (self._fenced if fenced else ~self._fenced), count, 0).astype(float)
        total = weights.sum()
        number = min(int(owed), int(total))
        self._owed[unit, what] -= number
        if not number:
            return []
        return [int(cell) for cell in self._random.choice(len(weights), number, p=weights / total)]

    def _say(self, said: tuple[str, float], arm: str, cell: int, asked_ms: int, delay_h: float) -> None:
        at_ms = asked_ms + round(delay_h * HOUR_MS)
        self._at(at_ms, self._hear, said, arm, cell, asked_ms, at_ms)

    def _at(self, at_ms: float, act: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self._due, (at_ms, next(self._order), lambda: act(*args)))

    def _hear(self, said: tuple[str, float], arm: Any, cell: int, asked_ms: int, now_ms: int) -> None:
        one, (signal, value) = self.stream.cells[cell], said
        opinion = Opinion(signal=signal, value=value, arm=arm, place=one.place, asked_ms=asked_ms)
        self.guard.opinion(opinion, now_ms)

    def _hear_pair(self, cell: int, verdict: float, now_ms: int) -> None:
        self.guard.pair(self.stream.cells[cell].place, verdict, now_ms)

    # What it does

    def _alarm(self, finding: Finding, day: float, now_ms: int) -> None:
        if finding.severity == "watch" and now_ms < self._watched_ms.get(finding.unit, 0) + DAY_MS:
            return  # it was told today
        self.story.findings.append((day, finding))
        if finding.severity == "watch":
            self._watched_ms[finding.unit] = now_ms
        else:
            self.guard.fence(finding.unit, now_ms)
            if not relapsed(self._released_ms.get(finding.unit), now_ms):
                self._again[finding.unit] = Revalidation(self.world.margin, self.settings.judge_power)
            self._fence()

    def _look_at_baseline(self, day: float, now_ms: int) -> None:
        """It moves nothing; what goes on is noted once."""
        if not isinstance(self.guard, Guard) or (worse := self.guard.baseline.worse(now_ms)) is None:
            return
        if now_ms > self._baseline_ms + QUIET_MS:
            self.story.baseline.append((day, worse.unit))
        self._baseline_ms = now_ms

    def _fence(self) -> None:
        self._fenced = np.array([self.guard.fence_of(cell.place) is not None for cell in self.stream.cells])
