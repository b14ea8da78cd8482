import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract.codec import decode, encode
from router.contract.errors import Code
from router.contract.records import Decision, Origin
from router.core.audit import decision_record, facts_of
from router.core.bandit.squarecb import SIZE, Regression
from router.core.decide import decide
from router.core.facts import Assignment, Choice, Purse, Refusal, Warm
from router.core.mix import PROBE_SHARE, walk
from router.core.records import First
from router.core.snapshot import Snapshot, StratumWeights
from tests.core.routing import AT_MS, LEARNED, MODELS, facts, health, model, order, pool, snapshot

FIRST = First(stratum="math/hard", cohort="pilot", propensity=0.7, policy_version="thompson:7", model="small")
ORIGIN = Origin(topic="llm.requests", partition=0, offset=7)
ids = [f"{number:032x}" for number in range(4000)]


def models_of(snap, n=4000, **changed):
    chosen = [decide(facts(request_id, **changed), snap) for request_id in ids[:n]]
    return {name: sum(one.model == name for one in chosen) / n for name in MODELS}


def excluded(choice):
    return {candidate.model: candidate.excluded for candidate in choice.candidates}


# --- invariants ---

some_models = st.lists(st.sampled_from(["m1", "m2", "m3", "m4"]), min_size=1, unique=True)
worlds = st.fixed_dictionaries(
    {
        "weights": st.dictionaries(st.sampled_from(["m1", "m2", "m3", "m4", "gone"]), st.floats(0, 1), max_size=5),
        "banned": st.sets(st.sampled_from(["m1", "m2", "m3"])),
        "health": st.dictionaries(
            st.sampled_from(["m1", "m2", "m3", "m4"]),
            st.builds(health, st.sampled_from(["up", "degraded", "down", "probing"]), st.none() | st.integers(0, 10**5),
                      st.none() | st.integers(AT_MS - 5, AT_MS + 5)),
        ),
        "windows": st.lists(st.sampled_from([100, 128_000]), min_size=4, max_size=4),
        "policy": st.sampled_from(["thompson", "squarecb", "fixed", "observe"]),
        "epsilon": st.sampled_from([0.0, 0.02, 0.5]),
        "rollout_percent": st.sampled_from([0.0, 50.0, 100.0]),
        "holdout_percent": st.sampled_from([0.0, 2.0, 100.0]),
        "pin": st.none() | st.sampled_from(["m1", "m4", "unknown"]),
        "rollback": st.booleans(),
        "budget": st.booleans(),
        "regression": st.none() | st.builds(
            Regression,
            st.dictionaries(st.sampled_from(["m1", "m3", "gone"]), st.tuples(*[st.floats(-2, 2)] * SIZE)),
            st.dictionaries(st.sampled_from(["m1", "m2"]), st.floats(0, 100)),
            st.floats(1, 10**5),
        ),
    }
)  # fmt: skip
requests = st.fixed_dictionaries(
    {
        "session": st.none() | st.text(max_size=5),
        "prompt_tokens": st.sampled_from([1, 99, 101]),
        "needs": st.sampled_from([(), ("tools",), ("images",)]),
        "max_cost_nano_usd": st.none() | st.sampled_from([0, 10**6, 10**12]),
        "p_ok": st.dictionaries(st.sampled_from(["m1", "m2", "gone"]), st.floats(0, 1)),
        "purse": st.none()
        | st.builds(
            Purse,
            price=st.floats(0, 1000),
            left_nano_usd=st.integers(-(10**9), 10**9),
            burst_nano_usd=st.integers(0, 10**6),
        ),
        "attempt": st.just(1),
        "stratum": st.sampled_from(["math/hard", "general/easy"]),
        "assignment": st.none()
        | st.builds(
            Assignment,
            model=st.sampled_from(["m1", "m4", "gone"]),
            stratum=st.just("math/hard"),
            cohort=st.sampled_from(["pilot", "holdout", "control", "pinned"]),
            weights=st.just({"m1": 0.25, "m4": 0.25, "gone": 0.5}),
            policy_version=st.just("thompson:3"),
        ),
    }
)
retries = st.none() | st.fixed_dictionaries(
    {
        "attempt": st.just(2),
        "reason": st.sampled_from(["retry", "fallback", "hedge"]),
        "first": st.just(FIRST),
        "prefer": st.none() | st.sampled_from(["m1", "m2"]),
        "exclude": st.sets(st.sampled_from(["m1", "m2", "m3"])).map(tuple),
        "chain": st.just(()) | st.lists(st.sampled_from(["m1", "m2", "m3", "m4"]), unique=True).map(tuple),
        "last_error": st.just("provider_error"),
    }
)


