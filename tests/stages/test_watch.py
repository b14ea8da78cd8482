"""stages/watch on the in-memory log: health of models, alerts, orders that nobody could obey."""

from dataclasses import replace

import orjson
import pytest

from router.config import Config
from router.contract.codec import encode
from router.core.incidents import UNPRICED_FORGOTTEN_MS
from router.core.keyring import Keyring
from router.core.records import PricedAttempt
from router.kafka.client import Client
from router.stages.context import Context
from router.stages.watch import build
from router.testing import FakeClock, MemoryLog

T0 = 1_750_000_020_000
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
    at_ms=T0,
    latency_ms=100,
    prompt_tokens=10,
    completion_tokens=20,
    cached_tokens=0,
    reasoning_tokens=0,
    cost_nano_usd=500,
    baseline_cost_nano_usd=500,
    price_version="v1",
    late=False,
)
ORDER = {
    "scope": "model:small",
    "action": "ban",
    "args": {},
    "active": True,
    "by": "ann",
    "reason": "broken",
    "at": "2026-11-01T00:00:00Z",
}


def new_stage():
    config = Config(models={"small": {"unpriced": True}}, pools={"auto": {"models": ["small"]}})
    stage, *_ = build(Context(config=config, client=Client("nowhere:9"), keyring=KEYRING, partitions=4))
    return stage


@pytest.fixture
def log():
    return MemoryLog(new_stage(), partitions=4, clock=FakeClock(T0))


def attempt(log, n=1, *, partition=0, **changes):
    for _ in range(n):
        value = encode(replace(USAGE, at_ms=log.clock(), **changes))
        log.produce("llm.usage", b"k", value, partition=partition)


def values(log, topic):
    return [orjson.loads(record.value) for record in log.records(topic)]


def states(log, model="small"):
    seen = [each["state"] for each in values(log, "llm.health") if each["model"] == model]
    return [state for at, state in enumerate(seen) if at == 0 or seen[at - 1] != state]


def test_a_model_that_answers_is_up_with_its_figures(log):
    attempt(log, 20)
    log.run()
    (health,) = values(log, "llm.health")
    assert (health["model"], health["state"], health["error_rate"], health["until"]) == ("small", "up", 0.0, None)
    assert health["p95_ms"] == pytest.approx(100, rel=0.01)
    assert log.records("llm.health")[0].key == b"small"


def test_failures_in_all_partitions_together_take_a_model_down_and_three_successes_bring_it_back(log):
    for partition in range(4):
        attempt(log, 3, partition=partition, status="error", error_code="http_503")
    log.run()
    assert states(log)[-1] == "down"
    down = values(log, "llm.health")[-1]
    assert down["until"] == "2025-06-15T15:07:05.000Z"
    assert "errors" in down["reason"]
    log.advance(5_000, step_ms=100)
    assert states(log)[-1] == "probing"
    log.advance(1_000)
    for _ in range(3):
        attempt(log)
        log.advance(300)
    assert states(log)[-1] == "up"
    assert values(log, "llm.health")[-1]["reason"] == "3 successes in a row"


def test_models_are_judged_apart(log):
    attempt(log, 12, status="error")
    attempt(log, 12, model="large")
    log.run()
    assert (states(log, "small"), states(log, "large")) == (["down"], ["up"])


def test_rate_limits_make_a_model_degraded(log):
    attempt(log, 15)
    attempt(log, 15, status="rate_limited")
    log.run()
    assert states(log)[-1] == "degraded"


def test_health_is_published_at_most_once_a_second_while_the_state_stays(log):
    for number in range(40):
        attempt(log, 10, latency_ms=100 + 100 * number)
        log.advance(100)
    assert len(values(log, "llm.health")) <= 5
    log.advance(60_000, step_ms=1_000)
    before = len(values(log, "llm.health"))
    log.advance(60_000, step_ms=1_000)
    assert len(values(log, "llm.health")) == before


def test_a_model_nobody_calls_has_no_health_and_an_idle_stage_writes_nothing(log):
    log.advance(60_000, step_ms=1_000)
    assert values(log, "llm.health") == []


def test_the_cool_down_goes_on_over_a_restart(log):
    attempt(log, 12, status="timeout")
    log.run()
    log.restart(new_stage())
    log.advance(4_000, step_ms=100)
    assert states(log) == ["down"]
    log.advance(1_000, step_ms=100)
    assert states(log) == ["down", "probing"]


def test_a_model_that_goes_down_opens_one_alert_that_closes_when_it_is_up(log):
    attempt(log, 12, status="error")
    log.advance(6_000, step_ms=100)
    attempt(log, status="error", latency_ms=0)
    log.advance(1_000)
    assert states(log) == ["down", "probing", "down"]
    log.advance(11_000, step_ms=100)
    attempt(log, 3, latency_ms=0)
    log.run()
    assert states(log)[-1] == "up"
    alerts = values(log, "llm.alerts")
    assert [(each["signal"], each["state"], each["severity"], each["model"]) for each in alerts] == [
        ("model_down", "open", "page", "small"),
        ("model_down", "closed", "page", "small"),
    ]
    assert len({each["id"] for each in alerts}) == 1
    assert log.records("llm.alerts")[0].key == b"none/none/model_down"


def test_an_unpriced_attempt_opens_one_alert_a_model_that_closes_an_hour_after_the_last(log):
    for _ in range(5):
        attempt(log, 2, cost_nano_usd=None)
        log.advance(1_000)
    log.restart(new_stage())
    attempt(log, cost_nano_usd=None)
    log.run()
    (alert,) = values(log, "llm.alerts")
    assert (alert["signal"], alert["severity"], alert["state"], alert["model"]) == (
        "cost_unknown",
        "watch",
        "open",
        "small",
    )
    log.advance(UNPRICED_FORGOTTEN_MS, step_ms=600_000)
    assert [(each["signal"], each["state"]) for each in values(log, "llm.alerts")] == [
        ("cost_unknown", "open"),
        ("cost_unknown", "closed"),
    ]
    assert values(log, "llm.alerts")[-1]["evidence"] == {"attempts": 11}


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ""},
        {"reason": None},
        {"scope": "model:Small"},
        {"scope": "pool:auto"},
        {"action": "explode"},
        {"active": "yes"},
        {"expires_at": "soon"},
        {"action": "pin", "scope": "all"},
    ],
)
def test_an_order_that_no_router_obeys_is_a_dead_letter(log, changes):
    log.produce("llm.control", b"k", orjson.dumps(ORDER | changes))
    log.produce("llm.control", b"k", orjson.dumps(ORDER))
    log.produce("llm.control", b"k", None)
    log.run()
    (letter,) = values(log, "llm.dead-letter")
    assert (letter["reason"]["code"], letter["stage"], letter["topic"]) == ("invalid_control", "watch", "llm.control")


def test_what_is_no_record_of_ours_is_a_dead_letter_and_the_lane_goes_on(log):
    for topic in ("llm.usage", "llm.health.counts"):
        for value in (b"", b"{}", b"[]", b"[1]", b"null", b"\xff"):
            log.produce(topic, b"\xff", value, partition=0)
    attempt(log, 12, status="error")
    log.run()
    assert states(log) == ["down"]
    assert {letter["reason"]["code"] for letter in values(log, "llm.dead-letter")} == {"internal_error"}
