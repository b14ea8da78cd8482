"""What follows a failed attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.attempts import Try
from router.core.backoff import BASE_MS, MAX_MS, WAIT_MS, Again, Policy, backoff_ms, next_step

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


CHAINED = Policy(
    6,
    frozenset({"small", "mid", "large"}),
    chains={"error": ("large", "spare"), "refused": ("other",), "timeout": (), "rate_limited": ("mid",)},
)


def test_a_chain_is_followed_in_its_order_and_each_of_it_asked_once():
    assert after(CHAINED, failed(1, "small")) == Again("retry", BASE_MS // 2, "small", ())
    twice = [failed(1, "small"), failed(2, "small")]
    assert after(CHAINED, *twice) == Again("fallback", 0, None, ("small",), chain=("large", "spare"))
    then = [*twice, failed(3, "large", code="http_404")]
    assert after(CHAINED, *then) == Again("fallback", 0, None, ("large", "small"), chain=("spare",))
    assert after(CHAINED, *then, failed(4, "spare", code="http_404")) == "provider_error"


def test_each_kind_of_failure_has_its_chain():
    assert after(CHAINED, failed(1, "small", "refused", "content_filter")).chain == ("other",)
    refused = [failed(1, "small", "refused", "content_filter"), failed(2, "other", "refused", "content_filter")]
    assert after(CHAINED, *refused) == "content_refused"
    assert after(CHAINED, failed(1, "small", "rate_limited", "rate_limited")).chain == ("mid",)
    slow = [failed(n, "small", "timeout", "timeout") for n in (1, 2)]
    assert after(CHAINED, *slow) == "provider_error", "an empty chain: nobody"
    assert after(CHAINED, failed(1, "small", code="invalid_request")) == "provider_error"
    lenient = Policy(4, POOL.models, chains={"invalid_request": ("large",)})
    assert after(lenient, failed(1, "small", code="invalid_request")).chain == ("large",)
    assert after(lenient, failed(1, "small", "refused", "content_filter")) == "content_refused"


def test_a_withdrawn_model_is_no_failure_so_the_policy_chooses():
    assert after(CHAINED, failed(1, "small", code="banned")) == Again("fallback", 0, None, ("small",))


def test_what_is_too_long_goes_to_the_next_larger_window_then_to_an_equal_one_never_to_a_smaller():
    windows = {"tiny": 4_000, "small": 8_000, "peer": 8_000, "mid": 32_000, "large": 128_000}
    pool = Policy(9, frozenset(windows), windows=windows)
    long = [failed(1, "small", code="context_length_exceeded")]
    assert after(pool, *long) == Again("fallback", 0, None, ("small",), chain=("mid", "large", "peer"))
    long.append(failed(2, "mid", code="context_length_exceeded"))
    assert after(pool, *long).chain == ("large",)
    long.append(failed(3, "large", code="context_length_exceeded"))
    assert after(pool, *long) == "context_length_exceeded"
    assert after(DIRECT, long[0]) == "context_length_exceeded"


@pytest.mark.parametrize("code", ["http_404", "http_405", "http_409", "http_302", "unauthorized", "insufficient_quota"])
def test_what_lasts_is_asked_of_another_model_at_once(code):
    assert after(POOL, failed(1, "small", code=code)) == Again("fallback", 0, None, ("small",))


@pytest.mark.parametrize("code", ["http_408", "http_425", "http_500", "http_529", None])
def test_what_passes_is_asked_again(code):
    assert after(POOL, failed(1, "small", code=code)).reason == "retry"


def test_one_endpoint_that_has_had_enough_sends_to_the_next_endpoint_at_once():
    limited = failed(1, "small", "rate_limited", "endpoint_rate_limited", retry_after_ms=30_000)
    assert after(POOL, limited) == Again("retry", 0, "small", ())
    again = failed(2, "small", "rate_limited", "endpoint_rate_limited", retry_after_ms=30_000)
    assert after(POOL, limited, again) == Again("fallback", 0, None, ("small",))
    assert after(DIRECT, limited) == Again("retry", 0, "small", ())


def test_without_a_budget_nothing_is_retried_but_others_that_are_well_are_asked():
    def spent(*tries, down=()):
        return next_step(POOL, tries, left_ms=FAR_MS, jitter=0.0, take=lambda: False, down=frozenset(down))

    assert spent(failed(1, "small")) == Again("fallback", 0, None, ("small",))
    assert spent(failed(1, "small"), down={"mid"}).reason == "fallback"
    assert spent(failed(1, "small"), down={"mid", "large"}) == "provider_error"
    assert next_step(DIRECT, [failed(1, "small")], left_ms=FAR_MS, jitter=0.0, take=lambda: False) == "provider_error"


def test_the_budget_is_asked_only_for_what_it_pays():
    asked = []

    def take():
        asked.append(1)
        return True

    def step(*tries, down=()):
        return next_step(POOL, tries, left_ms=FAR_MS, jitter=0.0, take=take, down=frozenset(down))

    assert step(failed(1, "small", "rate_limited", "rate_limited")).reason == "fallback"
    assert step(failed(1, "small", "refused", "content_filter")) == "content_refused"
    assert not asked
    assert step(failed(1, "small")).reason == "retry"
    assert step(failed(1, "small"), failed(2, "small"), down={"mid", "large"}).reason == "fallback"
    assert len(asked) == 2


def patient(*tries, left_ms=FAR_MS, down=(), take=lambda: True, policy=POOL):
    return next_step(policy, tries, left_ms=left_ms, jitter=0.5, take=take, down=frozenset(down), patient=True)


WAITS = Again("retry", WAIT_MS * 3 // 2, None, (), waits=True)


def test_who_has_time_waits_for_a_budget_and_for_models_that_are_down():
    one = failed(1, "small")
    assert patient(one).prefer == "small"
    assert patient(one, down={"small"}) == Again("fallback", 0, None, ("small",))
    assert patient(one, down=POOL.models) == WAITS
    assert patient(one, take=lambda: False) == Again("fallback", 0, None, ("small",))
    assert patient(one, take=lambda: False, down={"mid", "large"}) == WAITS
    assert patient(one, failed(2, "small"), down={"mid", "large"}) == WAITS
    assert patient(one, policy=DIRECT, down={"small"}) == WAITS
    assert patient(one, policy=DIRECT, take=lambda: False) == WAITS


def test_who_has_time_ends_all_the_same_when_all_was_tried_or_the_deadline_is_near():
    assert patient(failed(4, "small"), down=POOL.models) == "provider_error"
    assert patient(failed(1, "small"), down=POOL.models, left_ms=WAIT_MS) == "provider_error"
    assert patient(failed(1, "small"), failed(2, "small"), policy=DIRECT, down={"small"}) == "provider_error"
    assert patient(failed(1, "small", "refused", "content_filter"), down=POOL.models) == "content_refused"