def world(models, given):
    orders = [order(f"model:{name}", "ban") for name in given["banned"]]
    if given["pin"]:
        orders.append(order("pool:auto", "pin", model=given["pin"]))
    if given["rollback"]:
        orders.append(order("stratum:auto/math/hard", "rollback"))
    known = {f"m{i}": model(f"m{i}", 10**i, window=given["windows"][i - 1]) for i in range(1, 5)}
    changed = {key: given[key] for key in ("policy", "epsilon", "rollout_percent", "holdout_percent")}
    changed |= {"objective": "budget", "budget_nano_usd": 1000} if given["budget"] else {}
    learned = StratumWeights(weights=given["weights"], policy_version="thompson:7", regression=given["regression"])
    return snapshot(
        *orders,
        models=known,
        pools={"auto": pool(models=tuple(models), weights=given["weights"], **changed)},
        weights={("auto", "math/hard"): learned},
        health=given["health"],
    )


@settings(max_examples=400, deadline=None)
@given(some_models, worlds, requests, retries, st.sampled_from(ids))
def test_whatever_the_world_a_choice_is_sound(models, given_world, request, retry, request_id):
    snap = world(models, given_world)
    purse = request["purse"] if given_world["budget"] else None
    asked = facts(request_id, **request | {"purse": purse} | (retry or {}))
    chosen = decide(asked, snap)
    assert decide(asked, snap) == chosen
    if isinstance(chosen, Refusal):
        assert chosen.code in set(Code)
        return
    assert sum(chosen.weights.values()) == pytest.approx(1.0, abs=1e-9)
    assert all(0.0 <= weight <= 1.0 for weight in chosen.weights.values())
    assert chosen.propensity == chosen.weights[chosen.model] > 0.0
    assert excluded(chosen)[chosen.model] is None
    assert chosen.model not in given_world["banned"]
    assert chosen.model not in asked.exclude
    if asked.chain:
        open_ones = [model for model in asked.chain if excluded(chosen).get(model, "unknown") is None]
        assert chosen.model == open_ones[0]
    assert 0.0 <= chosen.draw < 1.0
    record = decision_record(asked, chosen, snapshot_version=snap.version, lane="interactive", origin=ORIGIN)
    assert facts_of(decode(Decision, encode(record))) == asked
    if chosen.cohort in {"holdout", "control", "pinned"} and asked.assignment is None:
        assert chosen.propensity == 1.0
    if given_world["pin"] and not given_world["rollback"]:  # a narrower rollback overrules the pin
        assert (chosen.cohort, chosen.model) == ("pinned", given_world["pin"])


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=5), st.floats(0, 1, exclude_max=True))
def test_walking_reaches_each_model_in_its_part_of_the_line(shares, drawn):
    total = sum(shares)
    weights = {f"m{i}": share / total for i, share in enumerate(shares)}
    reached = int(walk(weights, drawn)[1:])
    below = sum(list(weights.values())[:reached])
    assert below - 1e-9 <= drawn < below + weights[f"m{reached}"] + 1e-9


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_change_of_weights_moves_no_more_units_than_it_must(before, after):
    draws = [(i + 0.5) / 500 for i in range(500)]
    moved = sum(walk({"a": before, "b": 1 - before}, d) != walk({"a": after, "b": 1 - after}, d) for d in draws)
    assert moved / 500 <= abs(before - after) + 1 / 500


