"""core/reward: which feedback becomes evidence, and for whom."""

from dataclasses import replace

import pytest

from router.core.reward import is_evidence, reward_key, reward_of
from router.core.token import FeedbackFacts

FACTS = FeedbackFacts(
    request_id="0" * 32,
    tenant="acme",
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    first_model="small",
    model="small",
    answered_by_attempt=1,
    cohort="pilot",
    propensity=0.93,
    policy_version="thompson:7",
    expires_at_ms=10**13,
)


def reward(**changes):
    return reward_of(
        replace(FACTS, **changes), kind="thumbs", source="user", value=1.0, weight=2.0, at="2026-11-01T00:00:00Z"
    )


def test_a_reward_says_what_was_decided_and_what_was_thought_of_it():
    found = reward()
    assert (found.first_model, found.model, found.propensity, found.policy_version) == (
        "small",
        "small",
        0.93,
        "thompson:7",
    )
    assert (found.reward, found.weight, found.kind, found.source) == (1.0, 2.0, "thumbs", "user")
    assert reward_key(found.pool, found.stratum) == "auto/math/hard"


@pytest.mark.parametrize(
    "changes", [{"pool": None, "stratum": None, "cohort": "direct"}, {"cohort": "direct"}, {"cohort": "shadow"}]
)
def test_a_request_that_no_pool_decided_gives_no_reward(changes):
    assert reward(**changes) is None


@pytest.mark.parametrize("cohort", ["pilot", "control", "holdout"])
def test_pool_traffic_is_evidence_for_the_model_that_was_chosen_and_answered(cohort):
    assert is_evidence(reward(cohort=cohort))


def test_a_pin_is_rewarded_but_is_no_evidence():
    assert not is_evidence(reward(cohort="pinned"))


def test_an_answer_by_a_fallback_model_moves_nobody():
    assert not is_evidence(reward(model="large", answered_by_attempt=2))
