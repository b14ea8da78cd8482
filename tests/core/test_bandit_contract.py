import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.bandit import POLICIES, Arms, Observation, Thompson
from router.core.bandit.decay import LANDMARK_MS

DAY_MS = 86_400_000
NOW_MS = LANDMARK_MS + 300 * DAY_MS
ARMS = Arms(models=("small", "mid", "large"), baseline="large", margin=0.1, weights={"small": 0.6, "large": 0.4})

observations = st.builds(
    Observation,
    model=st.sampled_from(["small", "mid", "large", "gone"]),
    kind=st.sampled_from(["review", "thumbs", "label", "retry"]),
    source=st.sampled_from(["user", "reviewer", "judge"]),
    reward=st.floats(0, 1),
    weight=st.floats(0, 100),
    at_ms=st.integers(NOW_MS - 90 * DAY_MS, NOW_MS),
)


@pytest.fixture(params=sorted(POLICIES))
def policy(request):
    return POLICIES[request.param]


def every(test):
    return settings(max_examples=25, deadline=None)(given(st.lists(observations, max_size=30), st.randoms())(test))


@pytest.mark.parametrize("name", sorted(POLICIES))
@every
def test_order_and_batches_change_nothing(name, seen, rng):
    policy = POLICIES[name]
    at_once = policy.update(policy.empty(), seen, NOW_MS)
    shuffled = list(seen)
    rng.shuffle(shuffled)
    cut = rng.randrange(len(seen) + 1)
    in_parts = policy.update(policy.update(policy.empty(), shuffled[:cut], NOW_MS), shuffled[cut:], NOW_MS)
    assert policy.dump(in_parts) == policy.dump(at_once)


@pytest.mark.parametrize("name", sorted(POLICIES))
@every
def test_weights_are_probabilities_of_the_models_that_are_there(name, seen, rng):
    policy = POLICIES[name]
    state = policy.update(policy.empty(), seen, NOW_MS)
    weights = policy.weights(state, ARMS, NOW_MS)
    assert set(weights) == set(ARMS.models)
    assert all(0.0 <= weight <= 1.0 for weight in weights.values())
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(POLICIES))
@every
def test_joined_is_as_if_one_model_had_been_the_other(name, seen, rng):
    policy = POLICIES[name]
    state = policy.update(policy.empty(), seen, NOW_MS)
    other = [dataclasses.replace(one, model="both" if one.model == "small" else one.model) for one in seen]
    wanted = policy.update(policy.empty(), other, NOW_MS)
    assert policy.dump(policy.joined(state, "small", "both")) == policy.dump(wanted)
    twice = policy.joined(policy.joined(state, "mid", "small"), "small", "both")
    gone = [dataclasses.replace(one, model="small" if one.model == "mid" else one.model) for one in seen]
    again = policy.joined(policy.update(policy.empty(), gone, NOW_MS), "small", "both")
    assert policy.dump(twice) == policy.dump(again)


@pytest.mark.parametrize("name", sorted(POLICIES))
@every
def test_state_survives_json_exactly(name, seen, rng):
    policy = POLICIES[name]
    state = policy.update(policy.empty(), seen, NOW_MS)
    again = policy.load(json.loads(json.dumps(policy.dump(state))))
    assert policy.dump(again) == policy.dump(state)
    assert policy.weights(again, ARMS, NOW_MS) == policy.weights(state, ARMS, NOW_MS)


@pytest.mark.parametrize("name", sorted(POLICIES))
@every
def test_update_leaves_the_old_state_as_it_was(name, seen, rng):
    policy = POLICIES[name]
    state = policy.update(policy.empty(), seen, NOW_MS)
    before = json.dumps(policy.dump(state))
    policy.update(state, seen, NOW_MS)
    policy.forget(state, "small", 0.0, NOW_MS)
    assert json.dumps(policy.dump(state)) == before


def test_a_model_may_join_and_leave_at_any_time(policy):
    seen = [Observation(model="small", kind="review", source="reviewer", reward=1.0, at_ms=NOW_MS)] * 500
    seen += [Observation(model="large", kind="review", source="reviewer", reward=1.0, at_ms=NOW_MS)] * 500
    state = policy.update(policy.empty(), seen, NOW_MS)
    wider = Arms(models=("tiny", "small", "large"), baseline="large", margin=0.1, weights={"large": 1.0})
    narrower = Arms(models=("large",), baseline="large", margin=0.1)
    assert policy.weights(state, wider, NOW_MS)["tiny"] == 0.0
    assert policy.weights(state, narrower, NOW_MS) == {"large": 1.0}


def test_without_evidence_a_learning_policy_stays_on_the_baseline(policy):
    arms = Arms(models=ARMS.models, baseline="large", margin=0.1)
    assert policy.weights(policy.empty(), arms, NOW_MS) == {"small": 0.0, "mid": 0.0, "large": 1.0}


def test_a_clock_of_1970_or_of_the_future_does_no_harm(policy):
    odd = [
        Observation(model="small", kind="thumbs", source="user", reward=1.0, at_ms=at_ms)
        for at_ms in (0, 2**53, NOW_MS)
    ]
    weights = policy.weights(policy.update(policy.empty(), odd, NOW_MS), ARMS, NOW_MS)
    assert sum(weights.values()) == pytest.approx(1.0)


def reviews(model, good, bad, *, at_ms=NOW_MS, kind="review", source="reviewer"):
    made = [Observation(model=model, kind=kind, source=source, reward=1.0, at_ms=at_ms)] * good
    return made + [Observation(model=model, kind=kind, source=source, reward=0.0, at_ms=at_ms)] * bad