def test_a_model_of_weight_zero_is_never_reached():
    assert walk({"a": 0.0, "b": 1.0, "c": 0.0}, 0.0) == "b"
    assert walk({"a": 0.5, "b": 0.5 - 1e-16, "c": 0.0}, 1.0 - 1e-16) == "b"


# --- weights and cohorts ---


def test_traffic_follows_the_weights_of_the_stratum_with_the_floor_mixed_in():
    snap = snapshot(holdout_percent=0.0)
    found = models_of(snap)
    for name, weight in LEARNED["auto", "math/hard"].weights.items():
        assert found[name] == pytest.approx(0.98 * weight + 0.02 / 3, abs=0.02)
    assert decide(facts(), snap).policy_version == "thompson:7"


def test_a_stratum_without_evidence_sends_at_most_epsilon_away_from_the_baseline():
    chosen = decide(facts(stratum="code/easy"), snapshot(holdout_percent=0.0))
    assert 1.0 - chosen.weights["large"] <= 0.02
    assert chosen.policy_version == "thompson:0"


def test_configured_weights_are_used_as_they_are():
    snap = snapshot(
        policy="fixed", weights={}, pools={"auto": pool(policy="fixed", weights={"small": 0.75, "large": 0.25})}
    )
    pilot = next(one for i in ids if (one := decide(facts(i), snap)).cohort == "pilot")
    assert pilot.weights == {"small": 0.75, "mid": 0.0, "large": 0.25}


def test_the_holdout_is_on_the_baseline_and_of_its_size():
    chosen = [decide(facts(i), snapshot(holdout_percent=10.0)) for i in ids]
    held = [one for one in chosen if one.cohort == "holdout"]
    assert len(held) / len(ids) == pytest.approx(0.10, abs=0.015)
    assert {(one.model, one.propensity) for one in held} == {("large", 1.0)}


def test_rollout_is_of_what_the_holdout_leaves_and_grows_without_moving_anyone_back():
    def pilots(percent):
        snap = snapshot(holdout_percent=10.0, rollout_percent=percent)
        return {i for i in ids if decide(facts(i), snap).cohort == "pilot"}

    quarter, half = pilots(25.0), pilots(50.0)
    assert quarter < half
    assert len(half) / len(ids) == pytest.approx(0.45, abs=0.025)


def test_orders_change_rollout_and_holdout():
    all_out = snapshot(order("all", "rollout", percent=0.0), order("pool:auto", "holdout", percent=0.0))
    assert {decide(facts(i), all_out).cohort for i in ids[:200]} == {"control"}


def test_observing_moves_nobody_and_says_what_it_would_do():
    chosen = [decide(facts(i), snapshot(policy="observe", holdout_percent=0.0)) for i in ids[:500]]
    assert {(one.model, one.cohort) for one in chosen} == {("large", "control")}
    assert sum(one.would == "small" for one in chosen) / 500 == pytest.approx(0.69, abs=0.06)


def test_a_rolled_back_stratum_is_all_baseline_without_a_floor():
    snap = snapshot(order("stratum:auto/math/hard", "rollback"), holdout_percent=0.0)
    chosen = decide(facts(), snap)
    assert (chosen.weights["large"], chosen.policy_version) == (1.0, "rollback")
    assert decide(facts(stratum="other"), snap).policy_version == "thompson:0"


# --- orders on models ---


def test_a_pin_sends_everything_to_its_model():
    snap = snapshot(order("pool:auto", "pin", model="mid"))
    chosen = decide(facts(), snap)
    assert (chosen.model, chosen.cohort, chosen.propensity) == ("mid", "pinned", 1.0)
    assert excluded(chosen) == {"small": "pin", "mid": None, "large": "pin"}


def test_a_pin_to_a_banned_model_is_refused():
    snap = snapshot(order("stratum:auto/math/hard", "pin", model="mid"), order("model:mid", "ban"))
    assert decide(facts(), snap).code == Code.NO_MODEL_AVAILABLE


