"""Which model gets a request, with which probability, and why: a pure function of the request's facts and the snapshot.

    candidates -> cohort -> weights -> floor -> draw

1. Candidates are the pool's models, less those that a rule excludes. The rules in order: ``tenant pin ban drain tried
   chain capability context budget``. When none is left the refusal has the code of the rule that removed the last one. ``down`` and
   ``deadline`` (the wait for a free slot and the model's p95 do not fit into what is left) exclude only while something else remains. In a pool with a
   budget ``spent`` excludes what the ledger has no room for, but for the cheapest.
2. Cohort, by draws of the unit (session or request): ``pinned`` by order; else ``holdout``, then ``pilot`` for
   ``rollout_percent`` of the rest, else ``control``. Holdout and control go to the baseline, or to the dearest candidate
   where the baseline is none.
3. The pilot's weights are the stratum's, restricted to the candidates and renormalised, equal ones shared by load (``core/by_load``); of policy ``squarecb`` those of this very
   request, by the stratum's regression (``core/bandit/squarecb``). ``epsilon`` of it is spread evenly
   (learning policies only: ``fixed`` is the operator's word; none where traffic was rolled back). A model on probation
   (``probing``) gets at most ``PROBE_SHARE``.
4. The draw walks the weights in the pool's order, cheap to dear. Propensity is the weight of the model reached.

Where the pool has a cascade, the pilot's cheapest model is on trial: its answer is checked, and the request goes on to a better
model where that is not sure enough (``core/checking``). Its expected cost is then that of both, as often as that happens.

The model that answered last in a session is expected to cost less, as long as its provider has the conversation in its cache: what
another one would cost beyond is the price of losing it.

A first attempt may be drawn to be answered twice, or to be looked at by people (``core/shadow``); that changes nothing of the choice.

A session keeps its assignment until it is excluded, its cohort changed by control, or its stratum, or a slice of this request, was rolled back. A
further attempt keeps the first one's stratum and cohort; where it has a chain, it goes to the first of that which is a candidate. A request that names a model goes there or nowhere.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from router.contract.errors import Code
from router.contract.records import Cohort
from router.core.by_load import by_load
from router.core.candidates import candidate_of, candidates_of, refusal_of, unwell
from router.core.checking import checking_of
from router.core.draw import HOLDOUT, MODEL, PROBE, ROLLOUT, draw
from router.core.facts import Assignment, Choice, Refusal, RequestFacts
from router.core.gauge import gauge_of, gauged
from router.core.mix import PROBE_SHARE, on_probation, policy_weights, restricted, walk, with_floor, with_probation
from router.core.shadow import sampled, to_shadow
from router.core.snapshot import ModelFacts, Orders, PoolFacts, Snapshot

LEARNING: Final = frozenset({"thompson", "squarecb"})

#: A further attempt stays in the cohort of the first one, unless an order says where it must go.
_LASTING: Final = frozenset({"holdout", "control", "pilot"})


def decide(facts: RequestFacts, snapshot: Snapshot) -> Choice | Refusal:
    """The choice for one attempt, or why there is none. About 6 us for a pool of three."""
    if facts.at_ms >= facts.deadline_at_ms:
        return Refusal(Code.DEADLINE_EXCEEDED, "the deadline had passed when the request was read")
    allowed = snapshot.pools_of(facts.tenant)
    pool = snapshot.pools.get(facts.target)
    if facts.reason in {"judge", "shadow"}:
        return _to_judge(facts, snapshot, pool) if facts.reason == "judge" else to_shadow(facts, snapshot, pool)
    if pool is not None and (allowed is None or pool.name in allowed):
        found = _in_pool(facts, snapshot, pool)
        if facts.first is None and isinstance(found, Choice) and (facts.pace is not None or pool.shadow_percent > 0.0):
            return replace(found, sample=sampled(facts, snapshot, pool, found))
        return found
    model = snapshot.models.get(facts.target)
    if pool is None and model is not None and _may_use(model.name, allowed, snapshot):
        return _direct(facts, snapshot, model)
    return Refusal(Code.MODEL_NOT_FOUND, f"no pool or model {facts.target[:80]!r} for this tenant")


def _to_judge(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts | None) -> Choice | Refusal:
    """To the model that the order names, whatever pool it is in, as long as it is well."""
    judge, first = snapshot.models.get(facts.prefer or ""), facts.first
    if judge is None or first is None or (facts.mirror is not None and pool is None):
        return Refusal(Code.NO_MODEL_AVAILABLE, f"there is no judge {(facts.prefer or '')[:80]!r}")
    candidate = candidate_of(facts, snapshot, judge, pin=None)
    if candidate.excluded is None and (sick := unwell(facts, snapshot, judge.name)) is not None:
        candidate = candidate._replace(excluded=sick)
    if candidate.excluded is not None:
        return Refusal(Code.NO_MODEL_AVAILABLE, f"the judge cannot be asked ({judge.name}: {candidate.excluded})")
    return Choice(
        model=judge.name,
        pool=None if pool is None else pool.name,
        stratum=first.stratum,
        baseline=None if pool is None else pool.baseline,
        candidates=(candidate,),
        weights={judge.name: 1.0},
        draw=draw(facts.tenant, facts.unit, MODEL),
        propensity=1.0,
        cohort=first.cohort if facts.mirror is None else "shadow",
        policy_version=first.policy_version,
        reason="judge",
        shadow_of=None if facts.mirror is None else facts.mirror.of,
    )


def _may_use(model: str, allowed: tuple[str, ...] | None, snapshot: Snapshot) -> bool:
    return allowed is None or any(model in snapshot.pools[name].models for name in allowed if name in snapshot.pools)


def _direct(facts: RequestFacts, snapshot: Snapshot, model: ModelFacts) -> Choice | Refusal:
    """A model named by the caller: no pins, no cohorts, no fallback, and health is the worker's matter."""
    candidate = candidate_of(facts, snapshot, model, pin=None)
    if candidate.excluded is not None:
        return refusal_of(facts, (candidate,))
    return Choice(
        model=model.name,
        pool=None,
        stratum=None,
        baseline=None,
        candidates=(candidate,),
        weights={model.name: 1.0},
        draw=draw(facts.tenant, facts.unit, MODEL),
        propensity=1.0,
        cohort="direct",
        policy_version="direct",
        reason=facts.reason,
    )