def thompson_weights(*seen, now_ms=NOW_MS, arms=ARMS):
    policy = Thompson()
    state = policy.update(policy.empty(), [one for part in seen for one in part], now_ms)
    return policy.weights(state, arms, now_ms)


def test_an_equal_cheap_model_gets_the_traffic():
    weights = thompson_weights(reviews("small", 940, 60), reviews("large", 940, 60))
    assert weights["small"] > 0.95


def test_a_certain_model_has_all_the_weight_and_no_more():
    """Two sums of the same densities may round apart: 1.0000000000000002 is no probability."""
    seen = [
        Observation(model="small", kind="review", source="user", reward=1.0, weight=18.0, at_ms=1_792_642_556_744),
        Observation(model="large", kind="review", source="user", reward=0.0, weight=47.0, at_ms=1_792_880_830_992),
    ]
    assert thompson_weights(seen) == {"small": 1.0, "mid": 0.0, "large": 0.0}


def test_a_model_below_the_floor_loses_the_traffic():
    weights = thompson_weights(reviews("small", 700, 300), reviews("mid", 930, 70), reviews("large", 940, 60))
    assert weights["small"] < 0.01
    assert weights["mid"] > 0.9


def test_little_evidence_moves_little():
    weights = thompson_weights(reviews("small", 3, 0), reviews("large", 3, 0))
    assert weights["small"] < 0.05


def test_a_model_better_than_the_baseline_is_good_enough():
    weights = thompson_weights(reviews("small", 990, 10), reviews("large", 700, 300))
    assert weights["small"] > 0.95


def test_double_the_response_rate_moves_no_weight_by_more_than_five_points():
    base = [reviews("small", 470, 30), reviews("large", 470, 30)]
    once = thompson_weights(
        *base,
        reviews("small", 60, 40, kind="thumbs", source="user"),
        reviews("large", 60, 40, kind="thumbs", source="user"),
    )
    twice = thompson_weights(
        *base,
        reviews("small", 120, 80, kind="thumbs", source="user"),
        reviews("large", 60, 40, kind="thumbs", source="user"),
    )
    assert abs(once["small"] - twice["small"]) < 0.05


def test_one_gloomy_kind_of_feedback_for_one_model_alone_moves_little():
    base = [reviews("small", 470, 30), reviews("large", 470, 30)]
    before = thompson_weights(*base)
    after = thompson_weights(*base, reviews("small", 40, 60, kind="thumbs", source="user"))
    assert abs(before["small"] - after["small"]) < 0.05


def test_old_evidence_fades_by_half_lives():
    policy = Thompson()
    state = policy.update(policy.empty(), reviews("small", 80, 0, at_ms=NOW_MS), NOW_MS)
    assert policy.evidence(state, NOW_MS + 3 * policy.half_life_ms)["small"] == pytest.approx(10.0)


def test_a_failed_model_loses_its_traffic_to_fresh_evidence():
    past = NOW_MS - 28 * DAY_MS
    good_past = [*reviews("small", 940, 60, at_ms=past), *reviews("large", 940, 60, at_ms=past)]
    fresh = [*reviews("small", 100, 200), *reviews("large", 282, 18)]
    assert thompson_weights(good_past)["small"] > 0.5
    assert thompson_weights(good_past, fresh)["small"] < 0.05


def test_a_labelled_event_cuts_the_past_also_where_its_rewards_come_late():
    policy = Thompson()
    early = reviews("small", 100, 0, at_ms=NOW_MS - DAY_MS)
    one = policy.forget(policy.update(policy.empty(), early, NOW_MS), "small", 0.25, NOW_MS)
    other = policy.update(policy.forget(policy.empty(), "small", 0.25, NOW_MS), early, NOW_MS)
    assert policy.evidence(one, NOW_MS)["small"] == pytest.approx(policy.evidence(other, NOW_MS)["small"], rel=1e-6)
    fresh = policy.update(one, reviews("small", 10, 0), NOW_MS)
    assert policy.evidence(fresh, NOW_MS)["small"] == pytest.approx(
        policy.evidence(one, NOW_MS)["small"] + 10, abs=0.01
    )


def test_a_storm_of_one_source_cannot_make_certain_and_learning_goes_on():
    policy = Thompson()
    storm = policy.update(policy.empty(), reviews("small", 200_000, 0, kind="thumbs", source="user"), NOW_MS)
    more = policy.update(storm, reviews("small", 0, 200_000, kind="thumbs", source="user"), NOW_MS)
    ((kind_n, _),) = policy._tallies(storm, NOW_MS)["small"].values()
    ((_, after_s),) = policy._tallies(more, NOW_MS)["small"].values()
    assert kind_n == pytest.approx(2000)
    assert after_s == pytest.approx(1000, rel=0.01)


def test_clipped_weight_is_reported():
    policy = Thompson()
    heavy = Observation(model="small", kind="review", source="reviewer", reward=1.0, weight=80.0, at_ms=NOW_MS)
    assert policy.update(policy.empty(), [heavy], NOW_MS).clipped == 30_000


def test_probability_matching_over_random_worlds_keeps_bad_models_out():
    rng = random.Random(7)
    for _ in range(20):
        quality = {"small": rng.uniform(0.5, 0.75), "large": rng.uniform(0.9, 0.98)}
        seen = [
            Observation(model=m, kind="review", source="reviewer", reward=float(rng.random() < q), at_ms=NOW_MS)
            for m, q in quality.items()
            for _ in range(300)
        ]
        assert thompson_weights(seen)["small"] < 0.05
