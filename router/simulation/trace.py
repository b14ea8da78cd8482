"""A recorded stream played through the guard.

The guard gets what an installation would know: never ``quality`` nor ``reference_quality``, and feedback only at its ``at_s``. An event belongs to the arm of
its cohort (``pilot``; ``holdout``, ``control`` and shadow answers of the reference model are the reference); where cohorts are absent the dearest model is
the reference. An answer and its shadow that were judged in the same way are a pair. After a unit was given back, its events on other
models than the reference are dropped from the signals.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Guard, Opinion, Place, Settings
from router.core.guard.unit import HOUR_MS, Arm
from router.simulation.course import Course
from router.simulation.habits import Habits
from router.simulation.ledger import Ledger
from router.simulation.recorded import Outline, arm_of, features_of, is_number, is_shadow, stratum_of, time_ms

#: Kinds by which two answers to one request can be compared.
_JUDGED: Final = frozenset({"label", "review", "rating", "survey"})
#: Answers of which something may still be said; the oldest are forgotten.
_ANSWERS_KEPT: Final = 200_000
_FAILED: Final = frozenset({"refused", "truncated"})
#: Nothing happened for so many hours: they are skipped.
_IDLE_HOURS: Final = 24


@dataclass(slots=True)
class _Answer:
    """Something may be said of it. ``partner``: the name of its pair's other answer; ``said`` in comparison to it (``paired``: and it of this), ``alone`` otherwise."""

    arm: Arm
    place: Place
    session: str | None
    asked_ms: int
    partner: str
    said: dict[str, float] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    paired: set[str] = field(default_factory=set)


