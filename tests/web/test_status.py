"""The status document: figures, ages, windows."""

from __future__ import annotations

import json

import orjson

from router.contract.times import to_rfc3339
from router.core.lease import ends_ms, window_of
from router.core.records import LimitState, Load, TenantState
from router.web.ages import later, without_ages
from router.web.status import build_status
from router.web.view import View
from tests.web.examples import (
    MINUTE_MS,
    NOW_MS,
    SETUP,
    confirmed,
    dead_letter,
    fresh_view,
    health,
    order,
    sight,
    track,
    weights,
    window,
)


def test_an_empty_installation_knows_nothing_and_says_so():
    found = build_status(View(setup=SETUP), NOW_MS)
    assert found["verdict"]["state"] == "unknown"
    assert found["verdict"]["age_s"] is None
    assert found["traffic"]["window"] is None
    assert found["cost"]["per_hour_nano_usd"] is None
    assert (found["requests"]["lost"], found["requests"]["doubled"]) == (None, None)


def test_all_promised_keys_are_there_and_it_is_json():
    found = json.loads(orjson.dumps(build_status(fresh_view(), NOW_MS)))
    assert {"verdict", "models", "stages", "alerts", "weights", "cost", "changes"} <= found.keys()


def test_sums_say_what_is_final_and_over_which_windows():
    view = fresh_view()
    view.fold(window(NOW_MS - 2 * MINUTE_MS, requests=10, ok=9, errors={"provider_error": 1}), NOW_MS)
    view.fold(window(NOW_MS - MINUTE_MS, final=False, requests=4, ok=4), NOW_MS)
    traffic = build_status(view, NOW_MS)["traffic"]
    assert traffic["requests"] == {"value": 14, "final": 10}
    assert traffic["errors"] == {"provider_error": {"value": 1, "final": 1}}
    assert traffic["window"] == {
        "from": to_rfc3339(NOW_MS - 2 * MINUTE_MS),
        "to": to_rfc3339(NOW_MS),
        "final_to": to_rfc3339(NOW_MS - MINUTE_MS),
    }


def test_money_an_hour_is_the_rate_since_the_first_window():
    view = fresh_view()
    view.fold(window(NOW_MS - 30 * MINUTE_MS, cost_nano_usd=100, baseline_cost_nano_usd=900, cost_unknown=2), NOW_MS)
    cost = build_status(view, NOW_MS)["cost"]
    assert cost["per_hour_nano_usd"] == {"spent": 200, "baseline": 1800}
    assert cost["saved_nano_usd"] == {"value": 800, "final": 800}
    assert cost["calls_of_unknown_cost"] == {"value": 2, "final": 2}


def test_what_comes_beside_results_is_told_with_its_success_and_cost():
    view = fresh_view()
    view.fold(window(NOW_MS - MINUTE_MS, cost_nano_usd=100), NOW_MS)
    beside = {"cohort": "shadow", "model": "large", "requests": 0, "ok": 0, "attempts": 0}
    view.fold(window(NOW_MS - MINUTE_MS, **beside, shadows=10, shadows_ok=9, cost_nano_usd=40), NOW_MS)
    found = build_status(view, NOW_MS)
    told = (found["traffic"]["shadows"], found["traffic"]["shadows_ok"], found["cost"]["beside_nano_usd"])
    assert [one["final"] for one in told] == [10, 9, 40]
    assert found["cost"]["spent_nano_usd"]["final"] == 140


def test_results_that_ask_their_user_are_counted():
    view = fresh_view()
    view.fold(window(NOW_MS - MINUTE_MS, surveys=3), NOW_MS)
    assert build_status(view, NOW_MS)["traffic"]["surveys"]["final"] == 3


def test_ages_grow_while_nobody_confirms():
    view = confirmed(View(setup=SETUP), NOW_MS - 7000)
    assert build_status(view, NOW_MS)["traffic"]["age_s"] == 7.0


