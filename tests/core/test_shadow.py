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
    ("cohort", "model", "unused", "found"),
    [
        ("pilot", "small", False, ("large",)),
        ("pilot", "mid", True, ("large",)),
        ("pilot", "large", False, ()),
        ("pilot", "large", True, ("small", "mid")),
        ("control", "large", True, ("small", "mid")),
        ("holdout", "large", False, ()),
        ("control", "small", False, ()),
        ("pinned", "small", False, ()),
        ("pinned", "large", True, ()),
        ("holdout", "large", True, ("small", "mid")),
    ],
)
def test_the_table(cohort, model, unused, found):
    assert mirrors(pool(), cohort, model, unused=unused) == found


@pytest.mark.parametrize(
    ("world", "found"),
    [
        (snapshot(shadow_percent=100.0), False),
        (snapshot(shadow_percent=100.0, policy="observe"), True),
        (snapshot(shadow_percent=100.0, rollout_percent=0.0), True),
        (snapshot(order("pool:auto", "rollout", percent=0.0), shadow_percent=100.0), True),
        (snapshot(order("pool:auto", "rollout", percent=5.0), shadow_percent=100.0, rollout_percent=0.0), False),
        (snapshot(order("pool:auto", "rollback"), shadow_percent=100.0), True),
    ],
)
def test_what_the_baseline_answers_is_mirrored_where_it_answers_everything(world, found):
    """Of requests that the baseline got: of a user whom a rollout of 5 % does not reach."""
    choices = [decide(facts(request_id=f"{number:032x}"), world) for number in range(60)]
    mine = [one for one in choices if one.model == "large" and one.cohort != "pilot"]
    mirrored = [one.sample is not None and one.sample.shadow > 0 for one in mine]
    assert all(mirrored) if found else not any(mirrored)
    assert bool(mine) or not found


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
