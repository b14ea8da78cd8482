"""A unit learns from both arms, bounds what one tenant or conversation can say, and continues exactly after a restart."""

from __future__ import annotations

import math

import orjson
import pytest

from router.core.guard.detector import DAY_MS
from router.core.guard.grid import TESTS, Grid
from router.core.guard.unit import BLOCK_WAITS_MS, DAYS_KEPT, HOUR_MS, HOURS_KEPT, Unit

GRID = Grid.of(0.1)


def unit():
    return Unit("math/hard", GRID, 0)


def step(one, now_ms):
    one.step(now_ms, judge_power=0.7, judge_bias=0.0)


def day_of(one, day, *, pilot_bad, reference_bad, judged=20):
    """Both arms are judged; so many of them badly."""
    for arm, bad in (("pilot", pilot_bad), ("reference", reference_bad)):
        for number in range(judged):
            one.judgement("review", arm, float(number < bad), day * DAY_MS)
    step(one, day * DAY_MS + HOUR_MS)


def test_worse_reviews_of_the_pilot_are_evidence_and_equal_ones_are_not():
    worse, equal = unit(), unit()
    for day in range(10):
        day_of(worse, day, pilot_bad=6, reference_bad=1)
        day_of(equal, day, pilot_bad=1, reference_bad=1)
    assert worse.evidence > 8
    assert equal.evidence < math.log(11)
    assert worse.leading[0] in ("quality", "answers", "review")


def test_better_reviews_are_no_evidence():
    better = unit()
    for day in range(10):
        day_of(better, day, pilot_bad=1, reference_bad=6)
    assert better.evidence < math.log(11)


def test_judgements_wait_for_the_other_arm_but_not_for_ever():
    one = unit()
    for _ in range(50):
        one.judgement("review", "pilot", 1.0, 0)
    step(one, HOUR_MS)
    alone = one.evidence
    assert alone < 0
    step(one, BLOCK_WAITS_MS + 2 * HOUR_MS)
    for _ in range(5):
        one.judgement("review", "reference", 0.0, 5 * DAY_MS)
    step(one, 5 * DAY_MS)
    assert one.evidence < math.log(6)  # the fifty had been given up


def test_thumbs_count_by_the_shares_of_the_hour_in_which_was_asked():
    often, fair = unit(), unit()
    for hour in range(48):
        for one in (often, fair):
            one.requests("pilot", 100, hour * HOUR_MS)
            one.requests("reference", 100, hour * HOUR_MS)
        often.event("thumbs", "pilot", hour * HOUR_MS, (hour + 3) * HOUR_MS)
        fair.event("thumbs", "pilot" if hour % 2 else "reference", hour * HOUR_MS, (hour + 3) * HOUR_MS)
        step(often, (hour + 4) * HOUR_MS)
        step(fair, (hour + 4) * HOUR_MS)
    assert often.evidence > 10
    assert fair.evidence < math.log(3)


@pytest.mark.parametrize("asked_ms", [-HOUR_MS, 10**15])
def test_an_event_of_an_hour_that_nobody_knows_says_nothing(asked_ms):
    one = unit()
    one.requests("pilot", 10, 0)
    one.requests("reference", 10, 0)
    before = one.dump()
    one.event("thumbs", "pilot", asked_ms, HOUR_MS)
    assert one.dump() == before


def test_an_event_where_there_is_no_reference_says_nothing():
    one = unit()
    one.requests("pilot", 1000, 0)
    for _ in range(200):
        one.event("thumbs", "pilot", 0, HOUR_MS)
    step(one, HOUR_MS)
    assert one.evidence == pytest.approx(math.log(1 / 24))


def storm(one, thumbs, *, share=0.1, others=0):
    """One tenant with a share of the traffic puts thumbs down on the pilot alone."""
    for tenant, part in (("loud", share), ("quiet", 1 - share)):
        for arm in ("pilot", "reference"):
            one.requests(arm, round(10_000 * part), 0, tenant)
    for _ in range(others):
        one.event("thumbs", "reference", 0, HOUR_MS, tenant="quiet")
    for _ in range(thumbs):
        one.event("thumbs", "pilot", 0, HOUR_MS, tenant="loud")
    return one.since("thumbs", 0)[1].bad


def test_a_tenant_with_little_traffic_says_no_more_than_twice_what_others_say_and_five():
    assert storm(unit(), 3) == 3
    heard = [storm(unit(), thumbs, others=10) for thumbs in (25, 250, 25_000)]
    assert heard[0] == 25
    assert heard[2] < 25 * (2 + math.log(25_000 / 25))  # each further one weighs less
    assert heard[2] < 25_000 / 50