def test_what_settle_says_of_its_partitions_adds_up():
    view = fresh_view()
    for partition, (opened, oldest_ms) in enumerate([(3, NOW_MS - 900), (5, NOW_MS - 4000)]):
        view.fold(
            Load(
                stage="settle",
                partition=partition,
                at_ms=NOW_MS - 100,
                read_to_ms=NOW_MS - 200,
                open={"interactive": opened},
                oldest_at_ms={"interactive": oldest_ms},
                overdue=partition,
                ids=100,
            ),
            NOW_MS,
        )
    found = build_status(view, NOW_MS)["requests"]
    assert (found["lost"], found["doubled"], found["settled_ids"]["kept"]) == (1, None, 200)
    view.fold(Load(stage="feedback", partition=0, at_ms=NOW_MS, read_to_ms=NOW_MS, doubled=2), NOW_MS)
    assert build_status(view, NOW_MS)["requests"]["doubled"] == 2
    assert found["unfinished"] == {"interactive": {"open": 8, "oldest_s": 4.0}}
    assert found["settled_ids"]["bound_by"] == "time"
    assert found["age_s"] == 0.1


def test_while_settle_stands_still_its_last_word_is_as_old_as_it_is():
    view = fresh_view()
    view.fold(Load(stage="settle", partition=0, at_ms=NOW_MS - 48_000, read_to_ms=NOW_MS - 48_000, ids=1), NOW_MS)
    assert build_status(view, NOW_MS)["requests"]["age_s"] == 0.0
    track(view, "llm-settle", "llm.decisions", committed=5, end=9)
    assert build_status(view, NOW_MS)["requests"]["age_s"] == 48.0


def test_a_state_lasts_since_it_changed_not_since_its_figures_moved():
    view = fresh_view()
    view.fold(health(), NOW_MS - 60_000)
    view.fold(health(error_rate=0.7), NOW_MS - 1000)
    small = build_status(view, NOW_MS)["models"][0]
    assert (small["for_s"], small["health_age_s"], small["error_rate"]) == (60.0, 1.0, 0.7)


def test_dead_letters_are_counted_by_stage_and_reason():
    view = fresh_view()
    for code in ("invalid_request", "invalid_request", "forged_token"):
        view.fold(dead_letter(code), NOW_MS)
    found = build_status(view, NOW_MS)["dead_letters"]
    assert found["value"] == 3
    assert found["reasons"][0] == {"stage": "route", "code": "invalid_request", "n": 2}


def test_models_show_health_orders_and_their_part_of_the_traffic():
    view = fresh_view()
    view.fold(health(), NOW_MS - 5000)
    view.fold(order(), NOW_MS)
    view.fold(window(), NOW_MS)
    view.fold(window(model="none", requests=1, ok=0), NOW_MS)
    small, large = build_status(view, NOW_MS)["models"]
    assert (small["state"], small["for_s"], small["orders"], small["attempts"]["value"]) == ("down", 5.0, ["drain"], 10)
    assert (large["state"], large["reason"]) == ("up", "not called yet; counts as up")


def test_stages_give_lag_and_progress_partition_by_partition():
    view = fresh_view()
    track(view, "llm-settle", "llm.outcomes", 1, committed=5, end=9, since_ms=3000)
    (stage,) = build_status(view, NOW_MS)["stages"]
    assert (stage["stage"], stage["lag"]["value"], stage["oldest_waiting_s"]) == ("settle", 4, 3.0)
    assert stage["partitions"] == [
        {
            "topic": "llm.outcomes",
            "partition": 1,
            "committed": 5,
            "end": 9,
            "lag": 4,
            "last_commit_s": None,
            "still_s": 3.0,
        }
    ]


def test_changes_come_newest_first_with_who_and_why():
    view = fresh_view()
    view.fold(order(), NOW_MS - 2000)
    view.fold(health(), NOW_MS - 1000)
    first, second = build_status(view, NOW_MS)["changes"]
    assert (first["what"], first["who"], first["why"]) == ("model:small down", "watch", "error rate 1.0")
    assert (second["what"], second["who"], second["ago_s"]) == ("drain model:small", "anna", 2.0)


def test_weights_are_those_published_last():
    view = fresh_view()
    view.fold(weights(), NOW_MS - 500)
    (found,) = build_status(view, NOW_MS)["weights"]
    assert found["weights"] == {"small": 0.93, "large": 0.07}
    assert found["age_s"] == 0.5


def test_what_is_not_there_yet_is_named():
    assert "reviews" in build_status(fresh_view(), NOW_MS)["not_there_yet"]