def test_a_pin_overrules_health():
    assert decide(facts(), snapshot(order("all", "pin", model="mid"), health={"mid": health("down")})).model == "mid"


@pytest.mark.parametrize("action", ["ban", "drain"])
def test_a_banned_or_drained_model_gets_nothing(action):
    found = models_of(snapshot(order("model:small", action)), 500)
    assert found["small"] == 0.0
    assert excluded(decide(facts(), snapshot(order("model:small", action))))["small"] == action


def test_a_banned_baseline_leaves_its_cohorts_to_the_dearest_other_model():
    snap = snapshot(order("model:large", "ban"), holdout_percent=100.0)
    chosen = decide(facts(), snap)
    assert (chosen.model, chosen.cohort, chosen.propensity) == ("mid", "holdout", 1.0)


def test_an_expired_ban_is_over_at_the_time_of_the_decision():
    snap = snapshot(order("model:small", "ban", expires_at_ms=AT_MS))
    assert excluded(decide(facts(at_ms=AT_MS - 1), snap))["small"] == "ban"
    assert excluded(decide(facts(at_ms=AT_MS), snap))["small"] is None


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"at_ms": AT_MS + 60_000}, Code.DEADLINE_EXCEEDED),
        ({"target": "nobody"}, Code.MODEL_NOT_FOUND),
        ({"needs": ("images",)}, Code.CAPABILITY_MISSING),
        ({"prompt_tokens": 128_001}, Code.CONTEXT_LENGTH_EXCEEDED),
        ({"prompt_tokens": 127_000, "completion_tokens": 1001}, Code.CONTEXT_LENGTH_EXCEEDED),
        ({"max_cost_nano_usd": 0}, Code.BUDGET_EXCEEDED),
    ],
)
def test_a_request_that_fits_no_model_is_refused_with_the_reason(changed, code):
    found = decide(facts(**changed), snapshot())
    assert isinstance(found, Refusal)
    assert found.code == code


def test_the_code_is_that_of_the_rule_that_removed_the_last_candidate():
    snap = snapshot(order("model:small", "ban"), order("model:mid", "drain"))
    assert decide(facts(needs=("images",)), snap).code == Code.CAPABILITY_MISSING
    everything = snapshot(*[order(f"model:{name}", "ban") for name in MODELS])
    assert decide(facts(needs=("images",)), everything).code == Code.NO_MODEL_AVAILABLE


def test_a_budget_leaves_the_models_that_fit_it():
    cost_of_mid = 500 * 400 + 256 * 1600
    chosen = decide(facts(max_cost_nano_usd=cost_of_mid), snapshot())
    assert excluded(chosen) == {"small": None, "mid": None, "large": "budget"}


def test_what_nobody_knows_the_price_of_fits_no_budget():
    models = MODELS | {"small": model("small", priced=False)}
    assert excluded(decide(facts(max_cost_nano_usd=10**12), snapshot(models=models)))["small"] == "budget"
    candidate = decide(facts(), snapshot(models=models)).candidates[0]
    assert (candidate.excluded, candidate.expected_cost_nano_usd) == (None, None)


def test_of_a_pool_a_tenant_uses_only_its_models():
    snap = snapshot(tenant_models={"acme": ("small", "mid")})
    found = decide(facts(), snap)
    assert {one.model: one.excluded for one in found.candidates} == {"small": None, "mid": None, "large": "tenant"}
    assert set(found.weights) == {"small", "mid"}
    assert decide(facts(tenant="zeta"), snap).candidates[-1].excluded is None
    held = decide(facts(), snapshot(tenant_models={"acme": ("small", "mid")}, holdout_percent=100.0))
    assert (held.cohort, held.model) == ("holdout", "mid")


