"""What follows a failed attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.attempts import Try
from router.core.backoff import BASE_MS, MAX_MS, Again, Policy, backoff_ms, next_step

POOL = Policy(4, frozenset({"small", "mid", "large"}))
DIRECT = Policy(4)
FAR_MS = 60_000


def failed(number, model, status="error", code="http_503", retry_after_ms=0):
    return Try(number=number, model=model, reason="routed", status=status, code=code, retry_after_ms=retry_after_ms)


def after(policy, *tries, left_ms=FAR_MS):
    return next_step(policy, tries, left_ms=left_ms, jitter=0.0)


@pytest.mark.parametrize("status", ["error", "timeout", "truncated"])
def test_same_model_once_more_after_a_backoff_then_the_others(status):
    assert after(POOL, failed(1, "small", status)) == Again("retry", BASE_MS // 2, "small", ())
    assert after(POOL, failed(1, "small", status), failed(2, "small")) == Again("fallback", 0, None, ("small",))
    three = failed(1, "small"), failed(2, "small"), failed(3, "mid", status)
    assert after(POOL, *three) == Again("retry", BASE_MS // 2, "mid", ("small",))


def test_nothing_beyond_the_last_attempt():
    assert after(Policy(1, POOL.models), failed(1, "small")) == "provider_error"
    assert after(POOL, failed(4, "small")) == "provider_error"


def test_nothing_when_every_model_had_its_chance():
    pool = Policy(9, frozenset({"small", "mid"}))
    tries = failed(1, "small"), failed(2, "small"), failed(3, "mid"), failed(4, "mid")
    assert after(pool, *tries) == "provider_error"


def test_rate_limited_falls_back_at_once():
    limited = failed(1, "small", "rate_limited", "rate_limited", retry_after_ms=5_000)
    assert after(POOL, limited) == Again("fallback", 0, None, ("small",))


@pytest.mark.parametrize("policy", [DIRECT, Policy(4, frozenset({"small"}))])
def test_rate_limited_with_no_other_model_waits_as_told(policy):
    limited = [failed(number, "small", "rate_limited", "x", retry_after_ms=5_000) for number in (1, 2, 3, 4)]
    assert after(policy, *limited[:3]) == Again("retry", 5_000, "small", ())
    assert after(policy, *limited) == "rate_limited"
    assert after(policy, limited[0], left_ms=5_000) == "rate_limited"


@pytest.mark.parametrize("code", ["banned", "drained"])
def test_withdrawn_model_falls_back_at_once_and_is_no_failure_of_the_provider(code):
    assert after(POOL, failed(1, "small", code=code)) == Again("fallback", 0, None, ("small",))
    assert after(DIRECT, failed(1, "small", code=code)) == "no_model_available"


def test_withdrawn_models_use_up_no_attempts():
    """A queue that is returned because of a ban was not served: its requests fall back, also where one attempt is all."""
    pool = Policy(1, POOL.models)
    banned = failed(1, "small", code="banned")
    assert after(pool, banned) == Again("fallback", 0, None, ("small",))
    assert after(pool, banned, failed(2, "mid", code="drained")) == Again("fallback", 0, None, ("mid", "small"))
    assert after(pool, banned, failed(2, "mid")) == "provider_error"
    assert (
        after(pool, *(failed(n, m, code="banned") for n, m in enumerate(sorted(pool.models), 1)))
        == "no_model_available"
    )


@given(
    st.integers(1, 6),
    st.frozensets(st.sampled_from("abcdef")),
    st.lists(st.tuples(st.sampled_from(["error", "timeout", "rate_limited", "truncated"]), st.booleans()), min_size=99),
    st.randoms(use_true_random=False),
)
def test_every_request_ends(max_attempts, models, fates, random):
    """Whatever fails or is withdrawn, and whichever model that is not excluded route chooses."""
    tries = []
    for status, withdrawn in fates:
        excluded = {each.model for each in tries}
        model = random.choice(sorted(models - excluded)) if models - excluded else "direct"
        if tries:
            following = after(Policy(max_attempts, models), *tries)
            if not isinstance(following, Again):
                break
            if following.prefer is not None:
                model = following.prefer
        code = "banned" if withdrawn else "http_503"
        tries.append(failed(len(tries) + 1, model, "error" if withdrawn else status, code))
    made = [each for each in tries if not each.withdrawn]
    assert len(made) <= max_attempts
    assert len(tries) - len(made) <= max(1, len(models))


def test_too_large_answer_is_not_asked_for_twice():
    assert after(POOL, failed(1, "small", code="answer_too_large")) == Again("fallback", 0, None, ("small",))
    assert after(DIRECT, failed(1, "small", code="answer_too_large")) == "provider_error"


def test_request_that_is_wrong_or_refused_is_tried_nowhere_else():
    assert after(POOL, failed(1, "small", code="invalid_request")) == "provider_error"
    assert after(POOL, failed(1, "small", "refused", "content_filter")) == "content_refused"


def test_direct_request_never_falls_back():
    assert after(DIRECT, failed(1, "small")) == Again("retry", BASE_MS // 2, "small", ())
    assert after(DIRECT, failed(1, "small"), failed(2, "small")) == "provider_error"


@given(st.integers(0, 100), st.integers(1, 10**8), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_leaves_time(failures, left_ms, jitter):
    wait_ms = backoff_ms(failures, left_ms, jitter)
    assert 0 <= wait_ms <= min(MAX_MS, left_ms / 4)
