"""stages/account on the in-memory log: what a metric window says, and when."""

from dataclasses import replace

import orjson
import pytest

from router.config import Config
from router.contract.codec import encode, from_rfc3339, to_rfc3339
from router.contract.records import MetricWindow
from router.core.keyring import Keyring
from router.core.records import CountedFeedback, PricedAttempt
from router.kafka.client import Client
from router.stages.account import build
from router.stages.context import Context
from router.testing import FakeClock, MemoryLog

T0 = 1_750_000_020_000  # a window starts here
MINUTE, GRACE = 60_000, 10_000
KEYRING = Keyring.parse("a secret of at least thirty-two bytes")

USAGE = PricedAttempt(
    request_id="0" * 32,
    attempt=1,
    model="small",
    tenant="acme",
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    cohort="pilot",
    reason="routed",
    status="ok",
    error_code=None,
    at_ms=T0 + 1_000,
    latency_ms=100,
    prompt_tokens=10,
    completion_tokens=20,
    cached_tokens=3,
    reasoning_tokens=0,
    cost_nano_usd=500,
    baseline_cost_nano_usd=2_000,
    price_version="v1",
    late=False,
)
COUNTED = CountedFeedback(
    request_id="0" * 32,
    tenant="acme",
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    model="small",
    cohort="pilot",
    kind="thumbs",
    value=1.0,
    repeat=False,
    at_ms=T0 + 1_000,
)


def new_stage():
    config = Config(
        models={"small": {"unpriced": True}, "large": {"unpriced": True}},
        pools={"auto": {"models": ["small", "large"]}},
        tenants={"acme": {}},
    )
    (stage,) = build(Context(config=config, client=Client("nowhere:9"), keyring=KEYRING, partitions=4))
    return stage


@pytest.fixture
def log():
    return MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))


def result(*, error=None, latency_ms=830, **router):
    told = {"tenant": "acme", "pool": "auto", "model": "small", "stratum": "math/hard", "cohort": "pilot"} | router
    code = None if error is None else {"code": error, "message": ""}
    return orjson.dumps({"id": "0" * 32, "error": code, "router": told | {"latency_ms": latency_ms}})


def produce_result(log, value, *, lane="interactive", partition=0, timestamp_ms=None):
    log.produce(
        "llm.results", b"k", value, partition=partition, headers=[("lane", lane.encode())], timestamp_ms=timestamp_ms
    )


def produce_usage(log, partition=0, **changes):
    log.produce("llm.usage", b"k", encode(replace(USAGE, **changes)), partition=partition)


def metrics(log, *, final=None) -> list[MetricWindow]:
    found = [orjson.loads(record.value) for record in log.records("llm.metrics")]
    return [window for window in found if final is None or window["final"] is final]


def test_attempts_count_under_their_model_and_results_under_the_one_that_answered(log):
    produce_usage(log, model="small", status="error")
    produce_usage(log, model="large", attempt=2, reason="fallback", partition=0)
    produce_result(log, result(model="large"))
    log.advance(MINUTE + GRACE)
    by_model = {window["model"]: window for window in metrics(log, final=True)}
    assert (by_model["small"]["attempts"], by_model["small"]["requests"]) == (1, 0)
    large = by_model["large"]
    assert (large["attempts"], large["fallbacks"], large["requests"], large["ok"]) == (1, 1, 1, 1)
    assert large["latency_ms"]["p50"] == pytest.approx(830, rel=0.01)
    assert (large["prompt_tokens"], large["cost_nano_usd"], large["baseline_cost_nano_usd"]) == (10, 500, 2_000)


def test_a_result_without_a_model_counts_under_none_with_its_error(log):
    produce_result(log, result(error="model_not_found", model=None, pool=None, stratum=None, cohort=None))
    log.advance(MINUTE + GRACE)
    (window,) = metrics(log, final=True)
    assert [window[name] for name in ("pool", "model", "stratum", "cohort")] == ["none"] * 4
    assert (window["requests"], window["ok"], window["errors"]) == (1, 0, {"model_not_found": 1})


def test_tenants_that_are_not_configured_are_other_and_default_is_itself(log):
    for tenant in ("acme", "default", "stranger", "other stranger"):
        produce_result(log, result(tenant=tenant))
    log.advance(MINUTE + GRACE)
    assert {window["tenant"]: window["requests"] for window in metrics(log, final=True)} == {
        "acme": 1,
        "default": 1,
        "other": 2,
    }


def test_the_lane_of_a_result_is_its_header(log):
    produce_result(log, result(), lane="batch")
    log.advance(MINUTE + GRACE)
    assert [window["lane"] for window in metrics(log, final=True)] == ["batch"]


def test_rows_of_the_same_dimensions_meet_from_all_partitions(log):
    for partition in range(4):
        produce_usage(log, partition=partition)
    log.advance(MINUTE + GRACE)
    (window,) = metrics(log, final=True)
    assert (window["attempts"], window["cost_nano_usd"]) == (4, 2_000)


