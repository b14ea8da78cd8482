"""Which model gets a request, with which probability, and why: a pure function of the request's facts and the snapshot.

    candidates -> cohort -> weights -> floor -> draw

1. Candidates are the pool's models, less those that a rule excludes. The rules in order: ``pin ban drain tried capability
   context budget``. When none is left the refusal has the code of the rule that removed the last one. ``down`` and
   ``deadline`` (the model's p95 does not fit into what is left) exclude only while something else remains. In a pool with a
   budget ``spent`` excludes what the ledger has no room for, but for the cheapest.
2. Cohort, by draws of the unit (session or request): ``pinned`` by order; else ``holdout``, then ``pilot`` for
   ``rollout_percent`` of the rest, else ``control``. Holdout and control go to the baseline, or to the dearest candidate
   where the baseline is none.
3. The pilot's weights are the stratum's, restricted to the candidates and renormalised; of policy ``squarecb`` those of this very
   request, by the stratum's regression (``core/bandit/squarecb``). ``epsilon`` of it is spread evenly
   (learning policies only: ``fixed`` is the operator's word; none where traffic was rolled back). A model on probation
   (``probing``) gets at most ``PROBE_SHARE``.
4. The draw walks the weights in the pool's order, cheap to dear. Propensity is the weight of the model reached.

Where the pool has a cascade, the pilot's cheapest model is on trial: its answer is checked, and the request goes on to a better
model where that is not sure enough (``core/checking``). Its expected cost is then that of both, as often as that happens.

The model that answered last in a session is expected to cost less, as long as its provider has the conversation in its cache: what
another one would cost beyond is the price of losing it.

A session keeps its assignment until it is excluded, its cohort changed by control, or its stratum was rolled back. A
further attempt keeps the first one's stratum and cohort. A request that names a model goes there or nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from router.contract.errors import Code
from router.contract.records import Cohort
from router.core.bandit.squarecb import (
    UNTAUGHT,
    Context,
    Regression,
    context_of,
    inverse_gap,
    predict,
    released,
    worth,
)
from router.core.checking import Checking, checking_of
from router.core.draw import HOLDOUT, MODEL, PROBE, ROLLOUT, draw
from router.core.facts import (
    CACHED_FROM_TOKENS,
    USUAL_COMPLETION_TOKENS,
    Assignment,
    Candidate,
    Choice,
    Purse,
    Refusal,
    RequestFacts,
)
from router.core.price import expected_cost_nano_usd
from router.core.snapshot import ModelFacts, Orders, PoolFacts, Snapshot

#: Of the requests that could go to it, the share that a model on probation gets.
PROBE_SHARE: Final = 0.05

LEARNING: Final = frozenset({"thompson", "squarecb"})

#: Rules that exclude a model for good, in the order in which they are asked, and the code when they leave none.
_CODES: Final[dict[str, Code]] = {
    "pin": Code.NO_MODEL_AVAILABLE,
    "ban": Code.NO_MODEL_AVAILABLE,
    "drain": Code.NO_MODEL_AVAILABLE,
    "tried": Code.NO_MODEL_AVAILABLE,
    "capability": Code.CAPABILITY_MISSING,
    "context": Code.CONTEXT_LENGTH_EXCEEDED,
    "budget": Code.BUDGET_EXCEEDED,
}
_RANK: Final = {rule: rank for rank, rule in enumerate(_CODES)}

#: Rules that exclude only while something else remains; the later ones are given up first.
_SOFT: Final = ("down", "deadline")

#: A further attempt stays in the cohort of the first one, unless an order says where it must go.
_LASTING: Final = frozenset({"holdout", "control", "pilot"})


def decide(facts: RequestFacts, snapshot: Snapshot) -> Choice | Refusal:
    """The choice for one attempt, or why there is none. About 6 us for a pool of three."""
    if facts.at_ms >= facts.deadline_at_ms:
        return Refusal(Code.DEADLINE_EXCEEDED, "the deadline had passed when the request was read")
    allowed = snapshot.tenants.get(facts.tenant)
    pool = snapshot.pools.get(facts.target)
    if facts.reason == "judge":
        return _to_judge(facts, snapshot, pool)
    if pool is not None and (allowed is None or pool.name in allowed):
        return _in_pool(facts, snapshot, pool)
    model = snapshot.models.get(facts.target)
    if pool is None and model is not None and _may_use(model.name, allowed, snapshot):
        return _direct(facts, snapshot, model)
    return Refusal(Code.MODEL_NOT_FOUND, f"no pool or model {facts.target[:80]!r} for this tenant")


def _to_judge(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts | None) -> Choice | Refusal:
    """To the model that the order names, whatever pool it is in, as long as it is well."""
    judge, first = snapshot.models.get(facts.prefer or ""), facts.first
    if judge is None or first is None:
        return Refusal(Code.NO_MODEL_AVAILABLE, f"there is no judge {(facts.prefer or '')[:80]!r}")
    candidate = _candidate(facts, snapshot, judge, pin=None)
    if candidate.excluded is None and (unwell := _unwell(facts, snapshot, judge.name)) is not None:
        candidate = candidate._replace(excluded=unwell)
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
        cohort=first.cohort,
        policy_version=first.policy_version,
        reason="judge",
    )


def _may_use(model: str, allowed: tuple[str, ...] | None, snapshot: Snapshot) -> bool:
    return allowed is None or any(model in snapshot.pools[name].models for name in allowed if name in snapshot.pools)


def _direct(facts: RequestFacts, snapshot: Snapshot, model: ModelFacts) -> Choice | Refusal:
    """A model named by the caller: no pins, no cohorts, no fallback, and health is the worker's matter."""
    candidate = _candidate(facts, snapshot, model, pin=None)
    if candidate.excluded is not None:
        return _refusal(facts, (candidate,))
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
    orders = snapshot.orders_for(pool.name, assignment.stratum, facts.tenant, facts.at_ms)
    if _cohort(facts, pool, orders) != assignment.cohort:
        return "control"
    if orders.rolled_back and assignment.model != pool.baseline:
        return "rollback"
    checking = checking_of(facts, snapshot, pool, assignment.stratum, assignment.cohort)
    candidates = _candidates(facts, snapshot, pool, orders.pin, checking)
    excluded = next((c.excluded for c in candidates if c.model == assignment.model), "left")
    if excluded is not None:
        return excluded
    gauge = _gauge(facts, snapshot, pool, assignment.stratum, candidates)
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
        **_gauged(gauge, assignment.model),
    )


