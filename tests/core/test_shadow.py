"""Who answers in the shadow of whom."""

import pytest

from router.contract.records import Origin
from router.core.decide import decide
from router.core.facts import Choice, Refusal
from router.core.mirror import Mirror
from router.core.records import First
from router.core.shadow import mirrors
from tests.core.routing import MODELS, facts, health, order, pool, snapshot

PLACE = Origin(topic="llm.outcomes", partition=0, offset=0)


@pytest.mark.parametrize(
    ("policy", "cohort", "model", "rolled_back", "found"),
    [
        ("thompson", "pilot", "small", False, ("large",)),
        ("thompson", "pilot", "mid", True, ("large",)),
        ("thompson", "pilot", "large", False, ()),
        ("thompson", "pilot", "large", True, ("small", "mid")),
        ("thompson", "control", "large", True, ("small", "mid")),
        ("thompson", "holdout", "large", False, ()),
        ("thompson", "control", "small", False, ()),
        ("thompson", "pinned", "small", False, ()),
        ("thompson", "pinned", "large", True, ()),
        ("observe", "control", "large", False, ("small", "mid")),
        ("observe", "holdout", "large", False, ("small", "mid")),
    ],
)
def test_the_table(policy, cohort, model, rolled_back, found):
    assert mirrors(pool(policy=policy), cohort, model, rolled_back=rolled_back) == found


def shadow(world, *, model="small", cohort="pilot", **changed):
    mirror = Mirror(of=2, model=model, served_model=model, answer_at=PLACE, inclusion=0.1)
    first = First(stratum="math/hard", cohort=cohort, propensity=0.7, policy_version="thompson:7", model=model)
    return decide(facts(attempt=102, reason="shadow", first=first, mirror=mirror, **changed), world)


def test_what_the_caller_would_pay_does_not_matter():
    found = shadow(snapshot(), max_cost_nano_usd=1)
    assert isinstance(found, Choice)
    assert (found.model, found.cohort, found.shadow_of, found.propensity) == ("large", "shadow", 2, 1.0)


@pytest.mark.parametrize(
    "world",
    [
        snapshot(order("model:large", "ban")),
        snapshot(order("model:large", "drain")),
        snapshot(health={"large": health("down")}),
        snapshot(models={name: MODELS[name] for name in ("small", "mid")}),
    ],
)
def test_a_baseline_that_is_out_answers_nobody(world):
    assert isinstance(shadow(world), Refusal)


def test_the_next_cheapest_where_the_cheapest_cannot():
    world = snapshot(order("model:small", "ban"), order("all", "rollback"))
    assert shadow(world, model="large").model == "mid"


def test_a_further_attempt_is_not_drawn_again():
    world = snapshot(shadow_percent=100.0)
    first = First(stratum="math/hard", cohort="pilot", propensity=0.7, policy_version="thompson:7", model="small")
    again = decide(facts(attempt=2, reason="retry", first=first, prefer="small", pace=1.0), world)
    assert (again.model, again.sample) == ("small", None)


def test_where_the_pool_is_gone_neither_a_shadow_nor_a_judge_is_asked():
    mirror = Mirror(of=1, model="small", served_model="small", answer_at=PLACE, inclusion=0.1, shadow="large")
    first = First(stratum="math/hard", cohort="pilot", propensity=0.7, policy_version="thompson:7", model="small")
    for reason in ("shadow", "judge"):
        asked = facts(attempt=201, reason=reason, first=first, mirror=mirror, prefer="mid", target="gone")
        assert isinstance(decide(asked, snapshot()), Refusal)
