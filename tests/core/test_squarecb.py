"""The contextual policy: what it predicts, what it prefers, and that its probabilities are the ones it says."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.bandit import Arms, Observation, SquareCB
from router.core.bandit.contract import HALF_LIFE_MS, MAX_WEIGHT, TRUST
from router.core.bandit.decay import LANDMARK_MS
from router.core.bandit.squarecb import (
    ANCHOR,
    GAIN,
    PRIOR,
    QUICK,
    QUICK_RIDGE,
    RELEASED,
    RIDGE,
    SIZE,
    UNTAUGHT,
    Regression,
    context_of,
    inverse_gap,
    predict,
    regression_of,
    released,
    worth,
)

DAY_MS = 86_400_000
NOW_MS = LANDMARK_MS + 300 * DAY_MS
ARMS = Arms(models=("small", "large"), baseline="large", margin=0.1)
POLICY = SquareCB()


def seen(model, reward, *, p_ok=0.5, tokens=127, kind="review", at_ms=NOW_MS):
    context = context_of(p_ok, tokens, ())
    return Observation(model=model, kind=kind, source="reviewer", reward=reward, at_ms=at_ms, context=context)


def learned(*observations, arms=ARMS, at_ms=NOW_MS):
    return POLICY.regression(POLICY.update(POLICY.empty(), observations, at_ms), arms, at_ms)


def test_without_rewards_it_says_what_the_classifier_says():
    for p_ok in (0.0, 0.3, 1.0):
        assert predict(UNTAUGHT, "small", context_of(p_ok, 500, ("tools",))) == pytest.approx(p_ok, abs=1e-4)
    assert predict(UNTAUGHT, "small", context_of(None, 500, ())) == 0.5


def test_it_learns_what_the_classifier_does_not_know():
    """Small is good at short prompts only; p_ok says one half of all."""
    dice = random.Random(1)
    rewards = [seen("large", float(dice.random() < 0.9)) for _ in range(400)]
    for _ in range(400):
        tokens = dice.choice((20, 2000))
        rewards.append(seen("small", float(dice.random() < (0.9 if tokens == 20 else 0.2)), tokens=tokens))
    found = learned(*rewards)
    good = [predict(found, "small", context_of(0.5, tokens, ())) for tokens in (20, 2000)]
    large = predict(found, "large", context_of(0.5, 127, ()))
    assert good[0] - large == pytest.approx(0.0, abs=0.1)
    assert good[1] - large == pytest.approx(-0.7, abs=0.15)


def test_a_kind_is_compared_with_itself_alone():
    """Thumbs are rarer than good reviews; both models are equal in each kind."""
    thumbs = [seen(model, float(n % 10 == 0), kind="thumbs") for model in ARMS.models for n in range(300)]
    reviews = [seen("large", float(n % 10 != 0)) for n in range(300)]
    found = learned(*thumbs, *reviews)
    x = context_of(0.5, 127, ())
    assert predict(found, "small", x) == pytest.approx(predict(found, "large", x), abs=0.03)


def test_a_kind_that_one_model_alone_has_says_nothing_of_it():
    found = learned(*[seen("small", 0.0, kind="survey")] * 50)
    assert predict(found, "small", context_of(0.8, 127, ())) == pytest.approx(0.8, abs=0.01)


def test_evidence_that_fades_gives_the_classifier_its_word_back():
    rewards = [seen("large", 1.0, p_ok=0.9)] * 200 + [seen("small", 0.0, p_ok=0.9)] * 200
    x = context_of(0.9, 127, ())
    before, later = learned(*rewards), learned(*rewards, at_ms=NOW_MS + 300 * DAY_MS)
    assert predict(before, "small", x) < 0.1
    assert predict(later, "small", x) > 0.8


raw = st.builds(
    Observation,
    model=st.sampled_from(["small", "mid", "large"]),
    kind=st.sampled_from(["review", "thumbs", "label"]),
    source=st.just("reviewer"),
    reward=st.floats(-0.2, 1.2),
    weight=st.floats(0, 1.5 * MAX_WEIGHT),
    at_ms=st.integers(NOW_MS - 60 * DAY_MS, NOW_MS),
    context=st.builds(context_of, st.floats(0, 1), st.integers(0, 5000), st.sampled_from([(), ("tools",)])),
)


@settings(deadline=None)
@given(st.lists(raw, min_size=1, max_size=60), st.booleans())
def test_estimates_are_those_of_least_squares_on_the_raw_observations(rewards, incident):
    """Recomputed without sums: all observations as rows of one matrix, weighted as they are old; ridges as rows more."""
    arms = Arms(models=("small", "mid", "large"), baseline="large")
    event_ms, kept = NOW_MS - 20 * DAY_MS, 0.25
    state = POLICY.empty()
    if incident:
        state = POLICY.forget(state, "mid", kept, event_ms)
    found = POLICY.regression(POLICY.update(state, rewards, NOW_MS), arms, NOW_MS)

    model, kind = (np.array([getattr(one, name) for one in rewards]) for name in ("model", "kind"))
    x = np.array([one.context for one in rewards])
    age = NOW_MS - np.array([one.at_ms for one in rewards])
    missed = np.clip([one.reward for one in rewards], 0, 1) - (x[:, 1] + 1) / 2
    weight = np.minimum([one.weight for one in rewards], MAX_WEIGHT)
    if incident:
        weight = np.where((model == "mid") & (age > NOW_MS - event_ms), kept * weight, weight)
    slow, quick = weight * 0.5 ** (age / HALF_LIFE_MS), weight * 0.5 ** (age / HALF_LIFE_MS * QUICK)
    for name in set(kind):
        every, own = kind == name, (kind == name) & (model == "large")
        mean = np.average(missed[every], weights=slow[every]) if slow[every].any() else 0.0
        missed[every] -= (slow[own] @ missed[own] + ANCHOR * mean) / (slow[own].sum() + ANCHOR)
    trust = np.array([TRUST[one] for one in kind])

    observed = 0.0
    for name in arms.models:
        own = model == name
        root = np.sqrt(trust * slow)[own]
        rows = np.vstack([root[:, None] * x[own], np.sqrt(RIDGE) * np.eye(SIZE)])
        theta = np.linalg.lstsq(rows, np.append(root * missed[own], np.zeros(SIZE)), rcond=None)[0]
        last = (trust * quick)[own]
        theta[0] += last @ (missed[own] - x[own] @ theta) / (last.sum() + QUICK_RIDGE)
        assert found.theta[name] == pytest.approx(theta, abs=1e-4)
        assert found.n[name] == pytest.approx((trust * slow)[own].sum(), abs=1e-3)
        observed += (trust * slow)[own].sum()
    assert found.gamma == pytest.approx(GAIN * np.sqrt(observed + PRIOR), rel=1e-4)


guesses = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@given(guesses, st.floats(1, 5000))
def test_what_a_choice_loses_is_paid_for_by_what_it_teaches(guessed, gamma):
    """Lemma 3 of Foster and Rakhlin, whatever the truth: regret - gamma / 4 x squared error of the guess <= 2 K / gamma."""
    guess, truth = np.array(guessed).T
    chance = np.array(list(inverse_gap(dict(enumerate(guess)), gamma).values()))
    loses = chance @ (truth.max() - truth)
    teaches = chance @ (guess - truth) ** 2
    assert loses - gamma / 4 * teaches <= 2 * len(guess) / gamma + 1e-9


@given(guesses, st.floats(1, 5000))
def test_inverse_gaps_are_the_formula_and_cost_little(guessed, gamma):
    guess = np.array(guessed)[:, 0]
    chance = np.array(list(inverse_gap(dict(enumerate(guess)), gamma).values()))
    best = int(np.argmax(guess))
    others = np.arange(len(guess)) != best
    assert chance[others] == pytest.approx(1 / (len(guess) + gamma * (guess[best] - guess[others])))
    assert chance[best] == pytest.approx(1 - chance[others].sum())
    assert chance @ (guess[best] - guess) <= (len(guess) - 1) / gamma + 1e-9


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(-5, 5), min_size=1), st.floats(1, 5000))
def test_inverse_gaps_are_probabilities_and_the_best_has_most(values, gamma):
    found = inverse_gap(values, gamma)
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(weight >= 0.0 for weight in found.values())
    best = max(values.values())
    assert max(found.values()) == pytest.approx(max(found[name] for name in values if values[name] == best))


def test_above_the_floor_only_the_price_counts_and_below_it_quality():
    price = {"small": 1.0, "large": 20.0}
    enough = worth({"small": 0.86, "large": 0.95}, price, 0.95, 0.1)
    short = worth({"small": 0.75, "large": 0.95}, price, 0.95, 0.1)
    assert enough["small"] > enough["large"]
    assert short["small"] < short["large"]


def test_what_has_no_evidence_yet_leaves_its_share_to_the_baseline():
    few = Regression({}, {"small": RELEASED / 4}, 100.0)
    assert released({"small": 0.8, "large": 0.2}, few, "large") == {
        "small": pytest.approx(0.2),
        "large": pytest.approx(0.8),
    }
    assert released({"small": 1.0}, few, "large") == {"small": 1.0}


def test_a_regression_survives_json_and_what_is_none_is_refused():
    found = learned(*[seen("small", 1.0), seen("large", 0.0)] * 10)
    value = {
        "theta": {model: list(theta) for model, theta in found.theta.items()},
        "n": dict(found.n),
        "gamma": found.gamma,
    }
    assert regression_of(value) == found
    assert regression_of(None) is None
    for broken in ({}, value | {"theta": {"small": [1.0] * (SIZE - 1)}}, value | {"gamma": "x"}, value | {"theta": 3}):
        with pytest.raises((KeyError, ValueError, TypeError, AttributeError)):
            regression_of(broken)


def test_a_context_has_one_size_whatever_the_request():
    for context in (context_of(None, 0, ()), context_of(1.0, 10**9, ("tools", "images"))):
        assert len(context) == SIZE
        assert all(-2.0 <= one <= 2.0 for one in context)