def _anew(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, broke: str | None) -> Choice | Refusal:
    first = facts.first
    stratum = facts.stratum if first is None or first.stratum is None else first.stratum
    orders = snapshot.orders_for(pool.name, stratum, facts.tenant, facts.at_ms)
    cohort = _cohort(facts, pool, orders)
    checking = checking_of(facts, snapshot, pool, stratum, cohort)
    candidates = _candidates(facts, snapshot, pool, orders.pin, checking)
    open_models = [candidate.model for candidate in candidates if candidate.excluded is None]
    if not open_models:
        return _refusal(facts, candidates)
    salt = MODEL if facts.attempt <= 1 else f"{MODEL}:{facts.attempt}"
    drawn = draw(facts.tenant, facts.unit, salt)
    version, policy_weights = _policy_weights(snapshot, pool, stratum, orders)
    would = None
    gauge = _gauge(facts, snapshot, pool, stratum, candidates)
    if facts.prefer in open_models:
        weights = {model: float(model == facts.prefer) for model in open_models}
    elif cohort == "pilot" and pool.policy != "observe":
        if gauge is None or orders.rolled_back:
            weights = _restricted(policy_weights, open_models, pool.baseline)
        else:
            weights = gauge.weights(pool, open_models, facts.purse)
        if pool.policy in LEARNING and not orders.rolled_back:
            weights = _with_floor(weights, pool.epsilon)
        weights = _with_probation(weights, snapshot, facts.at_ms)
    else:
        chosen = open_models[0] if cohort == "pinned" else _baseline(facts, snapshot, pool, open_models)
        weights = {model: float(model == chosen) for model in open_models}
        if cohort == "control" and pool.policy == "observe":
            would = walk(_with_floor(_restricted(policy_weights, open_models, pool.baseline), pool.epsilon), drawn)
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
        **_gauged(gauge, model),
    )


@dataclass(frozen=True, slots=True)
class _Gauge:
    """What policy ``squarecb`` knows of a request: context, expected quality and cost of each candidate."""

    regression: Regression
    contexts: Mapping[str, Context]
    quality: Mapping[str, float]
    cost: Mapping[str, float]

    def weights(self, pool: PoolFacts, models: list[str], purse: Purse | None) -> dict[str, float]:
        """Of these models; ``purse`` where a budget is kept."""
        quality = {model: self.quality[model] for model in models}
        cost = {model: self.cost[model] for model in models}
        gamma = self.regression.gamma
        if purse is None:
            values = worth(quality, cost, self.quality[pool.baseline], pool.margin)
            weights = inverse_gap(values, gamma)
            return weights if pool.optimistic else released(weights, self.regression, pool.baseline)
        return inverse_gap(
            {model: quality[model] - purse.price * cost[model] / pool.budget_nano_usd for model in models}, gamma
        )