def _in_pool(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts) -> Choice | Refusal:
    assignment = facts.assignment if pool.sticky and facts.first is None else None
    if assignment is None:
        return _anew(facts, snapshot, pool, None)
    kept = _kept(facts, snapshot, pool, assignment)
    return kept if isinstance(kept, Choice) else _anew(facts, snapshot, pool, kept)


def _kept(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, assignment: Assignment) -> Choice | str:
    """The choice that the session's assignment makes, or why it breaks."""
    orders = snapshot.orders_for(pool.name, assignment.stratum, facts.tenant, facts.at_ms, facts.slices)
    if _cohort(facts, pool, orders) != assignment.cohort:
        return "control"
    if orders.rolled_back and assignment.model != pool.baseline:
        return "rollback"
    checking = checking_of(facts, snapshot, pool, assignment.stratum, assignment.cohort)
    candidates = candidates_of(facts, snapshot, pool, orders.pin, checking)
    excluded = next((c.excluded for c in candidates if c.model == assignment.model), "left")
    if excluded is not None:
        return excluded
    gauge = gauge_of(facts, snapshot, pool, assignment.stratum, candidates)
    return Choice(
        model=assignment.model,
        pool=pool.name,
        stratum=assignment.stratum,
        baseline=pool.baseline,
        candidates=candidates,
        weights=assignment.weights,
        draw=draw(facts.tenant, facts.unit, MODEL),
        propensity=assignment.weights.get(assignment.model, 1.0),
        cohort=assignment.cohort,
        policy_version=assignment.policy_version,
        reason=facts.reason,
        trial=None if checking is None else checking.trial(facts, assignment.model, candidates),
        fence=orders.fence,
        **gauged(gauge, assignment.model),
    )