def test_a_model_that_a_tenant_may_not_use_does_not_exist_for_it_whatever_role_it_would_have():
    snap = snapshot(tenant_models={"acme": ("small",)}, pools={"auto": pool(), "dear": pool("dear", ("large",))})
    assert decide(facts(target="large"), snap).code == "model_not_found"
    assert decide(facts(target="dear"), snap).code == "model_not_found"
    assert decide(facts(target="small"), snap).model == "small"
    pinned = snapshot(order("all", "pin", model="large"), tenant_models={"acme": ("small",)})
    assert decide(facts(), pinned).code == "no_model_available"
    first = First(stratum="math/hard", cohort="pilot", propensity=1.0, policy_version="v", model="small")
    assert decide(facts(reason="judge", first=first, prefer="large", attempt=2), snap).code == "no_model_available"


def test_who_has_no_table_has_the_rights_of_other_and_a_table_without_rights_has_them_all():
    pools = {"auto": pool(), "cheap": pool("cheap", ("small",))}
    snap = snapshot(
        pools=pools, tenants={"other": ("cheap",)}, tenant_models={"other": ("small",)}, known=("acme", "other")
    )
    assert decide(facts(tenant="acme"), snap).pool == "auto"
    for stranger in ("zeta", "other"):
        assert decide(facts(tenant=stranger), snap).code == "model_not_found"
        assert decide(facts(tenant=stranger, target="cheap"), snap).pool == "cheap"
        assert decide(facts(tenant=stranger, target="large"), snap).code == "model_not_found"


def test_a_tenant_uses_only_its_pools():
    pools = {"auto": pool(), "cheap": pool("cheap", ("small",))}
    snap = snapshot(pools=pools, tenants={"acme": ("cheap",)})
    assert decide(facts(), snap).code == Code.MODEL_NOT_FOUND
    assert decide(facts(target="large"), snap).code == Code.MODEL_NOT_FOUND
    assert decide(facts(target="small"), snap).cohort == "direct"
    assert decide(facts(target="cheap"), snap).model == "small"
    assert decide(facts(tenant="other"), snap).pool == "auto"


# --- health ---


def test_a_model_that_is_down_gets_nothing_while_another_is_up():
    assert models_of(snapshot(health={"small": health("down")}), 500)["small"] == 0.0


def test_when_all_are_down_one_is_tried_all_the_same():
    chosen = decide(facts(), snapshot(health={name: health("down") for name in MODELS}))
    assert isinstance(chosen, Choice)


def test_a_slow_model_is_spared_when_the_deadline_is_near_unless_all_others_are_down():
    slow = {"small": health("up", 61_000)}
    assert excluded(decide(facts(), snapshot(health=slow)))["small"] == "deadline"
    only = slow | {"mid": health("down"), "large": health("down")}
    assert excluded(decide(facts(), snapshot(health=only))) == {"small": None, "mid": "down", "large": "down"}


@pytest.mark.parametrize("state", [health("probing"), health("down", until_ms=AT_MS)], ids=["probing", "rested"])
def test_a_model_on_probation_gets_a_bounded_share(state):
    snap = snapshot(health={"small": state}, holdout_percent=0.0)
    assert 0.0 < models_of(snap)["small"] <= PROBE_SHARE + 0.015
    assert decide(facts(), snap).weights["small"] <= PROBE_SHARE


def test_a_baseline_on_probation_gets_a_bounded_share_of_its_cohorts():
    snap = snapshot(health={"large": health("probing")}, holdout_percent=100.0)
    found = models_of(snap)
    assert found["large"] == pytest.approx(PROBE_SHARE, abs=0.015)
    assert found["mid"] == pytest.approx(1 - PROBE_SHARE, abs=0.015)


# --- a model named directly ---


def test_a_model_named_directly_goes_there_whatever_the_orders_of_pools_or_its_health():
    snap = snapshot(order("all", "pin", model="large"), health={"small": health("down")})
    chosen = decide(facts(target="small"), snap)
    assert (chosen.model, chosen.cohort, chosen.pool, chosen.stratum) == ("small", "direct", None, None)
    assert chosen.weights == {"small": 1.0}


@pytest.mark.parametrize("action", ["ban", "drain"])
def test_a_withdrawn_model_named_directly_is_refused_and_never_falls_back(action):
    assert decide(facts(target="small"), snapshot(order("model:small", action))).code == Code.NO_MODEL_AVAILABLE