class Replay:
    """One pass over a stream whose outline is known. ``settings``: the guard's."""

    def __init__(self, known: Outline, settings: Settings) -> None:
        self.known, self.settings = known, settings
        self.ledger = Ledger(known.truth, settings.margin)
        self.habits = Habits()
        self._guard: Guard | None = None
        self.course = Course(settings.margin, 0)
        self._counts: Counter[tuple[Place, Arm]] = Counter()
        self._answers: dict[str, _Answer] = {}
        self._due: list[tuple[float, int, str, str, float]] = []
        self._order = itertools.count()
        self._watched_ms: dict[str, int] = {}
        self._hour = self._now_ms = 0

    def play(self, found: Iterable[dict[str, Any]], tell: Callable[[float], None] | None = None) -> Ledger:
        """All events in the order given; time never goes back. ``tell`` gets the seconds that were reached."""
        for event in found:
            if "t_s" not in event:
                continue
            now_ms = time_ms(event["t_s"], self._now_ms)
            if self._guard is None:
                self._guard = Guard(self.settings, self.known.strata, now_ms)
                self._hour = now_ms // HOUR_MS
                self.ledger.begin(now_ms)
                self.course = Course(self.settings.margin, now_ms)
            self._now_ms = now_ms
            self._pass_to(self._guard, now_ms)
            self._take(self._guard, event, now_ms)
            if tell is not None:
                tell(now_ms / 1000)
        if self._guard is not None:
            self._pass_to(self._guard, self._now_ms + HOUR_MS)
            self.ledger.end(self._now_ms)
            self.ledger.drift = self.habits.found
        return self.ledger

    def _pass_to(self, guard: Guard, now_ms: int) -> None:
        """The hours that have ended: their counts, the feedback that came, the guard's judgement."""
        while self._hour < now_ms // HOUR_MS:
            self._hour += 1
            ends_ms = self._hour * HOUR_MS
            for (place, arm), count in self._counts.items():
                guard.requests(place, arm, count, ends_ms - 1)
            self._counts.clear()
            while self._due and self._due[0][0] <= ends_ms:
                _, _, name, kind, value = heapq.heappop(self._due)
                self._hear(guard, name, kind, value, ends_ms)
            for finding in guard.step(ends_ms)[:1]:
                if finding.severity == "page":
                    guard.fence(finding.unit, ends_ms)
                elif ends_ms < self._watched_ms.get(finding.unit, 0) + DAY_MS:
                    continue  # it was told today
                self._watched_ms[finding.unit] = ends_ms
                self.ledger.found(finding)
            self.course.look(guard.fenced, ends_ms)
            if (worse := guard.baseline.worse(ends_ms)) is not None:
                self.ledger.baseline_is_worse(worse.unit, ends_ms)
            next_ms = min(now_ms, round(self._due[0][0])) if self._due else now_ms
            if next_ms // HOUR_MS - self._hour > _IDLE_HOURS:
                self._hour = next_ms // HOUR_MS - 1

    def _take(self, guard: Guard, event: dict[str, Any], now_ms: int) -> None:
        arm, stratum, shadow = arm_of(event, self.known.reference), stratum_of(event), is_shadow(event)
        tenant, session = _text(event.get("tenant")), _text(event.get("session"))
        place = Place(stratum, guard.slices_of(features_of(event), tenant), tenant)
        fence = guard.fence_of(place) if arm == "pilot" else None
        self.ledger.add(event, arm, place, fence, now_ms)
        if fence is not None or arm is None:
            return
        if not shadow:
            if arm == "pilot":
                self.habits.note(event, stratum, now_ms)
            self._counts[place, arm] += 1
            status, cost = _text(event.get("status")), event.get("cost_nano_usd")
            self.course.served(stratum, arm, event.get("status"), cost if is_number(cost) else None, now_ms)
            if status in _FAILED:
                guard.happened(status, arm, place, now_ms)
            model, served = _text(event.get("model")), _text(event.get("served_model"))
            if model and served:
                guard.served(model, served, now_ms)
        feedback = event.get("feedback")
        said = [one for one in feedback if _is_opinion(one)] if isinstance(feedback, list) else []
        if not said:
            return
        name, partner = str(event["request_id"]), f"shadow of {event['request_id']}"
        if shadow:
            name, partner = f"shadow of {event.get('shadow_of')}", str(event.get("shadow_of"))
        self._answers[name] = _Answer(arm, place, session, now_ms, partner)
        if len(self._answers) > _ANSWERS_KEPT:
            del self._answers[next(iter(self._answers))]
        for one in said:
            at_ms = time_ms(one.get("at_s"), now_ms)
            heapq.heappush(self._due, (at_ms, next(self._order), name, one["kind"], float(one["value"])))

    def _hear(self, guard: Guard, name: str, kind: str, value: float, now_ms: int) -> None:
        answer = self._answers.get(name)
        if answer is None or (answer.arm == "pilot" and guard.fence_of(answer.place) is not None):
            return
        if kind in answer.paired:
            return  # said already
        if kind in _JUDGED and self._is_pair(guard, answer, kind, value, now_ms):
            return
        opinion = Opinion(
            signal=kind,
            value=value,
            arm=answer.arm,
            place=answer.place,
            session=answer.session,
            asked_ms=answer.asked_ms,
        )
        guard.opinion(opinion, now_ms)
        if kind == "review":
            self.course.reviewed(answer.place.stratum, answer.arm, value, now_ms)
        answer.alone.add(kind)

    def _is_pair(self, guard: Guard, answer: _Answer, kind: str, value: float, now_ms: int) -> bool:
        """Whether the answer has a partner: what is said of both is one verdict, and counts in no other way."""
        other = self._answers.get(answer.partner)
        if other is None or other.arm == answer.arm:
            return False
        if kind in other.alone:
            return False  # of the partner it was heard before anybody knew that there are two
        answer.said[kind] = value
        if kind in other.said:
            pilot, reference = (answer, other) if answer.arm == "pilot" else (other, answer)
            verdict = reference.said[kind] - pilot.said[kind]
            guard.pair(pilot.place, verdict, now_ms)
            self.course.pair(pilot.place.stratum, verdict, now_ms)
            answer.paired.add(kind)
            other.paired.add(kind)
        return True


def _is_opinion(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        return False
    return is_number(found.get("value")) and 0 <= found["value"] <= 1


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
