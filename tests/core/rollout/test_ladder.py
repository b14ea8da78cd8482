"""core/rollout/ladder: a stratum climbs when it may, waits, falls, and obeys people."""

from __future__ import annotations

import orjson
import pytest

from router.core.guard.detector import DAY_MS
from router.core.rollout.gates import Goals
from router.core.rollout.ladder import OUT, Climb, Ladder, Plan, Word

GOALS = Goals(margin=0.1, min_saving=None, latency_ratio=None, error_increase=None)
PLAN = Plan(stages=(5.0, 25.0, 100.0), goals=GOALS, least_ms=DAY_MS, deadline_ms=30 * DAY_MS)
PERSON = Word("person", "pin pool:auto by ann: a test")
PAGED = Word("guard", "the guard has paged (alert 12345678)")


def ladder(good: bool = True) -> Ladder:
    found = Ladder(PLAN, 0)
    tell(found, good)
    return found


def tell(found: Ladder, good: bool, now_ms: int = 0, n: int = 400) -> None:
    climb = found.climb("math/hard", now_ms)
    assert climb is not None
    climb.evidence.reviewed("pilot", n, n * (0.95 if good else 0.5))
    climb.evidence.reviewed("reference", n, n * 0.95)


def test_it_climbs_stage_by_stage_each_for_the_least_time() -> None:
    one = ladder()
    assert one.decide({}, DAY_MS - 1) == []
    (step,) = one.decide({}, DAY_MS)
    assert (step.kind, step.before, step.after) == ("advance", 5.0, 25.0)
    assert one.decide({}, 2 * DAY_MS - 1) == []
    (step,) = one.decide({}, 2 * DAY_MS)
    assert (step.kind, step.before, step.after) == ("done", 25.0, 100.0)
    assert step.gates[0].n == 800, "what the first stage showed counts in the second"
    assert one.decide({}, 90 * DAY_MS) == []


def test_it_waits_for_what_is_not_shown_and_says_so_once_a_week() -> None:
    one = Ladder(PLAN, 0)
    one.climb("math/hard", 0)
    told = [step for day in range(1, 16) for step in one.decide({}, day * DAY_MS)]
    assert [step.kind for step in told] == ["hold", "hold", "hold"]
    assert told[0].why == "not shown yet: quality"
    assert one.percent("math/hard") == 5.0


def test_nothing_climbs_after_the_deadline_or_while_something_else_is_wrong() -> None:
    one = ladder()
    assert [step.why for step in one.decide({}, DAY_MS, "the guard has paged about slice/x")] == [
        "the guard has paged about slice/x"
    ]
    (step,) = one.decide({}, 30 * DAY_MS)
    assert (step.kind, step.why) == ("hold", "the deadline has passed")


def test_a_gate_that_fails_gives_everything_back_until_a_person_says_otherwise() -> None:
    one = ladder(good=False)
    (step,) = one.decide({}, 1000)
    assert (step.kind, step.after, step.why) == ("rollback", 0.0, "failed: quality")
    assert one.decide({}, 20 * DAY_MS) == []
    assert one.percent("math/hard") == 0.0
    again = one.again("math/hard", 21 * DAY_MS, "released by ann: mended")
    assert again is not None
    assert (again.kind, again.before, again.after) == ("resume", 0.0, 5.0)
    assert one.strata["math/hard"] == Climb(0, 21 * DAY_MS), "with new evidence"
    assert one.again("math/hard", 22 * DAY_MS, "again") is None


def test_the_guard_gives_it_back_and_it_starts_anew_when_that_is_over() -> None:
    one = ladder()
    one.decide({}, DAY_MS)
    (step,) = one.decide({"math/hard": PAGED}, DAY_MS + 1)
    assert (step.kind, step.before, step.after, step.why) == ("rollback", 25.0, 0.0, PAGED.why)
    assert one.strata["math/hard"].step == OUT
    assert one.decide({"math/hard": PAGED._replace(why="told again")}, 2 * DAY_MS) == []
    (step,) = one.decide({}, 3 * DAY_MS)
    assert (step.kind, step.after) == ("resume", 5.0)


@pytest.mark.parametrize(("percent", "after"), [(None, 25.0), (0.0, 5.0), (30.0, 25.0), (100.0, 100.0)])
def test_a_person_rules_and_it_goes_on_from_the_share_that_was_ordered(percent: float | None, after: float) -> None:
    one = ladder()
    one.decide({}, DAY_MS)
    assert one.percent("math/hard") == 25.0
    (step,) = one.decide({"math/hard": PERSON._replace(percent=percent)}, DAY_MS)
    assert (step.kind, step.why) == ("overruled", PERSON.why)
    assert one.decide({"math/hard": PERSON._replace(percent=percent)}, 9 * DAY_MS) == []
    (step,) = one.decide({}, 10 * DAY_MS)
    assert (step.kind, step.after) == ("resume", after)
    assert one.decide({}, 10 * DAY_MS + 1) == [], "what was seen before does not count"


def test_there_is_a_most_of_strata_and_the_rest_stays_at_the_first_stage() -> None:
    one = Ladder(PLAN, 0)
    assert sum(one.climb(f"x{number}/hard", 0) is not None for number in range(100)) == 64
    assert one.percent("x99/hard") == 5.0


def test_a_climb_is_stored_exactly() -> None:
    one = ladder()
    one.decide({}, DAY_MS)
    one.decide({"math/hard": PERSON}, DAY_MS + 1)
    climb = one.strata["math/hard"]
    assert Climb.load(orjson.loads(orjson.dumps(climb.dump()))) == climb