def _gauge(
    facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, stratum: str, candidates: tuple[Candidate, ...]
) -> _Gauge | None:
    """``None`` with other policies."""
    if pool.policy != "squarecb":
        return None
    published = snapshot.weights.get((pool.name, stratum))
    regression = (published.regression if published is not None else None) or UNTAUGHT
    contexts = {
        candidate.model: context_of(candidate.p_ok, facts.prompt_tokens, facts.needs) for candidate in candidates
    }
    quality = {model: round(predict(regression, model, x), 4) for model, x in contexts.items()}
    known = [float(candidate.expected_cost_nano_usd or 0) for candidate in candidates]
    unknown = max(known, default=0.0)  # nobody knows its price: as dear as the dearest
    cost = {
        candidate.model: unknown if candidate.expected_cost_nano_usd is None else candidate.expected_cost_nano_usd
        for candidate in candidates
    }
    return _Gauge(regression, contexts, quality, cost)


def _gauged(gauge: _Gauge | None, model: str) -> dict[str, Any]:
    """What a choice of this model says of it: fields of ``Choice``."""
    if gauge is None:
        return {}
    return {"quality": gauge.quality, "context": gauge.contexts[model], "gamma": gauge.regression.gamma}


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


def _candidates(
    facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, pin: str | None, checking: Checking | None
) -> tuple[Candidate, ...]:
    """Every model of the pool (and one pinned from outside it), soft rules applied as long as something remains."""
    names = pool.models if pin is None or pin in pool.models else (*pool.models, pin)
    found = [
        _candidate(facts, snapshot, model, pin) for name in names if (model := snapshot.models.get(name)) is not None
    ]
    if pin is not None:
        return tuple(found)  # an order overrules budget and health
    if checking is not None:
        found = checking.priced(found)
    if facts.purse is not None:
        found = _affordable(found, facts.purse)
    if not snapshot.health:
        return tuple(found)
    soft = {candidate.model: _unwell(facts, snapshot, candidate.model) for candidate in found}
    for rules in (_SOFT, _SOFT[:1], ()):
        held = [candidate for candidate in found if candidate.excluded is None and soft[candidate.model] in rules]
        if len(held) < sum(candidate.excluded is None for candidate in found):
            return tuple(
                candidate._replace(excluded=soft[candidate.model]) if candidate in held else candidate
                for candidate in found
            )
    return tuple(found)


def _affordable(candidates: list[Candidate], purse: Purse) -> list[Candidate]:
    """``spent`` where the ledger has no room; the cheapest that is left may always be asked."""
    open_ones = [candidate for candidate in candidates if candidate.excluded is None]
    costs = [one.expected_cost_nano_usd or 0 for one in open_ones]
    room = purse.left_nano_usd + max(purse.burst_nano_usd, purse.dearer * max(costs, default=0))
    most = max(room / purse.dearer, min(costs, default=0))
    return [
        candidate._replace(excluded="spent")
        if candidate.excluded is None and (candidate.expected_cost_nano_usd or 0) > most
        else candidate
        for candidate in candidates
    ]


def _candidate(facts: RequestFacts, snapshot: Snapshot, model: ModelFacts, pin: str | None) -> Candidate:
    answer_tokens = min(facts.completion_tokens or USUAL_COMPLETION_TOKENS, model.max_output_tokens) * facts.answers
    cost = expected_cost_nano_usd(model.price, facts.prompt_tokens, answer_tokens, _cached_tokens(facts, model))
    return Candidate(model.name, _excluded(facts, snapshot, model, pin, cost), facts.p_ok.get(model.name), cost)


def _cached_tokens(facts: RequestFacts, model: ModelFacts) -> int:
    """Of the prompt, what the model's provider still has of the conversation: another model would be paid for it again."""
    warm = facts.warm
    if warm is None or warm.model != model.name or facts.at_ms - warm.at_ms >= model.cache_ttl_ms:
        return 0
    shared = min(warm.tokens, facts.prompt_tokens)
    return shared if shared >= CACHED_FROM_TOKENS else 0


def _excluded(  # noqa: PLR0911 - one a rule
    facts: RequestFacts, snapshot: Snapshot, model: ModelFacts, pin: str | None, cost_nano_usd: int | None
) -> str | None:
    """The first rule that excludes the model for good."""
    if pin is not None and model.name != pin:
        return "pin"
    if (withdrawn := snapshot.withdrawn(model.name, facts.at_ms)) is not None:
        return withdrawn
    if model.name in facts.exclude:
        return "tried"
    if facts.needs and not model.capabilities.issuperset(facts.needs):
        return "capability"
    if facts.prompt_tokens + (facts.completion_tokens or 0) > model.context_window:
        return "context"
    if facts.max_cost_nano_usd is not None and (cost_nano_usd is None or cost_nano_usd > facts.max_cost_nano_usd):
        return "budget"  # what nobody knows the price of fits no budget
    return None


