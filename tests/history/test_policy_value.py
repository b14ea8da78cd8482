"""A candidate is judged by what the log could have done, and what it could not is said."""

import random
import re
from dataclasses import replace

import pytest

from router.cli.strata import page
from router.contract.codec import decode, encode
from router.contract.errors import ConfigError
from router.contract.records import Decision, Origin, Reward
from router.core.audit import decision_record
from router.core.decide import decide
from router.core.facts import Assignment
from router.core.ope import EvaluationError
from router.history.policy_value import Candidate, Log, Tally, candidate_of
from router.history.splits import TOKENS, remedy, suggestions
from tests.core.routing import MODELS, facts, snapshot

ORIGIN = Origin(topic="llm.requests", partition=0, offset=0)
GOOD = {"small": 0.5, "mid": 0.8, "large": 0.95}


def world(**changed):
    return snapshot(holdout_percent=0.0, epsilon=0.3, **changed)


def decided(number, snap, **changed):
    asked = facts(f"{number:032x}", **changed)
    record = decision_record(asked, decide(asked, snap), snapshot_version=snap.version, lane="batch", origin=ORIGIN)
    return decode(Decision, encode(record))


def judged(decision, dice, kind="review"):
    return Reward(
        request_id=decision.request_id, pool="auto", stratum=decision.stratum, first_model=decision.model,
        model=decision.model, answered_by_attempt=1, cohort="pilot", propensity=decision.propensity,
        policy_version=decision.policy_version, kind=kind, source="reviewer",
        reward=float(dice.random() < GOOD[decision.model]), weight=1.0, at=decision.at,
    )  # fmt: skip


def tally_of(decisions, candidate, share=1.0):
    dice = random.Random(1)
    rewards = {one.request_id: [judged(one, dice)] for one in decisions if dice.random() < share}
    tally = Tally("auto", candidate, rewards)
    for one in decisions:
        tally.add(one)
    return tally.found()


@pytest.mark.parametrize("model", MODELS)
def test_the_worth_of_each_model_is_found_from_a_log_of_all(model):
    found = tally_of([decided(n, world()) for n in range(1500)], Candidate({model: 1.0}))
    value = found.kinds["review"]
    assert value.dr.low <= GOOD[model] <= value.dr.high
    assert value.dr.high - value.dr.low < 0.15
    assert found.unsupported == 0.0
    assert found.decisions == value.judged == 1500


def test_the_cost_is_that_of_the_candidates_choices():
    decisions = [decided(n, world()) for n in range(50)]
    costs = {one.model: one.expected_cost_nano_usd for one in decisions[0].candidates}
    assert tally_of(decisions, Candidate({"mid": 1.0})).candidate_nano_usd == pytest.approx(costs["mid"])


def test_what_was_excluded_does_not_come_back():
    snap = world()
    decisions = [decided(n, snap, exclude=("small",)) for n in range(60)]
    found = tally_of(decisions, Candidate({"small": 0.5, "mid": 0.5}))
    assert found.kinds["review"].dr.value == pytest.approx(GOOD["mid"], abs=0.2)
    assert found.unsupported == 0.0


def test_strata_may_have_weights_of_their_own():
    candidate = Candidate({"small": 1.0}, {"math/hard": {"large": 3.0, "mid": 1.0}})
    assert candidate.among("math/hard", ["small", "mid", "large"]) == {"small": 0.0, "mid": 0.25, "large": 0.75}
    assert candidate.among("other", ["small", "large"]) == {"small": 1.0, "large": 0.0}
    assert candidate.among("other", ["mid", "large"]) == {"mid": 0.0, "large": 1.0}


def test_a_log_without_exploration_is_refused_and_says_why():
    snap = snapshot(holdout_percent=0.0, epsilon=0.0, weights={})
    with pytest.raises(EvaluationError, match=r"100\.0% of what it would do could never have happened.*epsilon is 0"):
        tally_of([decided(n, snap) for n in range(50)], Candidate({"small": 1.0}))


def test_traffic_that_nobody_drew_does_not_count():
    snap = snapshot(holdout_percent=100.0)
    with pytest.raises(EvaluationError, match="no decision of its pilot"):
        tally_of([decided(n, snap) for n in range(50)], Candidate({"large": 1.0}))


