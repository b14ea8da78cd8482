"""The guard of one pool: which unit is worse under the pilot than beside it, and where to look more closely.

Units are the pool's strata and the slices of ``slices``. Each has a running test; strata together have ``STRATA_SHARE`` of the false
alarms that the pool is allowed, one in ``arl_days`` on average, slices the rest. The pilot is compared with the reference *as assigned*:
whole cohorts, whatever model answered in the end.

- A unit alarms when its test says so. A judge may be wrong: where people review, too, its word needs their support, or more evidence, and is then
  a ``watch``, not a ``page``; as is what reviews since the change began contradict, by saying that the pilot is well within half the margin.
- A ``watch`` hides no ``page`` of another stratum, however much evidence it has.
- Of units that overlap, the one with most evidence is named, a stratum rather than a slice: a bad stratum shows in every slice that it is part of.
  ``slice/all`` is everything: where a provider swaps the model behind a name, no stratum is the culprit.
- A unit that was given back to the baseline (``fence``) is out of all tests, and those of overlapping units begin anew.
- A name under which a model's provider answers for the first time starts a further test in every unit (``versions``).
- The baseline itself is held against its own past (``baseline``), apart from all this.
- ``attention`` says where reviews and shadow pairs are worth most: most of them go where a test is under way. Betting is fair whatever
  was decided from the past, so looking more closely costs no false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from router.core.guard import cause
from router.core.guard.baseline import Baseline
from router.core.guard.detector import DAY_MS
from router.core.guard.effect import Effect, effect
from router.core.guard.grid import HAPPENED, TESTS, Grid
from router.core.guard.pairs import taste
from router.core.guard.slices import ALL, PREFIX, Slicer
from router.core.guard.unit import Arm, Unit
from router.core.guard.versions import News, Versions, height

STRATA_SHARE: Final = 0.75
#: Share of the strata's part that is kept for strata that are not known at first.
_NEWCOMERS: Final = 0.1
MOST_STRATA, MOST_SLICES = 64, 64
#: A slice is named rather than a stratum if it has so much more evidence; when one alarms, strata that nearly do are asked, too.
_HANDICAP, _NEARLY = 3.0, 6.0
#: Of reviews and pairs this share goes to the units whose tests are under way, the rest evenly to all strata.
FOCUS_SHARE: Final = 0.8
#: Evidence at which shadow pairs are bought faster, and how much faster at most.
_HOT_AT, MOST_BURST = 3.5, 8.0
#: Reviews of each arm that may contradict, and standard errors by which they must.
_CONTRADICTS_FROM, _CONTRADICTS_BY = 40, 1.64
#: A judge's word needs support of what people say, so many nats of it (three times as many for a slice), once there are so many reviews of the reference; without it the alarm
#: waits for more evidence, and is a ``watch``.
_OF_JUDGE: Final = frozenset({"judge", "quality", "answers"})
_OF_PEOPLE: Final = frozenset({"review", "thumbs", "past", "survey"})
_SUPPORT, _ALONE, _REVIEWED_FROM = 1.0, 3.0, 60.0
_DOUBTED: Final = frozenset({"judge", "thumbs", "quality", "answers", "past"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``margin`` 0..1: how much worse an answer may be; ``arl_days``: mean days between false alarms of the whole pool."""

    margin: float = 0.10
    arl_days: float = 200.0
    judge_power: float = 0.7

    @property
    def height(self) -> float:
        """M, in days, at which a unit alarms that has the whole pool's share."""
        return height(self.arl_days)


def usual_threshold(settings: Settings, strata: int) -> float:
    """Logarithm of M at which each of so many strata alarms that are known from the start."""
    return math.log(settings.height * max(1, strata) / (STRATA_SHARE * (1.0 - _NEWCOMERS)))