def test_a_dead_model_named_directly_ends_with_the_last_error():
    asked = facts(target="small", attempt=3, reason="fallback", exclude=("small",), last_error="provider_error")
    assert decide(asked, snapshot()).code == Code.PROVIDER_ERROR


# --- further attempts ---


def test_a_chain_is_asked_in_its_order_also_outside_the_pool_and_nobody_else():
    snap = snapshot(pools={"auto": pool(models=("small", "large"))})
    found = decide(retry(reason="fallback", exclude=("small",), chain=("mid", "large")), snap)
    assert (found.model, found.reason, found.propensity) == ("mid", "fallback", 1.0)
    assert excluded(found) == {"small": "tried", "large": None, "mid": None}
    only = decide(retry(reason="fallback", exclude=("small",), chain=("mid",)), snap)
    assert excluded(only) == {"small": "tried", "large": "chain", "mid": None}
    sick = snapshot(health={"mid": health("down")}, pools={"auto": pool(models=("small", "large"))})
    assert decide(retry(reason="fallback", exclude=("small",), chain=("mid", "large")), sick).model == "large"
    assert decide(retry(reason="fallback", exclude=("small",), chain=("mid",)), sick).model == "mid", "all that is left"


def test_where_nothing_of_a_chain_may_be_asked_the_last_error_stands():
    asked = retry(reason="fallback", exclude=("small",), chain=("mid",), last_error="provider_error")
    assert decide(asked, snapshot(order("model:mid", "ban"))).code == "provider_error"


def retry(**changed):
    return facts(**{"attempt": 2, "reason": "retry", "first": FIRST, "stratum": "moved/easy"} | changed)


def test_a_retry_goes_to_the_preferred_model_in_the_first_stratum():
    chosen = decide(retry(prefer="small"), snapshot())
    assert (chosen.model, chosen.reason, chosen.stratum, chosen.cohort) == ("small", "retry", "math/hard", "pilot")


def test_a_retry_whose_model_was_banned_meanwhile_is_a_fallback():
    chosen = decide(retry(prefer="small"), snapshot(order("model:small", "ban")))
    assert chosen.reason == "fallback"
    assert chosen.model != "small"


def test_a_fallback_avoids_the_models_that_had_their_chance():
    chosen = decide(retry(reason="fallback", exclude=("small", "large")), snapshot())
    assert (chosen.model, excluded(chosen)["small"]) == ("mid", "tried")


def test_a_fallback_from_the_baseline_goes_to_the_dearest_other():
    assert decide(retry(reason="fallback", exclude=("large",)), snapshot(weights={})).weights["mid"] > 0.9


def test_when_nothing_is_left_the_last_error_stands():
    asked = retry(reason="fallback", exclude=tuple(MODELS), last_error="rate_limited")
    assert decide(asked, snapshot()).code == "rate_limited"


# --- sessions ---


def assigned(model="small", cohort="pilot"):
    return Assignment(
        model=model,
        stratum="math/hard",
        cohort=cohort,
        weights={"small": 0.5, "large": 0.5},
        policy_version="thompson:3",
    )


def in_session(assignment, snap, **changed):
    return decide(facts(session="s", stratum="code/easy", assignment=assignment, **changed), snap)


def test_a_session_keeps_model_stratum_propensity_and_version():
    kept = in_session(assigned(), snapshot(holdout_percent=0.0))
    assert (kept.model, kept.stratum, kept.propensity, kept.policy_version) == ("small", "math/hard", 0.5, "thompson:3")
    assert kept.session_broke is None


