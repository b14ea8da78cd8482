"""Which requests a cascade tries, and what it is expected to cost."""

from dataclasses import replace

import pytest

from router.core.cascade import USUAL_SHARE, Calibrated, CascadeFacts, Trial
from router.core.decide import decide
from router.core.facts import Assignment, Choice
from router.core.records import First
from router.core.snapshot import Snapshot, StratumWeights
from tests.core.routing import facts, health, order, pool, snapshot

CASCADE = CascadeFacts(cheap="small", to="large", threshold=0.5, scale="x")
ALL_SMALL = {"policy": "fixed", "weights": {"small": 1.0}, "holdout_percent": 0.0, "cascade": CASCADE}


def asked(*orders, found=None, **changed):
    pools = {"auto": pool(**ALL_SMALL | changed.pop("pool", {}))}
    return decide(found or facts(**changed.pop("facts", {})), snapshot(*orders, pools=pools, **changed))


def test_the_cheapest_model_is_on_trial():
    choice = asked()
    assert (choice.model, choice.trial) == ("small", Trial("large", 0.5, scale="x"))


def test_a_calibrated_stratum_has_a_threshold_of_its_own():
    learned = StratumWeights(
        weights={}, policy_version="fixed:1", cascade=Calibrated(threshold=0.8, escalates=0.4, scale="x", shown=True)
    )
    assert asked(weights={("auto", "math/hard"): learned}).trial == Trial("large", 0.8, scale="x", calibrated=True)
    assert asked(weights={("auto", "math/easy"): learned}).trial == Trial("large", 0.5, scale="x")


def test_the_expected_cost_is_that_of_both_as_often_as_it_escalates():
    plain = {one.model: one.expected_cost_nano_usd for one in asked(pool={"cascade": None}).candidates}
    for share, weights in (
        (USUAL_SHARE, {}),
        (
            0.4,
            {
                ("auto", "math/hard"): StratumWeights(
                    weights={},
                    policy_version="fixed:1",
                    cascade=Calibrated(threshold=0.8, escalates=0.4, scale="x", shown=True),
                )
            },
        ),
    ):
        costs = {one.model: one.expected_cost_nano_usd for one in asked(weights=weights).candidates}
        assert costs["small"] == plain["small"] + round(share * plain["large"])
        assert costs["large"] == plain["large"]


@pytest.mark.parametrize(
    "changed",
    [
        {"pool": {"holdout_percent": 100.0}},
        {"pool": {"rollout_percent": 0.0}},
        {"pool": {"policy": "observe"}},
        {"pool": {"weights": {"mid": 1.0}}},
        {"pool": {"cascade": None}},
        {"facts": {"form": "other"}},
        {"facts": {"form": "stream"}, "pool": {"cascade": replace(CASCADE, hold_streams=False)}},
        {"facts": {"target": "small"}},
    ],
)
def test_nothing_else_is(changed):
    assert asked(**changed).trial is None


def test_a_stream_waits_for_the_check_unless_told_otherwise():
    assert asked(facts={"form": "stream"}).trial is not None


def test_where_nobody_could_be_asked_next_there_is_no_trial():
    assert asked(order("model:large", "ban")).trial is None
    assert asked(health={"large": health("down")}).trial is None
    assert asked(facts={"needs": ("tools",)}).trial is not None


def test_an_order_of_a_person_is_no_trial():
    choice = asked(order("pool:auto", "pin", model="small"))
    assert (choice.model, choice.cohort, choice.trial) == ("small", "pinned", None)


def test_both_calls_must_fit_into_what_the_request_may_cost():
    costs = {one.model: one.expected_cost_nano_usd for one in asked(pool={"cascade": None}).candidates}
    both = costs["small"] + costs["large"]
    assert asked(facts={"max_cost_nano_usd": both}).trial is not None
    alone = asked(facts={"max_cost_nano_usd": both - 1})
    assert (alone.model, alone.trial) == ("small", None)


def test_what_is_only_observed_has_no_threshold_and_costs_nothing_more():
    choice = asked(pool={"cascade": replace(CASCADE, observe=True)})
    assert choice.trial == Trial("large", None, scale="x")
    plain = asked(pool={"cascade": None})
    assert choice.candidates == plain.candidates


def test_the_sample_is_drawn_evenly_whatever_the_session_or_the_model():
    cascade = replace(CASCADE, label_percent=20.0)
    found = [
        asked(found=facts(request_id=f"{n:032x}", session="s-1"), pool={"cascade": cascade}).trial for n in range(2000)
    ]
    assert {one.inclusion for one in found} == {0.0, 0.2}
    assert 340 <= sum(one.inclusion > 0 for one in found) <= 460


def test_a_retry_of_the_cheap_model_is_on_trial_and_an_escalation_is_not():
    first = First(stratum="math/hard", cohort="pilot", propensity=1.0, policy_version="fixed:0", model="small")
    again = {"attempt": 2, "first": first}
    retry = asked(facts=again | {"reason": "retry", "prefer": "small"})
    assert (retry.model, retry.trial) == ("small", Trial("large", 0.5, scale="x"))
    on = asked(facts=again | {"reason": "escalate", "prefer": "large", "exclude": ("small",)})
    assert (on.model, on.reason, on.trial) == ("large", "escalate", None)
    other = asked(
        facts=again | {"reason": "escalate", "prefer": "large", "exclude": ("small",)}, health={"large": health("down")}
    )
    assert (other.model, other.reason) == ("mid", "escalate")
    fallen = asked(facts=again | {"reason": "fallback", "first": replace(first, model="mid"), "exclude": ("mid",)})
    assert isinstance(fallen, Choice)
    assert fallen.trial is None


def test_a_session_stays_on_trial():
    kept = Assignment(
        model="small", stratum="math/hard", cohort="pilot", weights={"small": 1.0}, policy_version="fixed:0"
    )
    choice = asked(facts={"session": "s", "assignment": kept})
    assert (choice.model, choice.trial) == ("small", Trial("large", 0.5, scale="x"))


def test_a_snapshot_with_a_cascade_comes_back():
    learned = StratumWeights(
        weights={}, policy_version="fixed:1", cascade=Calibrated(threshold=0.8, escalates=0.4, scale="x", shown=True)
    )
    made = snapshot(pools={"auto": pool(**ALL_SMALL)}, weights={("auto", "math/hard"): learned})
    again = Snapshot.from_canonical(made.canonical())
    assert again == made
    assert again.pools["auto"].cascade == CASCADE
