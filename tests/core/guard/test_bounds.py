"""What is bounded: silence, tenants beyond those that are told apart, conversations of a day."""

from __future__ import annotations

from router.core.guard.detector import DAY_MS
from router.core.guard.grid import Grid
from router.core.guard.monitor import Guard, Settings
from router.core.guard.unit import HOUR_MS, Unit


def test_a_pool_in_which_nothing_is_observed_pages_nobody():
    guard, found = Guard(Settings(), ("only",), 0), []
    for day in range(1, 400):
        found += guard.step(day * DAY_MS)
    assert found == []


def test_a_tenant_that_comes_after_64_others_is_bounded_too():
    unit = Unit("math/hard", Grid.of(0.1), 0)
    for number in range(200):
        for arm in ("pilot", "reference"):
            unit.requests(arm, 100, 0, f"tenant {number}")
    for _ in range(5000):
        unit.event("thumbs", "pilot", 0, HOUR_MS, tenant="tenant 150")
    unit.step(HOUR_MS, judge_power=0.7, judge_bias=0.0)
    assert unit.since("thumbs", 0)[1].bad < 100
    assert unit.evidence < 8


def test_sessions_of_a_day_are_bounded():
    unit = Unit("math/hard", Grid.of(0.1), 0)
    for number in range(200_000):
        unit.one_of_session(f"session {number}", HOUR_MS)
    assert len(unit.sessions) <= 100_000
