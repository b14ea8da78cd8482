"""The interval of an alert holds the truth, also when somebody looks all the time."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.guard.detector import DAY_MS
from router.core.guard.effect import ALPHA, boundary, effect
from router.core.guard.grid import Grid
from router.core.guard.unit import HOUR_MS, Unit


def unit():
    return Unit("math/hard", Grid.of(0.1), 0)


def judged(one, arm, bad, count, at_ms=0):
    for number in range(count):
        one.judgement("review", arm, float(number < bad), at_ms)


def test_the_effect_is_the_difference_of_the_shares():
    one = unit()
    judged(one, "pilot", 90, 300)
    judged(one, "reference", 30, 300)
    found = effect(one, "review", 0, 0.7, 0.0)
    assert found.value == pytest.approx(0.2)
    assert 0 < found.low < 0.2 < found.high < 0.5
    assert (found.reference, found.pilot) == (300, 300)


def test_verdicts_of_a_judge_are_divided_by_what_it_sees_and_freed_of_its_taste():
    one = unit()
    for verdict, count in ((1.0, 200), (0.0, 500), (-1.0, 60)):
        for _ in range(count):
            one.pair(verdict, 0)
    assert effect(one, "judge", 0, 0.7, 0.0).value == pytest.approx(140 / 760 / 0.7)
    assert effect(one, "judge", 0, 0.7, 0.1).value == pytest.approx((140 / 760 - 0.1) / 0.7)


def test_reviews_and_verdicts_are_pooled_by_their_precision():
    one = unit()
    judged(one, "pilot", 15, 50)
    judged(one, "reference", 5, 50)
    alone = effect(one, "quality", 0, 0.7, 0.0)
    for number in range(2000):
        one.pair(float(number % 5 == 0), 0)
    both = effect(one, "quality", 0, 0.7, 0.0)
    assert both.high - both.low < alone.high - alone.low
    assert abs(both.value - 0.2 / 0.7) < abs(both.value - 0.2)


def test_events_are_a_difference_of_rates():
    one = unit()
    one.requests("pilot", 10_000, 0)
    one.requests("reference", 5000, 0)
    for _ in range(80):
        one.event("thumbs", "pilot", 0, HOUR_MS)
    for _ in range(20):
        one.event("thumbs", "reference", 0, HOUR_MS)
    found = effect(one, "thumbs", 0, 0.7, 0.0)
    assert found.value == pytest.approx(0.004)
    assert found.low < 0.004 < found.high


def test_of_nothing_nothing_is_said():
    found = effect(unit(), "quality", 0, 0.7, 0.0)
    assert (found.low, found.high, found.pilot, found.reference) == (-1.0, 1.0, 0, 0)


@pytest.mark.parametrize(("bad", "count"), [(0, 1), (1, 1), (0, 500), (500, 500)])
def test_few_or_equal_judgements_give_a_finite_interval_within_the_possible(bad, count):
    one = unit()
    judged(one, "pilot", bad, count)
    judged(one, "reference", 0, 1)
    found = effect(one, "review", 0, 0.7, 0.0)
    assert -1.0 <= found.low < found.value < found.high <= 1.0 or found.value == 1.0


def test_days_before_it_began_do_not_count():
    one = unit()
    for day, bad in ((0, 0), (5, 50)):
        judged(one, "pilot", bad, 100, day * DAY_MS)
        judged(one, "reference", 0, 100, day * DAY_MS)
    assert effect(one, "review", 5 * DAY_MS + HOUR_MS, 0.7, 0.0).value == pytest.approx(0.5)
    assert effect(one, "review", 0, 0.7, 0.0).value == pytest.approx(0.25)


def test_the_boundary_widens_with_confidence_and_slowly_with_n():
    assert boundary(200, 0.01) > boundary(200, 0.05) > 2
    assert boundary(20_000, 0.05) > boundary(200, 0.05)
    assert boundary(20_000, 0.05) < 2 * boundary(200, 0.05)


def test_looked_at_every_day_it_holds_the_truth_in_all_but_a_few_runs():
    random = np.random.default_rng(5)
    runs, missed = 120, 0
    for _ in range(runs):
        one = unit()
        outside = False
        for day in range(20):
            for arm, share in (("pilot", 0.25), ("reference", 0.05)):
                judged(one, arm, random.binomial(12, share), 12, day * DAY_MS)
            if day >= 2:
                found = effect(one, "review", 0, 0.7, 0.0)
                outside |= not found.low <= 0.2 <= found.high
        missed += outside
    assert missed / runs <= ALPHA
