"""One word, why, and what to do."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from router.contract.records import Alert, AlertAction
from router.core.records import Load
from router.web.status import build_status
from router.web.view import View
from tests.web.examples import (
    MINUTE_MS,
    NOW_MS,
    confirmed,
    dead_letter,
    fresh_view,
    health,
    order,
    sight,
    track,
    window,
)


def verdict(view: View) -> tuple[str, list[str], str | None]:
    found = build_status(view, NOW_MS)
    return found["verdict"]["state"], [one["what"] for one in found["verdict"]["reasons"]], found["next_action"]


def alert(**changed: Any) -> Alert:
    row: dict[str, Any] = {
        "id": "a-1",
        "state": "open",
        "severity": "page",
        "pool": "auto",
        "stratum": "math/hard",
        "signal": "quality",
        "model": "small",
        "effect": None,
        "reference": None,
        "since": "2026-11-01T00:00:00Z",
        "evidence": {},
        "traffic_share": None,
        "money": None,
        "action": AlertAction(command="pointsman pin stratum:auto/math/hard large"),
        "at": "2026-11-01T00:00:00Z",
    }
    return Alert(**(row | changed))


def test_all_quiet_is_ok_and_there_is_nothing_to_do():
    assert verdict(fresh_view()) == ("ok", [], None)


def test_a_silent_broker_is_failing_and_its_absence_is_given_in_seconds():
    state, (why,), action = verdict(confirmed(fresh_view(), NOW_MS - 12_000))
    assert state == "failing"
    assert "127.0.0.1:9092 has not answered for 12 s" in why
    assert action is None


def test_a_stage_with_work_and_without_commits_is_failing_and_is_to_be_started():
    view = fresh_view()
    track(view, "llm-settle", "llm.outcomes", committed=5, end=9, since_ms=42_000)
    assert verdict(view) == (
        "failing",
        ["settle stands still: 4 records wait, no commit for 42 s"],
        "pointsman run settle",
    )


def test_a_stage_that_never_ran_is_named_once_there_is_work_for_it():
    view = fresh_view()
    track(view, "", "llm.requests", committed=None, end=0, since_ms=60_000)
    assert verdict(view)[0] == "ok"
    track(view, "", "llm.requests", committed=None, end=3, since_ms=60_000)
    assert verdict(view)[1:] == (
        ["route (interactive) is not running: 3 records wait, nobody has ever read them"],
        "pointsman run route",
    )


@pytest.mark.parametrize(("since_s", "expected"), [(100, "ok"), (130, "degraded")])
def test_batch_work_may_wait_longer_and_never_fails_the_whole(since_s, expected):
    view = fresh_view()
    track(view, "llm-route-batch", "llm.requests.batch", committed=5, end=9, since_ms=since_s * 1000)
    assert verdict(view)[0] == expected


def test_workers_are_given_the_time_that_a_call_may_take():
    view = fresh_view()
    track(view, "llm-workers", "llm.work.small", committed=5, end=9, since_ms=60_000)
    assert verdict(view)[0] == "ok"
    track(view, "llm-workers", "llm.work.small", committed=5, end=9, since_ms=130_000)
    assert verdict(view)[::2] == ("failing", "pointsman worker small")


def test_lost_or_doubled_is_failing():
    view = fresh_view()
    view.fold(Load(stage="settle", partition=0, at_ms=NOW_MS, read_to_ms=NOW_MS, overdue=2, doubled=1), NOW_MS)
    state, why, _ = verdict(view)
    assert state == "failing"
    assert why == ["requests lost (past deadline + 10 s without a result): 2", "results doubled: 1"]


@pytest.mark.parametrize(("ok", "expected"), [(100, "ok"), (96, "ok"), (94, "degraded"), (50, "failing")])
def test_failed_results_of_the_last_minutes_weigh_by_their_share(ok, expected):
    view = fresh_view()
    view.fold(window(requests=100, ok=ok, errors={"provider_error": 100 - ok}), NOW_MS)
    assert verdict(view)[0] == expected


def test_old_failures_and_a_handful_of_them_are_no_verdict():
    view = fresh_view()
    view.fold(window(NOW_MS - 30 * MINUTE_MS, requests=100, ok=0, errors={"provider_error": 100}), NOW_MS)
    view.fold(window(requests=3, ok=0, errors={"provider_error": 3}), NOW_MS)
    assert verdict(view)[0] == "ok"


def test_a_sick_model_may_be_drained_while_its_pool_has_another():
    view = fresh_view()
    view.fold(health(reason="it's 100 % `down`"), NOW_MS)
    state, _, action = verdict(view)
    assert state == "degraded"
    assert shlex.split(action)[:3] == ["pointsman", "drain", "model:small"]
    assert shlex.split(action)[-1] == "it's 100 % `down`"


def test_the_last_model_of_a_pool_is_never_to_be_drained():
    view = fresh_view()
    view.fold(health(), NOW_MS)
    view.fold(order("model:large", "ban"), NOW_MS)
    state, why, action = verdict(view)
    assert state == "failing"
    assert "pool auto has no model left" in why[0]
    assert action is None


def test_a_model_that_is_drained_already_is_no_finding():
    view = fresh_view()
    view.fold(health(), NOW_MS)
    view.fold(order(), NOW_MS)
    assert verdict(view) == ("ok", ["standing orders in force: 1"], None)


def test_dead_letters_are_worth_a_note_and_wake_nobody():
    view = fresh_view()
    view.fold(dead_letter(), NOW_MS)
    assert verdict(view) == ("ok", ["dead letters in the last hour: 1"], None)


def test_a_page_is_failing_until_somebody_has_seen_it_and_brings_its_command():
    view = fresh_view()
    view.fold(alert(), NOW_MS)
    assert verdict(view)[::2] == ("failing", "pointsman pin stratum:auto/math/hard large")
    view.fold(alert(state="acknowledged"), NOW_MS)
    assert verdict(view)[0] == "degraded"
    view.fold(alert(state="closed"), NOW_MS)
    assert verdict(view)[0] == "ok"


def test_calls_without_a_price_are_degraded():
    view = fresh_view()
    view.fold(window(cost_unknown=4), NOW_MS)
    assert verdict(view)[::2] == ("degraded", "pointsman config check")


def test_the_worst_comes_first():
    view = fresh_view()
    view.fold(dead_letter(), NOW_MS)
    view.fold(health(), NOW_MS)
    track(view, "llm-settle", "llm.outcomes", committed=5, end=9, since_ms=42_000)
    found = build_status(view, NOW_MS)["verdict"]["reasons"]
    assert [one["severity"] for one in found] == ["failing", "degraded", "note"]


def test_blind_strata_are_named_as_such_and_what_shows_more_of_them():
    view = fresh_view()
    view.fold(sight(), NOW_MS)
    assert verdict(view) == ("ok", [], None)
    view.fold(sight(blind=tuple(f"s{at}" for at in range(7))), NOW_MS)
    state, (why,), action = verdict(view)
    assert state == "ok"
    assert why.startswith("blind, not well: a drop of 10% would go unseen for more than a week in auto/s0, auto/s1")
    assert why.endswith("and 2 more")
    assert action == "pointsman guard power --pool auto"