@pytest.mark.parametrize(
    ("snap", "changed", "reason"),
    [
        (snapshot(order("model:small", "ban"), holdout_percent=0.0), {}, "ban"),
        (snapshot(health={"small": health("down")}, holdout_percent=0.0), {}, "down"),
        (snapshot(holdout_percent=0.0), {"needs": ("images",)}, "capability"),
        (snapshot(order("all", "pin", model="mid")), {}, "control"),
        (snapshot(order("all", "rollout", percent=0.0), holdout_percent=0.0), {}, "control"),
        (snapshot(order("stratum:auto/math/hard", "rollback"), holdout_percent=0.0), {}, "rollback"),
        (
            snapshot(order("stratum:auto/slice/language=cyrillic", "rollback"), holdout_percent=0.0),
            {"slices": ("language=cyrillic",)},
            "rollback",
        ),
        (snapshot(pools={"auto": pool(models=("mid", "large"), holdout_percent=0.0)}), {}, "left"),
    ],
)
def test_a_session_breaks_only_for_exclusion_control_or_rollback_and_says_why(snap, changed, reason):
    found = in_session(assigned(), snap, **changed)
    if isinstance(found, Refusal):
        assert found.code == Code.CAPABILITY_MISSING
    else:
        assert found.session_broke == reason
        assert found.stratum == "code/easy"


def test_a_pool_that_is_not_sticky_decides_each_request():
    found = in_session(assigned(), snapshot(sticky=False, holdout_percent=0.0))
    assert found.stratum == "code/easy"


def test_all_requests_of_a_session_draw_alike():
    snap = snapshot(sticky=False)
    assert (
        len({(one.model, one.cohort, one.draw) for i in ids[:50] if (one := decide(facts(i, session="s"), snap))}) == 1
    )


# --- the contextual policy ---


def taught(theta=None, n=1000.0, gamma=500.0):
    return {
        ("auto", "math/hard"): StratumWeights(
            weights={"large": 1.0},
            policy_version="squarecb:3",
            regression=Regression(theta or {}, dict.fromkeys(MODELS, n), gamma),
        )
    }


def regressed(**changed):
    return snapshot(policy="squarecb", weights=taught(), holdout_percent=0.0, epsilon=0.0, **changed)


EASY, HARD = {"small": 0.94, "mid": 0.95, "large": 0.96}, {"small": 0.2, "mid": 0.5, "large": 0.9}


def test_each_request_goes_by_its_own_chances():
    snap = regressed()
    assert models_of(snap, 1000, p_ok=EASY)["small"] > 0.8
    assert models_of(snap, 1000, p_ok=HARD)["large"] > 0.95


def test_what_was_learned_corrects_what_the_classifier_says():
    wrong = snapshot(
        policy="squarecb", weights=taught({"small": (-0.6, 0.0, 0.0, 0.0)}), holdout_percent=0.0, epsilon=0.0
    )
    found = models_of(wrong, 1000, p_ok=EASY)
    assert found["small"] < 0.05
    assert found["mid"] > 0.8


def test_before_anything_was_learned_only_epsilon_leaves_the_baseline():
    snap = snapshot(policy="squarecb", weights={}, holdout_percent=0.0)
    found = models_of(snap, p_ok=EASY)
    assert found["large"] == pytest.approx(0.98 + 0.02 / 3, abs=0.01)


def test_an_optimistic_start_believes_the_classifier_at_once():
    hopeful = snapshot(policy="squarecb", weights={}, holdout_percent=0.0, optimistic=True)
    assert models_of(hopeful, p_ok=EASY)["small"] > 0.6
    assert models_of(hopeful, p_ok=HARD)["large"] > 0.6
    assert Snapshot.from_canonical(hopeful.canonical()) == hopeful


def test_a_choice_carries_the_context_of_the_model_that_was_chosen():
    chosen = decide(facts(p_ok=HARD), regressed())
    assert chosen.context[:2] == (1.0, round(2 * HARD[chosen.model] - 1, 4))
    assert chosen.quality == HARD


def test_a_request_of_a_session_that_keeps_its_model_carries_a_context_of_its_own():
    kept = Assignment(
        model="small", stratum="math/hard", cohort="pilot", weights={"small": 1.0}, policy_version="squarecb:2"
    )
    chosen = decide(facts(session="s", assignment=kept, p_ok=HARD), regressed())
    assert (chosen.model, chosen.policy_version) == ("small", "squarecb:2")
    assert chosen.context[:2] == (1.0, round(2 * HARD["small"] - 1, 4))
    assert (chosen.quality, chosen.gamma) == (HARD, 500.0)