def test_a_conversation_is_one_voice():
    weights = {"small": 0.25, "mid": 0.25, "large": 0.5}
    decisions = []
    for n in range(400):
        kept = Assignment(
            model=list(MODELS)[n % 3], stratum="math/hard", cohort="pilot", weights=weights, policy_version="thompson:1"
        )
        decisions.append(decided(n, world(), session=f"s{n % 30}", assignment=kept))
    assert tally_of(decisions, Candidate({"small": 1.0})).kinds["review"].effective <= 30


def test_a_stratum_that_should_be_two_is_found_in_the_log():
    """Small fails on long prompts."""
    dice, snap, log = random.Random(3), world(), Log()
    for number in range(1500):
        one = decided(number, snap, prompt_tokens=dice.choice((50, 900)))
        long = one.features["prompt_tokens"] == 900
        good = 0.2 if one.model == "small" and long else 0.9
        log.judged.append((one, replace(judged(one, dice), reward=float(dice.random() < good))))
    (split,) = suggestions(log, "large")
    assert (split.model, split.feature, split.edge) == ("small", TOKENS, 50.0)
    assert "max_tokens = 50" in remedy(split)
    assert "math/hard, small" in page([split], "auto", 1500)
    assert "no split" in page([], "auto", 3)


def test_too_few_judgements_are_no_estimate():
    found = tally_of([decided(n, world()) for n in range(30)], Candidate({"small": 1.0}), share=0.2)
    assert "judgements; 20 at least" in found.kinds["review"]
    assert "error" in found.document()["kinds"]["review"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[weights]\nsmall = 'x'", "weights.small: a number of 0 or more"),
        ("[weights]\nsmall = -1", "weights.small: a number"),
        ("[weights]\nsmall = 0", "all weights are 0"),
        ("[weights]\nnobody = 1", "there is no model 'nobody'; models: small, mid, large"),
        ("[strata.'math/hard']\nsmall = 1", "weights: a table of models"),
        ("weight = 1", "weight: only weights, strata and p_ok_margin"),
        ("[weights]\nsmall = 1\n[strata]\n'math/hard' = 3", "strata.math/hard: a table"),
        ("[weights", "candidate.toml: "),
    ],
)
def test_what_is_wrong_with_a_candidate_is_said(tmp_path, text, says):
    file = tmp_path / "candidate.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        candidate_of(str(file), MODELS)


def test_a_candidate_is_a_model_or_a_file(tmp_path):
    assert candidate_of("mid", MODELS) == Candidate({"mid": 1.0})
    file = tmp_path / "candidate.toml"
    file.write_text("[weights]\nsmall = 0.7\nlarge = 0.3\n[strata.'math/hard']\nlarge = 1\n")
    assert candidate_of(str(file), MODELS) == Candidate({"small": 0.7, "large": 0.3}, {"math/hard": {"large": 1.0}})
    with pytest.raises(ConfigError, match="neither a model nor a file"):
        candidate_of("absent", MODELS)


def test_a_candidate_may_go_by_the_classifiers_word(tmp_path):
    said = [{"small": 0.9, "mid": 0.9, "large": 0.92}, {"small": 0.4, "mid": 0.89, "large": 0.92}, {}]
    decisions = [decided(n, world(), p_ok=said[n % 3]) for n in range(6)]
    candidate = Candidate({"large": 1.0}, margin=0.05, baseline="large")
    chosen = [candidate.of(one, list(MODELS)) for one in decisions[:3]]
    assert [max(one, key=one.get) for one in chosen] == ["small", "mid", "large"]
    assert candidate.of(decisions[0], ["mid", "large"]) == {"mid": 1.0, "large": 0.0}
    file = tmp_path / "candidate.toml"
    file.write_text("p_ok_margin = 0.05\n")
    assert candidate_of(str(file), MODELS, "large") == candidate
    assert tally_of(decisions * 20, candidate).unsupported == 0.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("p_ok_margin = 2", "from -1 to 1"),
        ("p_ok_margin = true", "from -1 to 1"),
        ('p_ok_margin = 0.1\n[strata."a/b"]\nsmall = 1', "not both"),
    ],
)
def test_a_margin_that_makes_no_sense_is_refused(tmp_path, text, problem):
    file = tmp_path / "candidate.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        candidate_of(str(file), MODELS, "large")
