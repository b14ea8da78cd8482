"""What one tenant may say beside the others: the cap, and both policies under a storm."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.bandit import POLICIES, Arms, Observation
from router.core.bandit.decay import LANDMARK_MS
from router.core.bandit.voices import LEAST, VOICES, cap, contested, shares, voice_of

DAY_MS = 86_400_000
NOW_MS = LANDMARK_MS + 300 * DAY_MS
ARMS = Arms(models=("small", "large"), baseline="large", margin=0.1)
LEARNING = ("thompson", "squarecb")

amounts = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


@given(amounts, st.floats(0.05, 1))
def test_nobody_has_more_than_the_set_share_or_what_anybody_may_say(said, most):
    limit = cap(said, most, LEAST)
    kept = [min(one, limit) for one in said]
    assert all(one <= max(LEAST, most * sum(kept)) * (1 + 1e-9) for one in kept)


@given(amounts, st.floats(0.05, 1))
def test_it_is_the_largest_such_cap(said, most):
    limit = cap(said, most, LEAST)
    if LEAST < limit < max(said):
        kept = [min(one, limit * 1.01) for one in said]
        assert max(kept) > most * sum(kept)


@given(amounts)
def test_with_a_half_only_the_loudest_is_cut_and_to_what_the_others_say(said):
    limit = cap(said, 0.5, LEAST)
    others = sum(said) - max(said)
    assert min(max(said), limit) == pytest.approx(min(max(said), max(others, LEAST)))
    assert all(one <= limit * (1 + 1e-9) for one in sorted(said)[:-1])


def test_one_alone_counts_whole_and_so_it_does_beside_one_word_of_another():
    alone, beside = [{"small": 5000.0}], [{"small": 5000.0}, {"small": 1.0}]
    assert shares(alone, 0.5, contested(alone)) == [{}]
    assert shares(beside, 0.5, contested(beside)) == [{}, {}]
    enough = [{"small": 5000.0}, {"small": LEAST}]
    assert shares(enough, 0.5, contested(enough)) == [{"small": pytest.approx(LEAST / 5000)}, {}]


def test_a_tenant_has_one_place_whatever_its_name_holds():
    names = ["acme", "", None, "\ud800", "x" * 128, "a/b", "\0"]
    assert all(0 <= voice_of(name) < VOICES for name in names)
    assert voice_of(None) == voice_of("")


def opinions(model, n, share, *, kind="thumbs", at_ms=NOW_MS, seed=1):
    rng = random.Random(seed)
    return [
        Observation(model=model, kind=kind, source="user", reward=float(rng.random() < share), at_ms=at_ms)
        for _ in range(n)
    ]


def voice(policy, *parts):
    return policy.update(policy.empty(), [one for part in parts for one in part], NOW_MS)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_voices_that_nobody_cuts_are_as_one(name):
    policy = POLICIES[name]
    parts = [opinions(model, n, 0.8, seed=n) for n, model in enumerate(["small", "large", "small", "gone"], 30)]
    at_once = voice(policy, *parts)
    for most in (1.0, 0.9):
        pooled, cut = policy.pooled([voice(policy, part) for part in parts], most, NOW_MS)
        assert policy.dump(pooled) == policy.dump(at_once)
        assert cut == {}


def test_nobody_is_a_state_too():
    for policy in POLICIES.values():
        pooled, cut = policy.pooled([], 0.5, NOW_MS)
        assert policy.weights(pooled, ARMS, NOW_MS)["large"] == 1.0
        assert cut == {}


@pytest.mark.parametrize("name", LEARNING)
def test_a_storm_moves_weights_as_far_as_all_others_together_and_no_further(name):
    policy = POLICIES[name]
    others = [
        voice(policy, opinions("small", 1000, 0.95, seed=n), opinions("large", 1000, 0.95, seed=n + 9))
        for n in range(4)
    ]
    even, storm, greater = (voice(policy, opinions("small", n, 0.0)) for n in (4000, 10_000, 20_000))
    found = [policy.weights(policy.pooled([*others, one], 0.5, NOW_MS)[0], ARMS, NOW_MS) for one in (even, storm)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    state, cut = policy.pooled([*others, greater], 0.5, NOW_MS)
    assert policy.weights(state, ARMS, NOW_MS) == pytest.approx(found[1], abs=1e-6)
    assert cut == {"small": pytest.approx(1 - 8000 / 24_000)}
    assert policy.evidence(state, NOW_MS)["small"] == pytest.approx(8000, rel=1e-3)


@pytest.mark.parametrize("name", LEARNING)
def test_praise_of_one_tenant_releases_no_model_that_the_others_find_bad(name):
    policy = POLICIES[name]
    others = [
        voice(policy, opinions("small", 400, 0.4, seed=n), opinions("large", 400, 0.95, seed=n + 9)) for n in range(4)
    ]
    praise = voice(policy, opinions("small", 10_000, 1.0))
    free = policy.weights(policy.pooled([*others, praise], 1.0, NOW_MS)[0], ARMS, NOW_MS)
    bound = policy.weights(policy.pooled([*others, praise], 0.5, NOW_MS)[0], ARMS, NOW_MS)
    assert free["small"] > 0.5
    assert bound["small"] < 0.1


def test_with_a_small_share_the_others_keep_the_weights_where_they_were():
    """Twenty tenants, and one of them says that the model is always bad: at 2 % of the evidence that is no news."""
    policy = POLICIES["thompson"]
    others = [
        voice(policy, opinions("small", 400, 0.95, seed=n), opinions("large", 400, 0.95, seed=n + 30))
        for n in range(19)
    ]
    storm = voice(policy, opinions("small", 10_000, 0.0))
    before = policy.weights(policy.pooled(others, 0.05, NOW_MS)[0], ARMS, NOW_MS)
    after = policy.weights(policy.pooled([*others, storm], 0.05, NOW_MS)[0], ARMS, NOW_MS)
    free = policy.weights(policy.pooled([*others, storm], 1.0, NOW_MS)[0], ARMS, NOW_MS)
    assert before["small"] > 0.9
    assert after["small"] > before["small"] - 0.1
    assert free["small"] < 0.01


def test_a_storm_of_an_hour_does_not_fill_what_squarecb_knows_of_late():
    policy = POLICIES["squarecb"]
    past = [NOW_MS - day * DAY_MS for day in range(20)]
    others = [
        voice(policy, *(opinions(model, 20, 0.95, at_ms=at_ms, seed=n) for at_ms in past for model in ARMS.models))
        for n in range(4)
    ]
    storm = voice(policy, opinions("small", 10_000, 0.0))
    state, _ = policy.pooled([*others, storm], 0.5, NOW_MS)
    lately = [policy._said(one, NOW_MS, 18, policy.half_life_ms // 20)["small"] for one in (*others, state)]
    assert lately[-1] == pytest.approx(2 * sum(lately[:-1]), rel=1e-3)