def test_a_tenant_with_most_of_the_traffic_is_heard():
    assert storm(unit(), 400, share=0.7) == 400


def test_two_opinions_of_a_conversation_count_a_day():
    one = unit()
    assert [one.one_of_session("s", HOUR_MS) for _ in range(4)] == [True, True, False, False]
    assert one.one_of_session("other", HOUR_MS)
    assert one.one_of_session(None, HOUR_MS)
    assert one.one_of_session("s", DAY_MS)


def test_what_is_kept_has_an_end():
    one = unit()
    for day in range(2 * DAYS_KEPT):
        one.requests("pilot", 10, day * DAY_MS)
        one.requests("reference", 10, day * DAY_MS, f"tenant {day}")
        day_of(one, day, pilot_bad=1, reference_bad=1, judged=2)
    assert len(one.days) <= DAYS_KEPT + 1
    assert len(one.hours) <= HOURS_KEPT / 24 + 1
    assert len(one.tenants) <= 64


def test_since_sums_whole_days():
    one = unit()
    for day in range(4):
        day_of(one, day, pilot_bad=2, reference_bad=0, judged=10)
    reference, pilot = one.since("review", 2 * DAY_MS + 5 * HOUR_MS)
    assert (pilot.n, pilot.bad, reference.n, reference.bad) == (20, 4, 20, 0)
    assert one.since("survey", 0)[0].n == 0


def test_a_restart_forgets_the_evidence_and_keeps_what_is_known_of_the_reference():
    one = unit()
    for day in range(6):
        day_of(one, day, pilot_bad=8, reference_bad=2)
    known = one.judged["review"]
    one.judgement("review", "pilot", 1.0, 6 * DAY_MS)
    one.pair(1.0, 6 * DAY_MS)
    one.restart(6 * DAY_MS)
    assert one.evidence < -100
    assert one.judged["review"] == known
    one.event("thumbs", "pilot", -(10**15), 7 * DAY_MS)  # of an hour that nobody knows: it says nothing
    step(one, 7 * DAY_MS)
    assert one.evidence < -100  # nothing pending was kept, and a day without observations counts for nothing


def busy(one, first, last):
    for hour in range(first, last):
        at_ms = hour * HOUR_MS
        for tenant, count in (("a", 30), ("b", 50 + hour % 7)):
            one.requests("pilot", count, at_ms, tenant)
            one.requests("reference", 40, at_ms, tenant)
        one.event("thumbs", "pilot" if hour % 3 else "reference", at_ms, at_ms + 1, tenant="a", bad=0.5 + hour % 2 / 2)
        one.judgement("review", "pilot", float(hour % 4 == 0), at_ms)
        if hour % 5:
            one.judgement("review", "reference", 0.25 * (hour % 3), at_ms)
        one.pair((hour % 5 - 2) / 2, at_ms)
        one.one_of_session(f"s{hour % 9}", at_ms)
        if hour % 2:  # else there is something pending
            step(one, at_ms + HOUR_MS)


@pytest.mark.parametrize("cut", [30, 31, 350, 351])
def test_it_continues_exactly_where_it_was_dumped(cut):
    whole, first = unit(), unit()
    busy(whole, 0, 500)
    busy(first, 0, cut)
    again = Unit.load("math/hard", GRID, orjson.loads(orjson.dumps(first.dump())))
    busy(again, cut, 500)
    assert orjson.dumps(again.dump()) == orjson.dumps(whole.dump())


def test_a_dump_of_other_alternatives_begins_anew_with_what_is_known():
    one = unit()
    busy(one, 0, 101)
    found = orjson.loads(orjson.dumps(one.dump()))
    found["detector"][1] = [0.0, 0.0]
    found["pending"] = [1.0, 1.0]
    again = Unit.load("math/hard", GRID, found)
    step(again, 200 * HOUR_MS)
    assert math.isfinite(again.evidence)
    assert again.judged == one.judged


def test_every_signal_has_an_alternative_that_listens_to_it():
    for signal, test in TESTS.items():
        nothing = 1.0 if test == "events" else 0.0
        assert (GRID.sizes[signal] != nothing).any()
        assert (GRID.sizes[signal] >= nothing).all()


def test_the_pilot_is_compared_with_its_own_past_where_there_is_hardly_a_reference():
    one, calm = unit(), unit()
    for day in range(40):
        for each, bad in ((one, 6 if day >= 20 else 1), (calm, 1)):
            for number in range(20):
                each.judgement("review", "pilot", float(number < bad), day * DAY_MS)
            step(each, day * DAY_MS + HOUR_MS)
    assert one.evidence > 8
    assert one.leading[0] == "past"
    assert 15 <= one.leading[1] / DAY_MS <= 21
    assert calm.evidence < math.log(41)
