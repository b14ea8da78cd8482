"""What a guard says that it can see, by its own counts."""

from __future__ import annotations

import pytest

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Guard, Opinion, Place, Settings
from router.core.guard.sight import seeing
from router.core.guard.unit import HOUR_MS

T0 = 20_000 * DAY_MS


def heard(*, reviewed=("pilot", "reference"), hours=72, pilot=100):
    """Hours with ``pilot`` and 100 requests and two reviews of each of these arms; stratum ``deaf`` has requests only."""
    guard = Guard(Settings(), ("a", "deaf"), T0)
    for hour in range(hours):
        now_ms = T0 + hour * HOUR_MS
        for name in ("a", "deaf"):
            guard.requests(Place(name), "pilot", pilot, now_ms)
            guard.requests(Place(name), "reference", 100, now_ms)
        for arm in reviewed:
            for _ in range(2):
                guard.opinion(Opinion(signal="review", value=1.0, arm=arm, place=Place("a"), asked_ms=now_ms), now_ms)
        guard.step(now_ms)
    return guard, T0 + hours * HOUR_MS


def test_rates_are_a_days_and_where_nobody_says_anything_it_is_blind():
    sharp, deaf = seeing(*heard())
    assert (sharp.stratum, deaf.stratum) == ("a", "deaf")
    assert sharp.volume.pilot == pytest.approx(2400)
    assert sharp.volume.reviews == pytest.approx(96)
    assert not sharp.power.blind
    assert sharp.power.days < 7
    assert deaf.power.blind
    assert deaf.power.days is None
    assert deaf.power.reviews_for_one_day > 50


def test_the_last_week_counts_not_what_was_before():
    guard, now_ms = heard(hours=10 * 24)
    assert seeing(guard, now_ms)[0].volume.pilot == pytest.approx(2400, rel=0.01)
    assert seeing(guard, now_ms + 30 * DAY_MS) == []


def test_reviews_of_one_arm_alone_show_nothing():
    sharp, _ = seeing(*heard(reviewed=("pilot",)))
    assert sharp.volume.reviews == 0.0
    assert sharp.power.blind


def test_of_the_first_day_of_what_was_given_back_and_of_what_no_pilot_has_nothing_is_said():
    assert seeing(*heard(hours=12)) == []
    assert seeing(*heard(pilot=0)) == []
    guard, now_ms = heard()
    guard.fence("a", now_ms)
    assert [one.stratum for one in seeing(guard, now_ms)] == ["deaf"]
