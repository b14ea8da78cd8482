"""How far each stratum of a pool has come: it climbs the stages by itself, waits where something is not shown, and falls to the baseline on an alarm.

| situation of a stratum | what happens |
|---|---|
| all gates clear, the stage has lasted ``least_ms`` | the next stage (``advance``) |
| something is not shown yet | it stays (``hold``, told once a week) |
| the rollout's deadline has passed | it stays (``hold``): the time was part of what was declared |
| a gate fails, or the guard has paged | 0 % (``rollback``): what failed a gate stays there until a person releases the order, an alarm until it is over |
| a person has given an order about it | nothing; when that is taken back it goes on from the share that was ordered, or from where it was |

Evidence of traffic counts within one stage only: the shares of the two arms are the same there. Quality is carried from stage to stage, as a difference.
Strata that nobody knew at the beginning start at the first stage whenever they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from router.core.guard.detector import DAY_MS
from router.core.rollout.gates import Estimate, Evidence, Gate, Goals, gates

Kind = Literal["start", "advance", "hold", "rollback", "overruled", "resume", "done"]

MOST_STRATA: Final = 64
#: Between two words about the same stratum that waits.
TELL_EVERY_MS: Final = 7 * DAY_MS
#: Not on the stages: all of it is the baseline's.
OUT: Final = -1


class Word(NamedTuple):
    """What others say of a stratum: a person's order, or the guard's alarm. ``percent``: the share that the order leaves the pilot, if it says."""

    who: Literal["person", "guard"]
    why: str
    percent: float | None = None


class Step(NamedTuple):
    """Something that was decided of a stratum, to be written down. Percentages of what the holdout leaves."""

    kind: Kind
    stratum: str
    before: float
    after: float
    why: str
    gates: list[Gate]


class Declared(Protocol):
    """A rollout as it is configured: days, shares, percentages."""

    @property
    def stages(self) -> tuple[float, ...]: ...
    @property
    def min_days(self) -> float: ...
    @property
    def deadline_days(self) -> float: ...
    @property
    def quality_margin(self) -> float | None: ...
    @property
    def min_saving(self) -> float | None: ...
    @property
    def latency_ratio(self) -> float | None: ...
    @property
    def error_increase(self) -> float | None: ...
    @property
    def alpha(self) -> float: ...
    @property
    def n_min(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Declared beforehand. ``stages``: ascending percentages, the last 100."""

    stages: tuple[float, ...]
    goals: Goals
    least_ms: int
    deadline_ms: int

    @classmethod
    def of(cls, declared: Declared, margin: float, judge_power: float = 0.7) -> Plan:
        """As configured; of the pool: ``margin``, where the rollout has none of its own, and how much its judge shows of a difference."""
        return cls(
            stages=tuple(float(stage) for stage in declared.stages),
            goals=Goals(
                margin=float(margin if declared.quality_margin is None else declared.quality_margin),
                min_saving=declared.min_saving,
                latency_ratio=declared.latency_ratio,
                error_increase=declared.error_increase,
                alpha=float(declared.alpha),
                least=declared.n_min,
                judge_power=judge_power,
            ),
            least_ms=round(declared.min_days * DAY_MS),
            deadline_ms=round(declared.deadline_days * DAY_MS),
        )


@dataclass(slots=True)
class Climb:
    """One stratum. ``word``: what holds it, if somebody does; ``failed``: it failed a gate, and only a person lets it climb again."""

    step: int
    since_ms: int
    evidence: Evidence = field(default_factory=Evidence)
    before: Estimate | None = None
    word: Word | None = None
    failed: bool = False
    told_ms: int = -TELL_EVERY_MS

    def dump(self) -> list[Any]:
        """JSON values, exactly."""
        before = None if self.before is None else [*self.before]
        word = None if self.word is None else [*self.word]
        return [self.step, self.since_ms, self.evidence.dump(), before, word, self.failed, self.told_ms]

    @classmethod
    def load(cls, found: list[Any]) -> Climb:
        """The inverse of ``dump``."""
        step, since_ms, evidence, before, word, failed, told_ms = found
        before = None if before is None else Estimate(*before)
        word = None if word is None else Word(*word)
        return cls(step, since_ms, Evidence.load(evidence), before, word, failed, told_ms)


