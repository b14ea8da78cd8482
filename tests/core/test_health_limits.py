"""core/health: silence, the wait for a slot, limits of a model's own, figures by endpoint."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.backlog import Backlog, Queue
from router.core.evidence import MOST_ENDPOINTS, OTHER_ENDPOINT, Evidence
from router.core.health import EXTEND_MS, SILENT_AFTER_MS, Limits, ModelHealth
from tests.core.test_health import T0, attempts


def queue(now_ms, *, oldest_ms=0, answered_ms=0, interactive=1):
    return Queue({0: Backlog(0, now_ms, now_ms, interactive, 0, oldest_ms, answered_ms)})


def silent(model=None, since_ms=T0):
    """A model nobody answers for; the time when it was found."""
    model, now = model or ModelHealth(), since_ms
    while model.state != "down":
        now += 1_000
        model.stand(queue(now, oldest_ms=since_ms), now)
        model.tick(now)
        assert now < since_ms + 600_000
    return model, now


def test_a_model_that_answers_nothing_is_down_after_eight_seconds():
    model, now = silent()
    assert (now - T0, model.silent) == (SILENT_AFTER_MS, True)
    assert model.reason == "silent for 8 s with 1 open: no worker takes its work, or all its calls hang"


def test_one_whose_calls_are_long_has_more_time():
    model = ModelHealth()
    model.observe(attempts(T0, ok=20, latency_ms=20_000), T0)
    _, now = silent(model)
    assert now - T0 == pytest.approx(60_000, abs=2_000)


def test_its_rest_does_not_end_while_it_is_silent_and_is_known_long_before_it_would():
    model, now = silent()
    for _ in range(300):
        now += 1_000
        model.stand(queue(now, oldest_ms=T0), now)
        model.tick(now)
        assert model.state == "down"
        assert model.until_ms - now >= EXTEND_MS - 1_000
    restored = ModelHealth.from_json(orjson.loads(orjson.dumps(model.to_json())))
    assert restored == model


def test_the_first_answer_ends_it_at_once():
    model, now = silent()
    now += 1_000
    model.stand(queue(now, oldest_ms=T0, answered_ms=now - 10), now)
    model.tick(now)
    assert (model.state, model.silent) == ("probing", False)


def test_when_nothing_waits_any_more_its_rest_goes_on_and_then_it_is_probed():
    model, now = silent()
    until_ms = model.until_ms
    model.stand(queue(now + 1_000, interactive=0), now + 1_000)
    model.tick(now + 1_000)
    assert (model.state, model.silent, model.until_ms) == ("down", False, until_ms)
    model.tick(until_ms)
    assert model.state == "probing"


def test_a_probe_that_is_not_answered_makes_its_rest_longer():
    model, now = silent()
    model.stand(queue(now, interactive=0), now)
    model.tick(model.until_ms)
    first = model.cool_down_ms
    silent(model, since_ms=now + first)
    assert model.cool_down_ms == 2 * first


def test_the_wait_is_known_once_ten_attempts_have_ended_and_none_without_a_queue():
    model = ModelHealth()
    for second in range(10):
        at_ms = T0 + second * 1_000
        model.observe(attempts(at_ms, ok=10, latency_ms=500), at_ms)
    now = T0 + 10_000
    model.stand(queue(now, oldest_ms=now, interactive=400), now)
    assert model.queue_wait_ms == pytest.approx(1_000 * (400 - 5 - 2 * 5**0.5) / 10, rel=0.01)
    model.stand(queue(now, oldest_ms=now, interactive=5), now)
    assert model.queue_wait_ms is None


def test_a_limit_of_its_own_for_p95_takes_it_down_and_slow_probes_do_not_bring_it_back():
    model = ModelHealth(limits=Limits(p95_ms=1_000))
    model.observe(attempts(T0, ok=20, latency_ms=900), T0)
    assert model.state == "up"
    model.observe(attempts(T0 + 1_000, ok=20, latency_ms=3_000), T0 + 1_000)
    assert (model.state, model.reason.split(",")[1]) == ("down", " its limit is 1000 ms")
    until_ms = model.until_ms
    model.tick(until_ms)
    model.observe(attempts(until_ms + 3_000, ok=5, latency_ms=2_000), until_ms + 3_000)
    assert (model.state, model.cool_down_ms) == ("down", 10_000)
    until_ms = model.until_ms
    model.tick(until_ms)
    model.observe(attempts(until_ms + 3_000, ok=5, latency_ms=200), until_ms + 3_000)
    assert model.state == "up"


def test_a_limit_of_its_own_for_errors():
    strict = ModelHealth(limits=Limits(error_rate=0.2))
    strict.observe(attempts(T0, ok=8, errors=2), T0)
    usual = ModelHealth()
    usual.observe(attempts(T0, ok=8, errors=2), T0)
    assert (strict.state, usual.state) == ("down", "degraded")


def test_figures_by_endpoint_are_of_the_window_and_merge():
    model = ModelHealth()
    for second, latency_ms in enumerate((100, 300)):
        evidence = Evidence(T0 // 1000 + second)
        for number in range(100):
            status = "error" if number < 10 else "ok"
            name = "eu" if number % 2 else "us"
            evidence.add(status, None, at_ms=T0, latency_ms=latency_ms, cost_nano_usd=1, endpoint=name)
        model.observe(Evidence.from_json(orjson.loads(orjson.dumps(evidence.to_json()))), T0 + second * 1_000)
    found = model.endpoints()
    assert set(found) == {"eu", "us"}
    assert found["eu"]["attempts"] == 100
    assert found["eu"]["error_rate"] == 0.1
    assert (found["eu"]["p50_ms"], found["eu"]["p99_ms"]) == (
        pytest.approx(100, rel=0.01),
        pytest.approx(300, rel=0.01),
    )
    assert (model.p50_ms, model.p99_ms) == (pytest.approx(100, rel=0.01), pytest.approx(300, rel=0.01))
    model.tick(T0 + 60_000)
    assert (model.endpoints(), model.p50_ms) == ({}, None)


def test_a_worker_that_makes_up_endpoints_fills_no_memory():
    evidence = Evidence(0)
    for number in range(1_000):
        evidence.add("ok", None, at_ms=0, latency_ms=1, cost_nano_usd=0, endpoint=f"e-{number}")
    assert len(evidence.endpoints) == MOST_ENDPOINTS + 1
    assert evidence.endpoints[OTHER_ENDPOINT].ok == 1_000 - MOST_ENDPOINTS


def test_what_an_older_release_kept_is_read():
    evidence = attempts(T0, ok=3)
    assert Evidence.from_json(evidence.to_json()[:10]) == evidence
    model = ModelHealth()
    model.observe(evidence, T0)
    assert ModelHealth.from_json(model.to_json()[:3]).window == model.window


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20_000), st.booleans(), st.booleans(), st.integers(0, 5)), max_size=60))
def test_whatever_was_silent_is_up_again_within_three_minutes_of_answers(steps):
    model, now, since = ModelHealth(), T0, T0
    for elapsed, waits, stored, ok in steps:
        now += elapsed
        model.stand(queue(now, oldest_ms=since if waits else 0), now)
        model.tick(now)
        model.observe(attempts(now, ok=ok), now)
        assert (model.state == "down") == (model.until_ms is not None)
        assert model.state == "down" or not model.silent
        if stored:
            model = ModelHealth.from_json(orjson.loads(orjson.dumps(model.to_json())))
    for _ in range(190):
        now += 1_000
        model.stand(queue(now, answered_ms=now), now)
        model.tick(now)
        model.observe(attempts(now, ok=2), now)
    assert model.state == "up"