def test_what_the_guard_can_see_is_not_known_before_it_said_so():
    view = fresh_view()
    assert build_status(view, NOW_MS)["quality"]["sight"] == [
        {"pool": "auto", "margin": None, "strata": None, "age_s": None}
    ]
    view.fold(sight(blind=("math/hard",)), NOW_MS - 2000)
    (found,) = build_status(view, NOW_MS)["quality"]["sight"]
    assert (found["margin"], found["age_s"]) == (0.1, 2.0)
    assert {one["stratum"]: one["blind"] for one in found["strata"]} == {"chat/easy": False, "math/hard": True}


def quality(view: View) -> dict[tuple[str, str | None], dict[str, object]]:
    return {(one["model"], one["kind"]): one for one in build_status(view, NOW_MS)["quality"]["slices"]}


def test_quality_stands_beside_the_baseline_of_the_same_stratum_and_kind():
    view = fresh_view()
    view.fold(window(feedback={"thumbs": (10, 0.6), "review": (1, 1.0)}), NOW_MS)
    view.fold(window(model="large", cohort="holdout", feedback={"thumbs": (5, 0.9)}), NOW_MS)
    view.fold(window(model="large", stratum="other/easy", feedback={"thumbs": (5, 0.1)}), NOW_MS)
    found = quality(view)
    thumbs = found["small", "thumbs"]
    assert thumbs["reference"] == {"model": "large", "n": 5, "mean": 0.9}
    assert round(thumbs["difference"], 9) == -0.3
    assert found["small", "review"]["reference"] is None
    assert found["small", "review"]["difference"] is None


def test_a_slice_without_feedback_has_no_mean_rather_than_zero():
    view = fresh_view()
    view.fold(window(), NOW_MS)
    assert quality(view)["small", None] | {"n": 0, "mean": None} == quality(view)["small", None]


def test_a_later_reader_sees_older_figures():
    view = fresh_view()
    view.fold(order(), NOW_MS - 2000)
    found = later(build_status(view, NOW_MS), NOW_MS + 3000)
    assert found["traffic"]["age_s"] == 3.0
    assert found["changes"][0]["ago_s"] == 5.0
    assert found["verdict"]["state"] == "ok"


def test_an_old_snapshot_has_no_verdict_but_tells_what_it_was():
    found = later(build_status(fresh_view(), NOW_MS), NOW_MS + 60_000, "pointsman up")
    assert found["verdict"]["state"] == "unknown"
    assert "then: ok" in found["verdict"]["reasons"][0]["what"]
    assert found["next_action"] == "pointsman up"


def test_what_nothing_will_write_again_has_no_verdict_at_once():
    found = later(build_status(fresh_view(), NOW_MS), NOW_MS + 1000, "pointsman up", abandoned=True)
    assert (found["verdict"]["state"], found["next_action"]) == ("unknown", "pointsman up")


def test_time_alone_is_no_news():
    view = fresh_view()
    track(view, "llm-settle", "llm.outcomes", committed=9, end=9)
    first, second = build_status(view, NOW_MS), build_status(view, NOW_MS + 4000)
    assert first != second
    assert without_ages(first) == without_ages(second)


def test_tenants_stand_against_the_limits_of_the_time_that_runs_now():
    view = fresh_view()
    ends = {kind: ends_ms(kind, window_of(kind, NOW_MS)) for kind in ("requests", "day")}
    limits = [
        LimitState(kind="requests", ends_ms=ends["requests"] - 60_000, limit=60, soft=None, lent=60, used=55),
        LimitState(kind="day", ends_ms=ends["day"], limit=None, soft=10, lent=7, used=5),
    ]
    view.fold(TenantState(tenant="acme", limits=limits, at_ms=NOW_MS), NOW_MS - 2_000)
    view.fold(TenantState(tenant="gone", limits=limits, at_ms=NOW_MS), NOW_MS)
    view.fold(TenantState(tenant="gone", limits=[], at_ms=NOW_MS), NOW_MS)
    last_minute, today = build_status(view, NOW_MS)["tenants"]
    assert (last_minute["limit"], last_minute["used"], last_minute["lent"]) == (60, 0, 0)
    assert (today["tenant"], today["kind"], today["limit"], today["soft"], today["used"], today["lent"]) == (
        "acme",
        "day",
        None,
        10,
        5,
        7,
    )
    assert today["until"] == to_rfc3339(ends["day"])
    assert today["age_s"] == 2.0