class Place(NamedTuple):
    """Where a request belongs: its stratum, its slices, and whose it is."""

    stratum: str
    slices: tuple[str, ...] = ()
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What somebody or something says of one answer. ``value`` as in feedback 0..1; ``asked_ms``: time of the request.

    ``model``: whose answer it is, if it was the one that was chosen first; ``propensity`` of that choice.
    """

    signal: str
    value: float
    arm: Arm
    place: Place
    asked_ms: int
    session: str | None = None
    model: str | None = None
    propensity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A unit whose test alarms. ``evidence``, ``threshold``: natural logarithms; ``since_ms``: when it probably began."""

    unit: str
    signal: str
    severity: Literal["page", "watch"]
    evidence: float
    threshold: float
    since_ms: int
    at_ms: int
    effect: Effect

    @property
    def is_slice(self) -> bool:
        return self.unit.startswith(PREFIX)


class Guard:
    """See the module's text. ``strata``: those known from the start; without any, those that are seen within a day are."""

    def __init__(self, settings: Settings, strata: Iterable[str], now_ms: int) -> None:
        self.settings = settings
        self.grid = Grid.of(settings.margin)
        self.units: dict[str, Unit] = {name: Unit(name, self.grid, now_ms) for name in sorted(strata)}
        self.slicer = Slicer()
        self.versions = Versions(settings.arl_days, now_ms)
        self.baseline = Baseline(settings.margin, settings.arl_days)
        self.fenced: dict[str, int] = {}
        self._started_ms = now_ms
        self._first = frozenset(self.units)

    # What comes in

    def slices_of(self, features: Mapping[str, Any], tenant: str | None) -> tuple[str, ...]:
        """The slices of a request, to be given back with all that is said of it."""
        return self.slicer.of(features, tenant)

    def requests(self, place: Place, arm: Arm, count: int, at_ms: int) -> None:
        """So many requests of one hour."""
        for unit in self._units_of(place, at_ms):
            unit.requests(arm, count, at_ms, place.tenant)

    def saved(self, place: Place, nano_usd: float, at_ms: int) -> None:
        """What the pilot's answers cost less than the baseline's would have; for the money at stake, no test looks at it."""
        for unit in self._units_of(place, at_ms):
            unit.note("saved", nano_usd, at_ms)

    def opinion(self, opinion: Opinion, now_ms: int) -> None:
        """See ``Opinion``; a signal that is not known is ignored."""
        test = TESTS.get(opinion.signal)
        if test not in ("means", "events"):
            return
        bad = opinion.value if opinion.signal in HAPPENED else 1.0 - opinion.value
        if opinion.arm == "reference":
            self.baseline.judgement(opinion.signal, opinion.place.stratum, bad, now_ms)
        for unit in self._units_of(opinion.place, now_ms):
            if not unit.one_of_session(opinion.session, now_ms):
                continue
            if test == "means":
                unit.judgement(opinion.signal, opinion.arm, bad, now_ms)
                if opinion.model is not None and opinion.arm == "pilot" and opinion.signal in cause.SIGNALS:
                    unit.causes.add(opinion.model, opinion.propensity, bad, now_ms)
            else:
                unit.event(opinion.signal, opinion.arm, opinion.asked_ms, now_ms, bad=bad, tenant=opinion.place.tenant)

    def happened(self, signal: str, arm: Arm, place: Place, now_ms: int) -> None:
        """An answer was ``refused``, ``truncated`` or ``escalated``."""
        for unit in self._units_of(place, now_ms):
            unit.event(signal, arm, now_ms, now_ms)

    def pair(self, place: Place, verdict: float, now_ms: int) -> None:
        """The pilot's answer beside the reference's to the same request: -1..1, 1: worse."""
        for unit in self._units_of(place, now_ms):
            unit.pair(verdict, now_ms)

    def served(self, model: str, name: str, at_ms: int) -> None:
        """A model has answered under the name that its provider gives; a new one starts a further test in every unit."""
        self.versions.heard(model, name, at_ms)

    # What comes of it

    def news(self) -> Sequence[News]:
        """The names of models that were new since this was asked last."""
        return self.versions.tell()

    def step(self, now_ms: int) -> list[Finding]:
        """Bring all tests up to date; what alarms, the unit to be named first. Call it about every hour, or every minute."""
        if not self._first and now_ms >= self._started_ms + DAY_MS:
            self._first = frozenset(name for name in self.units if not name.startswith(PREFIX))
        self.baseline.step(now_ms)
        bias = self.judge_bias
        for unit in self.units.values():
            unit.step(now_ms, judge_power=self.settings.judge_power, judge_bias=bias)
        watched = [(name, unit) for name, unit in self.units.items() if name not in self.fenced]
        if days := self.versions.take():
            for _, unit in watched:
                unit.detector.begin(days)
        due = {name for name, unit in watched if unit.evidence >= self.threshold(name) + self._doubt(unit)}
        if any(name.startswith(PREFIX) for name in due):
            due |= {name for name, unit in watched if unit.evidence >= self.threshold(name) - _NEARLY}
        ranked = sorted(due, key=lambda name: _HANDICAP * name.startswith(PREFIX) - self.units[name].evidence)
        return _pages_first([self._finding(self.units[name], now_ms, bias) for name in ranked])

    def _doubt(self, unit: Unit) -> float:
        """What is asked beyond the threshold: of a judge's word alone, where people review, too, and have not found the same."""
        group, _ = unit.leading
        if group not in _OF_JUDGE or unit.judged.get("review", [0.0])[0] < _REVIEWED_FROM:
            return 0.0
        wanted = _SUPPORT * (3.0 if unit.name.startswith(PREFIX) else 1.0)
        return 0.0 if unit.supported(_OF_PEOPLE) >= wanted else _ALONE

    @property
    def judge_bias(self) -> float:
        """What the judge says of the pilot in most strata alike."""
        return taste([unit.mean_verdict() for name, unit in self.units.items() if not name.startswith(PREFIX)])

    def threshold(self, name: str) -> float:
        """Logarithm of M at which a unit alarms."""
        return math.log(self.settings.height / self._share(name))

    def fence(self, name: str, now_ms: int) -> None:
        """It is back on the baseline: it is out of all tests, and what overlaps with it begins anew."""
        self.fenced[name] = now_ms
        is_slice = name.startswith(PREFIX)
        for other, unit in self.units.items():
            if other == name or is_slice or other.startswith(PREFIX):
                unit.restart(now_ms)

    def release(self, name: str, now_ms: int) -> None:
        """It is the pilot's again."""
        if self.fenced.pop(name, None) is not None and name in self.units:
            self.units[name].restart(now_ms)

    def fence_of(self, place: Place) -> str | None:
        """The unit of a request that is back on the baseline, if one is."""
        if not self.fenced:
            return None
        return next((name for name in (place.stratum, *place.slices, ALL) if name in self.fenced), None)

    def attention(self) -> dict[str, tuple[float, float]]:
        """Of each unit that is worth it: its share of the reviews, and of a usual day's shadow pairs (sum above 1 while a test is hot)."""
        watched = {
            name: unit.evidence - self.threshold(name) for name, unit in self.units.items() if name not in self.fenced
        }
        strata = [name for name in watched if not name.startswith(PREFIX)]
        if not strata:
            return {}
        most = max(watched.values())
        leaders = {name: math.exp(value - most) for name, value in watched.items() if value > most - 5.0}
        total = sum(leaders.values())
        nearness = most + self._usual_threshold
        burst = 1.0 + (MOST_BURST - 1.0) / (1.0 + math.exp(min(50.0, _HOT_AT - nearness)))
        found = {}
        for name in watched:
            even = (1.0 - FOCUS_SHARE) / len(strata) if name in strata else 0.0
            share = even + FOCUS_SHARE * leaders.get(name, 0.0) / total
            if share > 0.0:
                found[name] = (share, share * burst)
        return found

    # Inside

    @property
    def _usual_threshold(self) -> float:
        return usual_threshold(self.settings, len(self._first))

    def _share(self, name: str) -> float:
        """Of the pool's false alarms; all shares sum to less than 1."""
        if name.startswith(PREFIX):
            return (1.0 - STRATA_SHARE) / MOST_SLICES
        if name in self._first:
            return STRATA_SHARE * (1.0 - _NEWCOMERS) / len(self._first)
        return STRATA_SHARE * _NEWCOMERS / MOST_STRATA

    def _units_of(self, place: Place, now_ms: int) -> list[Unit]:
        """The units that hear of a request; none if it is in one that is back on the baseline."""
        if self.fence_of(place) is not None:
            return []
        found = []
        for name in (place.stratum, *place.slices, *(() if place.stratum.startswith(PREFIX) else (ALL,))):
            unit = self.units.get(name)
            if unit is None:
                most = MOST_SLICES if name.startswith(PREFIX) else MOST_STRATA
                same = sum(one.startswith(PREFIX) == name.startswith(PREFIX) for one in self.units)
                if same >= most:
                    continue
                unit = self.units[name] = Unit(name, self.grid, now_ms)
            found.append(unit)
        return found

    def _finding(self, unit: Unit, now_ms: int, bias: float) -> Finding:
        group, since_ms = unit.leading
        power = self.settings.judge_power
        found = effect(unit, group, since_ms, power, bias)
        contradicted = group in _DOUBTED and self._contradicted(unit, since_ms)
        return Finding(
            unit=unit.name,
            signal=group,
            severity="watch" if contradicted or self._doubt(unit) > 0.0 else "page",
            evidence=unit.evidence,
            threshold=self.threshold(unit.name),
            since_ms=since_ms,
            at_ms=now_ms,
            effect=found,
        )

    def _contradicted(self, unit: Unit, since_ms: int) -> bool:
        """Whether reviews since then say that the pilot is well within half the margin."""
        reference, pilot = unit.since("review", since_ms)
        if min(reference.n, pilot.n) < _CONTRADICTS_FROM:
            return False
        p1, p0 = pilot.bad / pilot.n, reference.bad / reference.n
        error = math.sqrt(max(p1 * (1 - p1), 0.02) / pilot.n + max(p0 * (1 - p0), 0.02) / reference.n)
        return p1 - p0 + _CONTRADICTS_BY * error < self.settings.margin / 2

    def dump(self) -> dict[str, Any]:
        """JSON values, exactly."""
        return {
            "started_ms": self._started_ms,
            "first": sorted(self._first),
            "fenced": self.fenced,
            "slicer": self.slicer.dump(),
            "versions": self.versions.dump(),
            "baseline": self.baseline.dump(),
            "units": {name: unit.dump() for name, unit in self.units.items()},
        }

    @classmethod
    def load(cls, settings: Settings, found: Mapping[str, Any]) -> Guard:
        """The inverse of ``dump``."""
        guard = cls(settings, (), found["started_ms"])
        guard._first, guard.fenced = frozenset(found["first"]), dict(found["fenced"])
        guard.slicer = Slicer.load(found["slicer"])
        guard.versions.load(found["versions"])
        guard.baseline.load(found.get("baseline", {}))
        guard.units = {name: Unit.load(name, guard.grid, one) for name, one in found["units"].items()}
        return guard


def _pages_first(found: list[Finding]) -> list[Finding]:
    """Where the first is a watch: the first page before it. But no slice before a stratum, for a bad stratum shows in its slices, too."""
    if not found or found[0].severity == "page":
        return found
    for at, one in enumerate(found):
        if one.severity == "page" and one.evidence >= one.threshold and one.is_slice <= found[0].is_slice:
            return [one, *found[:at], *found[at + 1 :]]
    return found