class Ladder:
    """All strata of one pool. ``started_ms``: when the rollout began."""

    def __init__(self, plan: Plan, started_ms: int, strata: Mapping[str, Climb] | None = None) -> None:
        self.plan = plan
        self.started_ms = started_ms
        self.strata: dict[str, Climb] = dict(strata or {})

    def percent(self, stratum: str) -> float:
        """Share of what the holdout leaves that is the pilot's, by the ladder itself."""
        climb = self.strata.get(stratum)
        return self._percent(0 if climb is None else climb.step)

    def climb(self, stratum: str, now_ms: int) -> Climb | None:
        """To tell evidence to; ``None``: there are too many strata, so this one stays at the first stage."""
        found = self.strata.get(stratum)
        if found is None and len(self.strata) < MOST_STRATA:
            found = self.strata[stratum] = Climb(0, now_ms)
        return found

    def hears(self, climb: Climb) -> bool:
        """Whether evidence about a stratum counts: nobody holds it, and there is something left to show."""
        return climb.word is None and not climb.failed and not self.ended(climb)

    def ended(self, climb: Climb) -> bool:
        """Whether a stratum is at the last stage, where there is nothing more to show: the guard watches it."""
        return climb.step == len(self.plan.stages) - 1

    def gates(self, stratum: str) -> list[Gate]:
        """How the stratum stands."""
        climb = self.strata[stratum]
        return gates(climb.evidence, self.plan.goals, climb.before, traffic=self.percent(stratum) > 0)

    def decide(self, words: Mapping[str, Word], now_ms: int, waits: str | None = None) -> list[Step]:
        """Every stratum once. ``words``: what others say of strata now; ``waits``: why none may go on, whatever it has shown."""
        found = [
            self._decide(name, climb, words.get(name), now_ms, waits) for name, climb in sorted(self.strata.items())
        ]
        return [step for step in found if step is not None]

    def has_news(self, words: Mapping[str, Word]) -> bool:
        """Whether somebody has begun, or ceased, to hold a stratum: cheap, unlike ``decide``."""
        return any(_differ(words.get(name), climb.word) for name, climb in self.strata.items())

    def again(self, stratum: str, now_ms: int, why: str) -> Step | None:
        """A person lets a stratum climb again from the first stage; ``None`` if it is there."""
        climb = self.strata.get(stratum)
        if climb is None or (climb.step == 0 and not climb.failed):
            return None
        before, found = self.percent(stratum), self.gates(stratum)
        self._move(stratum, 0, now_ms)
        return Step("resume", stratum, before, self.percent(stratum), why, found)

    def _decide(self, name: str, climb: Climb, word: Word | None, now_ms: int, waits: str | None) -> Step | None:
        if _differ(word, climb.word):
            return self._heed(name, climb, word, now_ms)
        if word is not None or climb.failed or self.ended(climb):
            return None
        found, percent = self.gates(name), self.percent(name)
        if failed := [gate.metric for gate in found if gate.state == "failed"]:
            self._move(name, OUT, now_ms).failed = True
            return Step("rollback", name, percent, 0.0, f"failed: {', '.join(failed)}", found)
        lacks = self._lacks(found, now_ms, waits)
        if now_ms < climb.since_ms + self.plan.least_ms or (lacks and now_ms < climb.told_ms + TELL_EVERY_MS):
            return None
        if lacks is not None:
            climb.told_ms = now_ms
            return Step("hold", name, percent, percent, lacks, found)
        before = climb.evidence.quality(self.plan.goals, climb.before)
        self._move(name, climb.step + 1, now_ms).before = before
        after = self.percent(name)
        return Step(
            "done" if self.ended(self.strata[name]) else "advance",
            name,
            percent,
            after,
            "every metric is within its bound",
            found,
        )

    def _lacks(self, found: list[Gate], now_ms: int, waits: str | None) -> str | None:
        """Why a stratum stays where it is."""
        if waits is not None:
            return waits
        if now_ms >= self.started_ms + self.plan.deadline_ms:
            return "the deadline has passed"
        open_ = [gate.metric for gate in found if gate.state != "clear"]
        return f"not shown yet: {', '.join(open_)}" if open_ else None

    def _heed(self, name: str, climb: Climb, word: Word | None, now_ms: int) -> Step | None:
        """Somebody has begun, or ceased, to hold a stratum."""
        percent, was, found = self.percent(name), climb.word, self.gates(name)
        if word is None:
            assert was is not None
            step = 0 if was.who == "guard" else max(0, climb.step) if was.percent is None else self._below(was.percent)
            fresh = self._move(name, OUT if climb.failed else step, now_ms)
            fresh.failed = climb.failed
            return Step("resume", name, percent, self.percent(name), f"over: {was.why}", found)
        if word.who == "guard":
            self._move(name, OUT, now_ms).word = word
            return Step("rollback", name, percent, 0.0, word.why, found)
        fresh = self._move(name, climb.step, now_ms)
        fresh.word, fresh.failed = word, climb.failed
        return Step("overruled", name, percent, percent if word.percent is None else word.percent, word.why, found)

    def _move(self, name: str, step: int, now_ms: int) -> Climb:
        self.strata[name] = Climb(step, now_ms)
        return self.strata[name]

    def _below(self, percent: float) -> int:
        """The highest stage that is not above what a person had ordered, else the first."""
        return max((at for at, stage in enumerate(self.plan.stages) if stage <= percent), default=0)

    def _percent(self, step: int) -> float:
        return 0.0 if step == OUT else self.plan.stages[step]


def _differ(one: Word | None, other: Word | None) -> bool:
    """Whether somebody else holds a stratum, or at another share; the words may change."""
    return (one and (one.who, one.percent)) != (other and (other.who, other.percent))