def test_dear_money_buys_the_cheap_model_and_free_money_the_best():
    snap = regressed(objective="budget", budget_nano_usd=1_000_000)
    purse = {"left_nano_usd": 10**12, "burst_nano_usd": 0}
    assert models_of(snap, 500, p_ok=HARD, purse=Purse(price=0.0, **purse))["large"] > 0.95
    assert models_of(snap, 500, p_ok=HARD, purse=Purse(price=1000.0, **purse))["small"] > 0.95


def test_what_the_budget_has_no_room_for_is_excluded_but_the_cheapest_never_is():
    snap = regressed(objective="budget", budget_nano_usd=1_000_000)
    costs = {one.model: one.expected_cost_nano_usd for one in decide(facts(), snap).candidates}
    room = costs["mid"] - costs["large"]  # one call of the dearest may be overdrawn
    chosen = decide(facts(purse=Purse(price=0.0, left_nano_usd=room, burst_nano_usd=0)), snap)
    assert excluded(chosen) == {"small": None, "mid": None, "large": "spent"}
    broke = decide(facts(purse=Purse(price=0.0, left_nano_usd=-(10**12), burst_nano_usd=0)), snap)
    assert excluded(broke) == {"small": None, "mid": "spent", "large": "spent"}


def test_a_person_may_pin_what_the_budget_cannot_afford():
    snap = snapshot(order("pool:auto", "pin", model="large"), policy="squarecb", objective="budget", budget_nano_usd=1)
    assert decide(facts(purse=Purse(price=0.0, left_nano_usd=-(10**9), burst_nano_usd=0)), snap).model == "large"


CACHING = {
    name: dataclasses.replace(
        one,
        cache_ttl_ms=300_000,
        price=dataclasses.replace(one.price, cached_input_nano_usd_per_token=one.price.input_nano_usd_per_token // 10),
    )
    for name, one in MODELS.items()
}


def costs(**changed):
    choice = decide(facts(prompt_tokens=4000, **changed), snapshot(models=CACHING))
    return {one.model: one.expected_cost_nano_usd for one in choice.candidates}


def test_the_model_that_answered_last_costs_less_while_its_provider_has_the_conversation():
    cold = costs()
    warm = costs(warm=Warm(model="large", tokens=3000, at_ms=AT_MS - 60_000))
    assert {name: cold[name] - warm[name] for name in cold} == {"small": 0, "mid": 0, "large": 3000 * 1800}
    assert costs(warm=Warm(model="large", tokens=3000, at_ms=AT_MS - 300_000)) == cold
    assert costs(warm=Warm(model="large", tokens=9000, at_ms=AT_MS))["large"] == cold["large"] - 4000 * 1800


def test_where_cached_prompts_cost_the_same_nothing_is_lost():
    warm = Warm(model="large", tokens=400, at_ms=AT_MS)
    assert decide(facts(warm=warm), snapshot()).candidates == decide(facts(), snapshot()).candidates


def test_a_policy_that_weighs_costs_stays_where_the_cache_is():
    """Two models of the same price and quality: the warm one is cheaper, so it is taken nearly always."""
    twins = {name: dataclasses.replace(CACHING["large"], name=name) for name in ("one", "two")}
    pools = {"auto": pool(models=("one", "two"), policy="squarecb", holdout_percent=0.0, epsilon=0.0, sticky=False)}
    even = Regression({"one": (0.0,) * 4, "two": (0.0,) * 4}, {"one": 1e4, "two": 1e4}, 1e5)
    learned = {
        ("auto", "math/hard"): StratumWeights(weights={}, policy_version="squarecb:1", regression=even),
    }
    world = snapshot(models=twins, pools=pools, weights=learned)
    for name in twins:
        choice = decide(facts(prompt_tokens=4000, warm=Warm(model=name, tokens=4000, at_ms=AT_MS)), world)
        assert choice.weights[name] > 0.95