def _unwell(facts: RequestFacts, snapshot: Snapshot, model: str) -> str | None:
    health = snapshot.health.get(model)
    if health is None:
        return None
    if health.state == "down" and (health.until_ms is None or facts.at_ms < health.until_ms):
        return "down"
    if health.p95_ms is not None and facts.at_ms + health.p95_ms > facts.deadline_at_ms:
        return "deadline"
    return None


def _on_probation(snapshot: Snapshot, model: str, at_ms: int) -> bool:
    """Probing, or down with its rest over: as good as probing, should nobody say so."""
    health = snapshot.health.get(model)
    if health is None:
        return False
    rested = health.state == "down" and health.until_ms is not None and at_ms >= health.until_ms
    return health.state == "probing" or rested


def _refusal(facts: RequestFacts, candidates: tuple[Candidate, ...]) -> Refusal:
    """By the rule that removed the last candidate: the one that the most hopeful model failed."""
    reasons = {candidate.model: candidate.excluded for candidate in candidates if candidate.excluded in _RANK}
    last = max(reasons.values(), key=lambda rule: _RANK[rule or "pin"], default=None) or "ban"
    code: Code | str = facts.last_error if last == "tried" and facts.last_error else _CODES[last]
    listed = ", ".join(f"{model}: {rule}" for model, rule in reasons.items())
    return Refusal(code, f"no model is left ({listed})")


def _policy_weights(
    snapshot: Snapshot, pool: PoolFacts, stratum: str, orders: Orders
) -> tuple[str, Mapping[str, float]]:
    """Policy version and weights of the stratum, before anything is excluded."""
    if orders.rolled_back:
        return "rollback", {pool.baseline: 1.0}
    if pool.policy == "fixed":
        return "fixed:0", pool.weights
    published = snapshot.weights.get((pool.name, stratum))
    if published is None:
        return f"{pool.policy}:0", {pool.baseline: 1.0}
    return published.policy_version, published.weights


def _restricted(weights: Mapping[str, float], models: list[str], baseline: str) -> dict[str, float]:
    """``weights`` on these models alone, sum 1; where they had none, all on the baseline, else on the dearest."""
    total = sum(weights.get(model, 0.0) for model in models)
    if total <= 0.0:
        chosen = baseline if baseline in models else models[-1]
        return {model: float(model == chosen) for model in models}
    return {model: weights.get(model, 0.0) / total for model in models}


def _with_floor(weights: dict[str, float], epsilon: float) -> dict[str, float]:
    share = epsilon / len(weights)
    return {model: (1.0 - epsilon) * weight + share for model, weight in weights.items()}


def _with_probation(weights: dict[str, float], snapshot: Snapshot, at_ms: int) -> dict[str, float]:
    """What models on probation have beyond their share goes to the others, in proportion; not if there are none."""
    if not snapshot.health:
        return weights
    probing = {model for model in weights if _on_probation(snapshot, model, at_ms)}
    over = sum(max(0.0, weights[model] - PROBE_SHARE) for model in probing)
    sound = [model for model in weights if model not in probing]
    if over <= 0.0 or not sound:
        return weights
    sound_total = sum(weights[model] for model in sound)
    shares = {model: weights[model] / sound_total if sound_total > 0.0 else 1.0 / len(sound) for model in sound}
    return {
        model: min(weight, PROBE_SHARE) if model in probing else weight + over * shares[model]
        for model, weight in weights.items()
    }


def _baseline(facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, open_models: list[str]) -> str:
    """The baseline, or the dearest other candidate while the baseline is out, or on probation beyond its share."""
    others = [model for model in open_models if model != pool.baseline]
    if pool.baseline not in open_models:
        return others[-1]
    if others and _on_probation(snapshot, pool.baseline, facts.at_ms):
        probe = draw(facts.tenant, facts.request_id, f"{PROBE}:{facts.attempt}") < PROBE_SHARE
        return pool.baseline if probe else others[-1]
    return pool.baseline


def walk(weights: Mapping[str, float], drawn: float) -> str:
    """The model in whose part of [0, 1) the draw falls, parts laid out in the order of ``weights``.

    A change of weights so moves only the units between the old and the new bounds. Models of weight 0 are never reached.
    """
    reached = ""
    left = drawn
    for model, weight in weights.items():
        if weight > 0.0:
            reached = model
            left -= weight
            if left < 0.0:
                break
    return reached
