"""Whom a shadow asks, and whether a request is drawn to be answered twice, or looked at by people. Pure, as ``decide`` is.

| the answer | mirrored by |
|---|---|
| of the pilot, by another model than the baseline | the baseline |
| by the baseline, where the policy is only observed (also: a rollout of 0 %) or the stratum or a slice was rolled back | the cheapest other model |
| anything else: nobody asks, or there is nothing to compare | nobody |

Draws are of the request, not of its session: the pairs of a conversation would say the same thing again and again. Rules that exclude a
model of a request hold for its shadow too (order, capability, context, health), but for what the caller would pay: he does not.
"""

from __future__ import annotations

from dataclasses import replace

from router.contract.errors import Code
from router.contract.records import Cohort
from router.core.candidates import candidate_of, unwell
from router.core.draw import MODEL, REVIEW, SHADOW, draw
from router.core.facts import Candidate, Choice, Refusal, RequestFacts
from router.core.mirror import Sample
from router.core.review_sample import inclusion_of, weight_of
from router.core.snapshot import NO_FOCUS, PoolFacts, Snapshot


def sampled(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, choice: Choice) -> Sample | None:
    """The samples that a first attempt is in, ``None`` if it is in none. By what is known before the answer."""
    stratum = choice.stratum or ""
    focus = snapshot.focus_on(pool.name, stratum, facts.tenant, facts.slices)
    review = weight = shadow = 0.0
    if facts.pace is not None:
        p_ok = facts.p_ok.get(pool.models[0])
        review = inclusion_of(facts.pace, p_ok, focus.reviews)
        usual = snapshot.focus.get((pool.name, stratum), NO_FOCUS).reviews
        weight = weight_of(facts.pace, p_ok, focus.reviews, usual)
        review = review if draw(facts.tenant, facts.request_id, REVIEW) < review else 0.0
    if pool.shadow_percent > 0.0 and mirrors(
        pool, choice.cohort, choice.model, unused=_unused(facts, snapshot, pool, stratum)
    ):
        shadow = min(1.0, pool.shadow_percent / 100.0 * focus.shadow)
        shadow = shadow if draw(facts.tenant, facts.request_id, SHADOW) < shadow else 0.0
    if review <= 0.0 and shadow <= 0.0:
        return None
    return Sample(review=review, weight=weight if review > 0.0 else 1.0, shadow=shadow)


def mirrors(pool: PoolFacts, cohort: Cohort, model: str, *, unused: bool) -> tuple[str, ...]:
    """Who may answer in the shadow of ``model``, the first that can. ``unused``: all that the policy would choose from is the baseline's now."""
    if model != pool.baseline:
        return (pool.baseline,) if cohort == "pilot" else ()
    if cohort in {"pilot", "control", "holdout"} and unused:
        return tuple(name for name in pool.models if name != pool.baseline)
    return ()


def to_shadow(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts | None) -> Choice | Refusal:
    """The model that answers in the shadow of ``facts.mirror``; a refusal concerns nobody."""
    first, mirror = facts.first, facts.mirror
    if pool is None or first is None or mirror is None:
        return Refusal(Code.NO_MODEL_AVAILABLE, "there is no answer to mirror")
    stratum = first.stratum or ""
    names = mirrors(pool, first.cohort, mirror.model, unused=_unused(facts, snapshot, pool, stratum))
    unpaid = replace(facts, max_cost_nano_usd=None)
    candidates = tuple(_candidate(unpaid, snapshot, name) for name in names if name in snapshot.models)
    model = next((one.model for one in candidates if one.excluded is None), None)
    if model is None:
        listed = ", ".join(f"{one.model}: {one.excluded}" for one in candidates)
        return Refusal(Code.NO_MODEL_AVAILABLE, f"no model can answer in the shadow of {mirror.model} ({listed})")
    return Choice(
        model=model,
        pool=pool.name,
        stratum=first.stratum,
        baseline=pool.baseline,
        candidates=candidates,
        weights={one.model: float(one.model == model) for one in candidates if one.excluded is None},
        draw=draw(facts.tenant, facts.unit, MODEL),
        propensity=1.0,
        cohort="shadow",
        policy_version=first.policy_version,
        reason="shadow",
        shadow_of=mirror.of,
    )


def _unused(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, stratum: str) -> bool:
    orders = snapshot.orders_for(pool.name, stratum, facts.tenant, facts.at_ms, facts.slices)
    return orders.rolled_back or orders.observed(pool)


def _candidate(facts: RequestFacts, snapshot: Snapshot, name: str) -> Candidate:
    found = candidate_of(facts, snapshot, snapshot.models[name], pin=None)
    if found.excluded is None and (sick := unwell(facts, snapshot, name)) is not None:
        return found._replace(excluded=sick)
    return found