def _anew(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, broke: str | None) -> Choice | Refusal:
    first = facts.first
    stratum = facts.stratum if first is None or first.stratum is None else first.stratum
    orders = snapshot.orders_for(pool.name, stratum, facts.tenant, facts.at_ms, facts.slices)
    cohort = _cohort(facts, pool, orders)
    checking = checking_of(facts, snapshot, pool, stratum, cohort)
    candidates = candidates_of(facts, snapshot, pool, orders.pin, checking)
    open_models = [candidate.model for candidate in candidates if candidate.excluded is None]
    if not open_models:
        return refusal_of(facts, candidates)
    salt = MODEL if facts.attempt <= 1 else f"{MODEL}:{facts.attempt}"
    drawn = draw(facts.tenant, facts.unit, salt)
    version, published = policy_weights(snapshot, pool, stratum, orders)
    would = None
    gauge = gauge_of(facts, snapshot, pool, stratum, candidates)
    if facts.chain:
        chosen = next(model for model in facts.chain if model in open_models)
        weights = {model: float(model == chosen) for model in open_models}
    elif facts.prefer in open_models:
        weights = {model: float(model == facts.prefer) for model in open_models}
    elif cohort == "pilot" and pool.policy != "observe":
        if gauge is None or orders.rolled_back:
            weights = restricted(published, open_models, pool.baseline)
        else:
            weights = gauge.weights(pool, open_models, facts.purse)
        weights = by_load(weights, snapshot)
        if pool.policy in LEARNING and not orders.rolled_back:
            weights = with_floor(weights, pool.epsilon)
        weights = with_probation(weights, snapshot, facts.at_ms)
    else:
        chosen = open_models[0] if cohort == "pinned" else _baseline(facts, snapshot, pool, open_models)
        weights = {model: float(model == chosen) for model in open_models}
        if cohort == "control" and orders.observed(pool):
            would = walk(with_floor(restricted(published, open_models, pool.baseline), pool.epsilon), drawn)
    model = walk(weights, drawn)
    return Choice(
        model=model,
        pool=pool.name,
        stratum=stratum,
        baseline=pool.baseline,
        candidates=candidates,
        weights=weights,
        draw=drawn,
        propensity=weights[model],
        cohort=cohort,
        policy_version=version,
        reason="fallback" if facts.reason == "retry" and model != facts.prefer else facts.reason,
        session_broke=broke,
        would=would,
        trial=None if checking is None else checking.trial(facts, model, candidates),
        fence=orders.fence,
        **gauged(gauge, model),
    )


def _cohort(facts: RequestFacts, pool: PoolFacts, orders: Orders) -> Cohort:
    if orders.pin is not None:
        return "pinned"
    if facts.first is not None and facts.first.cohort in _LASTING:
        return facts.first.cohort
    tenant, unit = facts.tenant, facts.unit
    holdout = pool.holdout_percent if orders.holdout_percent is None else orders.holdout_percent
    if holdout > 0.0 and draw(tenant, unit, HOLDOUT) * 100.0 < holdout:
        return "holdout"
    if pool.policy == "observe":
        return "control"
    rollout = pool.rollout_percent if orders.rollout_percent is None else orders.rollout_percent
    reached = rollout >= 100.0 or draw(tenant, unit, ROLLOUT) * 100.0 < rollout
    return "pilot" if reached else "control"


def _baseline(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, open_models: list[str]) -> str:
    """The baseline, or the dearest other candidate while the baseline is out, or on probation beyond its share."""
    others = [model for model in open_models if model != pool.baseline]
    if pool.baseline not in open_models:
        return others[-1]
    if others and on_probation(snapshot, pool.baseline, facts.at_ms):
        probe = draw(facts.tenant, facts.request_id, f"{PROBE}:{facts.attempt}") < PROBE_SHARE
        return pool.baseline if probe else others[-1]
    return pool.baseline
