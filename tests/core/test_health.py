"""core/health and core/evidence: the breaker's rules, and that it is never stuck."""

import copy
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.evidence import NEUTRAL, Evidence
from router.core.health import (
    DOWN_ERRORS_IN_A_ROW,
    FIRST_COOL_DOWN_MS,
    LONGEST_COOL_DOWN_MS,
    PROBES,
    WINDOW_S,
    ModelHealth,
)

T0 = 1_700_000_000_000


def attempts(at_ms, *, ok=0, errors=0, limited=0, latency_ms=100) -> Evidence:
    """The ok ones first."""
    evidence = Evidence(at_ms // 1000)
    for status, n in (("ok", ok), ("error", errors), ("rate_limited", limited)):
        for _ in range(n):
            evidence.add(status, None, at_ms=at_ms, latency_ms=latency_ms, cost_nano_usd=1)
    return evidence


def model_down(at_ms=T0) -> ModelHealth:
    model = ModelHealth()
    model.observe(attempts(at_ms, errors=10), at_ms)
    assert model.state == "down"
    return model


def model_probing(at_ms=T0) -> ModelHealth:
    model = model_down(at_ms - FIRST_COOL_DOWN_MS)
    model.tick(at_ms)
    assert model.state == "probing"
    return model


def test_a_few_errors_are_no_evidence():
    model = ModelHealth()
    model.observe(attempts(T0, ok=1, errors=7), T0)
    assert model.state == "up"


def test_eight_errors_in_a_row_take_a_model_down():
    model = ModelHealth()
    for second in range(DOWN_ERRORS_IN_A_ROW):
        assert model.state == "up"
        model.observe(attempts(T0 + second * 1000, errors=1), T0 + second * 1000)
    assert (model.state, model.reason) == ("down", "8 errors in a row")
    assert model.until_ms == T0 + 7_000 + FIRST_COOL_DOWN_MS


def test_a_success_breaks_the_row():
    model = ModelHealth()
    for ok, errors in ((19, 7), (1, 0), (0, 7)):
        model.observe(attempts(T0, ok=ok, errors=errors), T0)
    assert model.state != "down"


def test_half_of_ten_attempts_failing_take_a_model_down():
    model = ModelHealth()
    model.observe(attempts(T0, ok=5, errors=5), T0)
    assert (model.state, model.reason) == ("down", f"5 errors of 10 attempts in {WINDOW_S} s")


def test_errors_that_left_the_window_do_not_count():
    model = ModelHealth()
    model.observe(attempts(T0, ok=1, errors=5), T0)
    later = T0 + (WINDOW_S + 1) * 1000
    model.observe(attempts(later, ok=5), later)
    assert (model.state, model.error_rate) == ("up", 0.0)


def test_evidence_that_is_read_long_after_it_happened_is_ignored():
    model = ModelHealth()
    model.observe(attempts(T0, errors=100), T0 + 90_000)
    assert model.state == "up"


def test_a_tenth_failing_is_degraded_until_it_is_clearly_better():
    model = ModelHealth()
    model.observe(attempts(T0, ok=18, errors=2), T0)
    assert (model.state, model.reason) == ("degraded", f"error rate 0.10 in {WINDOW_S} s")
    model.observe(attempts(T0 + 1000, ok=10), T0 + 1000)
    assert model.state == "degraded"
    model.observe(attempts(T0 + 2000, ok=30), T0 + 2000)
    assert model.state == "up"


def test_rate_limits_degrade_and_never_take_down():
    model = ModelHealth()
    for second in range(60):
        at = T0 + second * 1000
        model.observe(attempts(at, limited=100), at)
        model.tick(at)
    assert (model.state, model.error_rate) == ("degraded", None)


def test_a_degraded_model_without_traffic_is_up_again():
    model = ModelHealth()
    model.observe(attempts(T0, ok=8, errors=2), T0)
    assert model.state == "degraded"
    model.tick(T0 + (WINDOW_S + 1) * 1000)
    assert (model.state, model.error_rate) == ("up", None)


def test_the_cool_down_ends_in_probing_and_three_successes_end_that():
    model = model_probing()
    model.observe(attempts(T0 + 1000, ok=PROBES - 1), T0 + 1000)
    assert model.state == "probing"
    model.observe(attempts(T0 + 2000, ok=1), T0 + 2000)
    assert (model.state, model.until_ms) == ("up", None)
    model.tick(T0 + 3000)
    assert model.error_rate is None  # nothing of the outage is left in the window


def test_one_failure_while_probing_doubles_the_cool_down_up_to_a_minute():
    model, at, seen = model_down(), T0, []
    for _ in range(6):
        at = model.until_ms
        model.tick(at)
        model.observe(attempts(at + 200, ok=1, errors=1), at + 200)
        seen.append(model.until_ms - at - 200)
    assert seen == [10_000, 20_000, 40_000, LONGEST_COOL_DOWN_MS, LONGEST_COOL_DOWN_MS, LONGEST_COOL_DOWN_MS]


def test_a_model_that_falls_again_at_once_waits_longer_and_one_that_held_does_not():
    model = model_probing()
    model.observe(attempts(T0 + 1000, ok=PROBES), T0 + 1000)
    again = copy.deepcopy(model)
    again.observe(attempts(T0 + 9_000, errors=10), T0 + 9_000)
    assert again.until_ms == T0 + 9_000 + 2 * FIRST_COOL_DOWN_MS
    model.observe(attempts(T0 + 600_000, errors=10), T0 + 600_000)
    assert model.until_ms == T0 + 600_000 + FIRST_COOL_DOWN_MS


def test_late_answers_of_calls_made_during_the_outage_do_not_count_against_a_model_that_came_back():
    model = model_probing()
    model.observe(attempts(T0 + 500, errors=20, latency_ms=30_000), T0 + 500)
    assert model.state == "probing"
    model.observe(attempts(T0 + 900, ok=PROBES), T0 + 900)
    model.observe(attempts(T0 + 1500, errors=20, latency_ms=30_000), T0 + 1500)
    assert model.state == "up"


def test_a_worker_that_lies_about_latency_is_believed_for_two_minutes_at_most():
    model, at = model_probing(), T0
    while model.state == "probing":
        at += 1000
        assert at < T0 + 125_000
        model.observe(attempts(at, ok=1, latency_ms=10**15), at)
    assert model.state == "up"


def run(model: ModelHealth, latency_ms: int, seconds: int, at_ms: int) -> int:
    for _ in range(seconds):
        at_ms += 1000
        model.observe(attempts(at_ms, ok=20, latency_ms=latency_ms), at_ms)
    return at_ms


def test_a_model_three_times_slower_than_usual_is_degraded():
    model = ModelHealth()
    at = run(model, 1_000, 100, T0)
    assert model.state == "up"
    at = run(model, 2_500, 40, at)
    assert model.state == "up"
    at = run(model, 4_000, 40, at)
    assert (model.state, model.reason[:3]) == ("degraded", "p95")
    run(model, 1_000, 40, at)
    assert model.state == "up"


def test_a_model_seen_for_less_than_a_minute_has_no_usual_pace():
    model = ModelHealth()
    at = run(model, 100, 30, T0)
    run(model, 10_000, 10, at)
    assert model.state == "up"


@pytest.mark.parametrize("code", sorted(NEUTRAL))
def test_an_error_of_the_request_says_nothing_about_the_model(code):
    evidence = Evidence(0)
    evidence.add("error", code, at_ms=500, latency_ms=5, cost_nano_usd=None)
    assert (evidence.ok, evidence.errors, evidence.unpriced) == (0, 0, 1)


@pytest.mark.parametrize("status", ["error", "timeout", "truncated"])
def test_what_gave_no_usable_answer_is_an_error(status):
    evidence = Evidence(0)
    evidence.add(status, "http_503", at_ms=500, latency_ms=5, cost_nano_usd=0)
    assert (evidence.errors, evidence.trailing_errors, evidence.error_began_ms) == (1, 1, 495)


ATTEMPT = st.tuples(
    st.sampled_from(["ok", "error", "timeout", "rate_limited", "refused"]), st.one_of(st.none(), st.integers(0, 10**6))
)


def evidence_of(found) -> Evidence:
    evidence = Evidence(T0 // 1000)
    for status, latency_ms in found:
        evidence.add(status, None, at_ms=T0, latency_ms=latency_ms, cost_nano_usd=None)
    return evidence


@settings(deadline=None)
@given(st.lists(ATTEMPT, max_size=20), st.lists(ATTEMPT, max_size=20))
def test_evidence_of_a_second_merges_to_what_counting_together_gives(a, b):
    merged = evidence_of(a)
    merged.merge(evidence_of(b))
    assert merged == evidence_of(a + b)
    assert Evidence.from_json(orjson.loads(orjson.dumps(merged.to_json()))) == merged


STEPS = st.lists(
    st.tuples(
        st.integers(-2_000, 40_000),
        st.integers(0, 12),
        st.integers(0, 12),
        st.integers(0, 12),
        st.integers(0, 200_000),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_happened_a_model_that_answers_again_is_up_within_three_minutes(steps):
    model, now = ModelHealth(), T0
    for elapsed, ok, errors, limited, latency, stored in steps:
        now += elapsed
        model.tick(now)
        model.observe(attempts(now, ok=ok, errors=errors, limited=limited, latency_ms=latency), now)
        if stored:
            model = ModelHealth.from_json(orjson.loads(orjson.dumps(model.to_json())))
        assert (model.state == "down") == (model.until_ms is not None)
        assert len(model.window) <= 2 * LONGEST_COOL_DOWN_MS // 1000 + WINDOW_S
    for _ in range(190):
        now += 1000
        model.tick(now)
        if model.state != "down":
            model.observe(attempts(now, ok=2, latency_ms=100), now)
    assert model.state in {"up", "degraded"}
    assert model.state == "up" or model.reason.startswith("p95")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_model_that_always_fails_is_tried_less_and_less(seed):
    rng, model, now, probes = random.Random(seed), ModelHealth(), T0, 0
    for _ in range(600):
        now += 1000
        was_down = model.state == "down"
        model.tick(now)
        probes += was_down and model.state == "probing"
        if model.state != "down":
            model.observe(attempts(now, errors=rng.randint(1, 5)), now)
    assert model.state in {"down", "probing"}
    assert probes <= 15