def test_feedback_counts_by_kind_and_repeats_move_no_mean(log):
    for value, repeat in ((1.0, False), (0.0, False), (1.0, True)):
        log.produce("llm.feedback.counted", b"k", encode(replace(COUNTED, value=value, repeat=repeat)), partition=1)
    log.advance(MINUTE + GRACE)
    (window,) = metrics(log, final=True)
    assert window["feedback"] == {"thumbs": {"n": 2, "mean": 0.5, "repeats": 1}}


def test_a_window_is_final_grace_after_its_end_also_without_further_traffic(log):
    produce_usage(log)
    log.advance(MINUTE + GRACE - 1, step_ms=500)
    assert metrics(log, final=True) == []
    log.advance(1)
    (window,) = metrics(log, final=True)
    assert (window["window_start"], window["window_s"]) == (to_rfc3339(T0), 60)


def test_before_that_updates_come_at_most_once_a_second(log):
    for _ in range(20):
        produce_usage(log)
        log.advance(250)
    updates = metrics(log, final=False)
    assert 4 <= len(updates) <= 5
    assert [window["attempts"] for window in updates] == sorted({window["attempts"] for window in updates})


def test_nothing_is_published_again_while_nothing_changes(log):
    produce_usage(log)
    log.advance(30_000, step_ms=1_000)
    assert len(metrics(log, final=False)) == 1


def test_an_idle_installation_writes_nothing(log):
    log.advance(10 * MINUTE, step_ms=1_000)
    assert log.records("llm.counts") == []


def test_a_record_that_comes_after_its_window_was_announced_counts_in_the_open_one(log):
    produce_usage(log)
    log.advance(MINUTE + GRACE)
    produce_usage(log, at_ms=T0 + 2_000)
    log.advance(2 * MINUTE)
    assert [(window["window_start"], window["attempts"]) for window in metrics(log, final=True)] == [
        (to_rfc3339(T0), 1),
        (to_rfc3339(T0 + MINUTE), 1),
    ]


def test_windows_are_right_after_account_was_down_for_ninety_seconds(log):
    produce_usage(log)
    log.run()
    for second in range(0, 90, 10):  # nothing runs, but the clock and the producers do
        log.clock.advance(10_000)
        produce_usage(log, at_ms=log.clock(), partition=second % 4)
    log.restart(new_stage())
    log.advance(3 * MINUTE, step_ms=5_000)
    finals = metrics(log, final=True)
    assert {window["window_start"]: window["attempts"] for window in finals} == {
        to_rfc3339(T0): 6,
        to_rfc3339(T0 + MINUTE): 4,
    }
    assert len(finals) == 2


def test_a_restart_in_mid_window_loses_nothing_and_doubles_nothing(log):
    for _ in range(5):
        produce_usage(log)
        log.advance(7_000)
        log.restart(new_stage())
    log.advance(2 * MINUTE, step_ms=5_000)
    (window,) = metrics(log, final=True)
    assert (window["attempts"], window["cost_nano_usd"]) == (5, 2_500)


def test_a_restart_after_the_announcement_still_publishes_each_final_once(log):
    for number in range(300):  # more rows than one tick writes
        produce_usage(log, stratum=f"s{number}/easy", partition=number % 4)
    log.advance(MINUTE + GRACE)
    log.restart(new_stage())
    log.advance(MINUTE)
    finals = [window["stratum"] for window in metrics(log, final=True)]
    assert sorted(finals) == sorted({f"s{number}/easy" for number in range(300)})


def test_a_clock_that_jumps_ahead_closes_windows_without_losing_counts(log):
    produce_usage(log)
    log.advance(86_400_000)
    produce_usage(log, at_ms=T0 + 1_000)
    log.advance(3 * MINUTE)
    assert sum(window["attempts"] for window in metrics(log, final=True)) == 2


def test_what_is_no_record_of_ours_becomes_a_dead_letter_and_the_lane_goes_on(log):
    produce_usage(log)
    for topic in ("llm.usage", "llm.results", "llm.feedback.counted", "llm.counts"):
        for value in (b"", b"[]", b"{}", b"null", b"1", b'{"router": 5, "error": null}', b"\xff"):
            log.produce(topic, b"\xff", value, partition=0)
    log.produce("llm.usage", b"k", None, partition=0)
    produce_usage(log)
    log.advance(MINUTE + GRACE)
    (window,) = metrics(log, final=True)
    assert window["attempts"] == 2
    letters = [orjson.loads(record.value) for record in log.records("llm.dead-letter")]
    assert len(letters) == 28
    assert {letter["reason"]["code"] for letter in letters} == {"internal_error"}


def test_a_row_is_deleted_with_its_window(log):
    produce_usage(log)
    stage = new_stage()
    log.advance(MINUTE + GRACE)
    rows = [key for partition in range(4) for key, _ in log.rows(stage, partition).items()]
    assert {key[:1] for key in rows} == {b"a", b"l"}


def test_metric_records_lie_under_their_dimensions_and_times_are_rfc_3339(log):
    produce_usage(log)
    log.advance(MINUTE + GRACE)
    record = log.records("llm.metrics")[-1]
    assert record.key == b"acme/auto/small/math/hard/pilot/interactive"
    assert from_rfc3339(orjson.loads(record.value)["window_start"]) == T0
