"""What the view keeps of the topics."""

from __future__ import annotations

import pytest

from router.contract.times import to_rfc3339
from router.core.guard.alerts import of_news
from router.core.guard.versions import News
from router.web.sums import total
from router.web.view import MAX_CHANGES, MAX_REASONS, View
from tests.web.examples import MINUTE_MS, NOW_MS, SETUP, dead_letter, health, order, window


def view() -> View:
    return View(setup=SETUP)


def test_final_rows_are_summed_each_once():
    found = view()
    for start_ms in (NOW_MS - 2 * MINUTE_MS, NOW_MS - MINUTE_MS):
        for stratum in ("math/hard", "general/easy"):
            found.fold(window(start_ms, stratum=stratum, errors={"provider_error": 2}, ok=8), NOW_MS)
    sums = total(found.windows.final_slices())
    assert (sums.counts["requests"], sums.counts["ok"], sums.errors["provider_error"]) == (40, 32, 8)
    assert sums.counts["cost_nano_usd"] == 4_000_000


def test_of_an_open_window_only_the_newest_row_counts():
    found = view()
    for requests in (1, 5, 7):
        found.fold(window(final=False, requests=requests), NOW_MS)
    assert total(found.windows.open_slices()).counts["requests"] == 7
    assert not found.windows.final_slices()


def test_a_final_row_takes_the_place_of_the_open_one():
    found = view()
    found.fold(window(final=False, requests=7), NOW_MS)
    found.fold(window(final=True, requests=9), NOW_MS)
    assert not found.windows.open_slices()
    assert total(found.windows.final_slices()).counts["requests"] == 9


def test_rows_of_other_tenants_and_cohorts_add_up_in_their_slice():
    found = view()
    found.fold(window(tenant="a", final=False), NOW_MS)
    found.fold(window(tenant="b", final=False), NOW_MS)
    found.fold(window(cohort="holdout", final=False), NOW_MS)
    assert found.windows.open_slices()[("auto", "math/hard", "small")].counts["requests"] == 30


def test_feedback_is_summed_with_its_weight_in_numbers():
    found = view()
    found.fold(window(feedback={"thumbs": (3, 1.0)}), NOW_MS)
    found.fold(window(tenant="b", feedback={"thumbs": (1, 0.0)}), NOW_MS)
    opinion = found.windows.final_slices()[("auto", "math/hard", "small")].feedback["thumbs"]
    assert (opinion.n, opinion.mean) == (4, 0.75)


def test_windows_and_dead_letters_older_than_an_hour_are_forgotten():
    found = view()
    found.fold(window(NOW_MS - 90 * MINUTE_MS), NOW_MS)
    found.fold(window(NOW_MS - 30 * MINUTE_MS), NOW_MS)
    found.fold(dead_letter(), NOW_MS - 90 * MINUTE_MS)
    found.forget(NOW_MS)
    assert total(found.windows.final_slices()).counts["requests"] == 10
    assert not found.dead


def test_what_is_final_ends_at_the_oldest_open_window():
    found = view()
    assert found.windows.final_to_ms() is None
    found.fold(window(NOW_MS - 2 * MINUTE_MS), NOW_MS)
    assert found.windows.final_to_ms() == NOW_MS - MINUTE_MS
    found.fold(window(NOW_MS - MINUTE_MS, final=False), NOW_MS)
    found.fold(window(NOW_MS, final=False), NOW_MS)
    assert found.windows.final_to_ms() == NOW_MS - MINUTE_MS


def test_a_change_of_health_is_remembered_and_a_repeat_is_not():
    found = view()
    for state in ("up", "down", "down", "probing", "up"):
        found.fold(health(state=state, reason=f"is {state}"), NOW_MS)
    assert [change.what for change in found.changes] == ["model:small down", "model:small probing", "model:small up"]


def test_a_new_name_of_a_model_is_on_the_timeline_and_no_open_alert():
    found = view()
    note = of_news(News("small", "small-2026-12", "small-2026-05", NOW_MS), "auto")
    found.fold(note, NOW_MS + 5)
    (change,) = found.changes
    assert (change.kind, change.what, change.at_ms) == ("version", "model:small served_model", NOW_MS + 5)
    assert change.why == "small answers as small-2026-12, never heard before; until now as small-2026-05"
    assert not found.alerts


def test_orders_stand_until_released_or_expired():
    found = view()
    found.fold(order(), NOW_MS)
    found.fold(order("pool:auto", "pin", args={"model": "large"}), NOW_MS)
    found.fold(order("tenant:acme", "freeze", expires_at=to_rfc3339(NOW_MS + 1000)), NOW_MS)
    assert len(found.standing(NOW_MS)) == 3
    assert len(found.standing(NOW_MS + 1000)) == 2
    found.fold(order(active=False, by="ben", reason="provider is back"), NOW_MS)
    assert [at.record.scope for at in found.standing(NOW_MS + 1000)] == ["pool:auto"]
    assert found.changes[-1].who in {"anna", "ben"}


def test_changes_are_kept_by_time_whatever_partition_they_come_from_and_the_newest_stay():
    found = view()
    for at_ms in (5, 3, 4):
        found.fold(order(reason=f"at {at_ms}"), at_ms)
    assert [change.at_ms for change in found.changes] == [3, 4, 5]
    for at_ms in range(10, 10 + 2 * MAX_CHANGES):
        found.fold(order(), at_ms)
    assert (len(found.changes), found.changes[-1].at_ms) == (MAX_CHANGES, 9 + 2 * MAX_CHANGES)


def test_reasons_of_dead_letters_are_bounded():
    found = view()
    for number in range(MAX_REASONS * 2):
        found.fold(dead_letter(code=f"code-{number}"), NOW_MS)
    (minute,) = found.dead.values()
    assert sum(minute.values()) == MAX_REASONS * 2
    assert len(minute) == MAX_REASONS + 1


def test_a_record_that_nobody_asked_for_is_a_mistake_of_ours():
    with pytest.raises(TypeError, match="not observed"):
        view().fold(object(), NOW_MS)
