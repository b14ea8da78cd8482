"""Which models of a pool may take a request, and why the others may not."""

from __future__ import annotations

from typing import Final

from router.contract.errors import Code
from router.core.checking import Checking
from router.core.facts import CACHED_FROM_TOKENS, USUAL_COMPLETION_TOKENS, Candidate, Purse, Refusal, RequestFacts
from router.core.price import expected_cost_nano_usd
from router.core.snapshot import ModelFacts, PoolFacts, Snapshot

#: Rules that exclude a model for good, in the order in which they are asked, and the code when they leave none.
_CODES: Final[dict[str, Code]] = {
    "tenant": Code.MODEL_NOT_FOUND,
    "pin": Code.NO_MODEL_AVAILABLE,
    "ban": Code.NO_MODEL_AVAILABLE,
    "drain": Code.NO_MODEL_AVAILABLE,
    "tried": Code.NO_MODEL_AVAILABLE,
    "chain": Code.NO_MODEL_AVAILABLE,
    "capability": Code.CAPABILITY_MISSING,
    "context": Code.CONTEXT_LENGTH_EXCEEDED,
    "budget": Code.BUDGET_EXCEEDED,
}
_RANK: Final = {rule: rank for rank, rule in enumerate(_CODES)}

#: Rules that exclude only while something else remains; the later ones are given up first.
_SOFT: Final = ("down", "deadline")


def candidates_of(
    facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, pin: str | None, checking: Checking | None
) -> tuple[Candidate, ...]:
    """Every model of the pool (and those from outside it that are pinned, or in the chain), soft rules applied as long as something remains."""
    names = pool.models if pin is None or pin in pool.models else (*pool.models, pin)
    if facts.chain:
        names = (*names, *(model for model in facts.chain if model not in names))
    found = [
        candidate_of(facts, snapshot, model, pin) for name in names if (model := snapshot.models.get(name)) is not None
    ]
    if pin is not None:
        return tuple(found)  # an order overrules budget and health
    if checking is not None and _may_be_asked(facts, snapshot, found, checking.cascade.to):
        found = checking.priced(found)
    if facts.purse is not None:
        found = _affordable(found, facts.purse)
    if not snapshot.health:
        return tuple(found)
    soft = {candidate.model: unwell(facts, snapshot, candidate.model) for candidate in found}
    for rules in (_SOFT, _SOFT[:1], ()):
        held = [candidate for candidate in found if candidate.excluded is None and soft[candidate.model] in rules]
        if len(held) < sum(candidate.excluded is None for candidate in found):
            return tuple(
                candidate._replace(excluded=soft[candidate.model]) if candidate in held else candidate
                for candidate in found
            )
    return tuple(found)


def _may_be_asked(facts: RequestFacts, snapshot: Snapshot, candidates: list[Candidate], model: str) -> bool:
    return unwell(facts, snapshot, model) is None and any(
        one.model == model and one.excluded is None for one in candidates
    )


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


def candidate_of(facts: RequestFacts, snapshot: Snapshot, model: ModelFacts, pin: str | None) -> Candidate:
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
    if snapshot.tenant_models and model.name not in (snapshot.models_of(facts.tenant) or (model.name,)):
        return "tenant"
    if pin is not None and model.name != pin:
        return "pin"
    if (withdrawn := snapshot.withdrawn(model.name, facts.at_ms)) is not None:
        return withdrawn
    if model.name in facts.exclude:
        return "tried"
    if facts.chain and model.name not in facts.chain:
        return "chain"
    if facts.needs and not model.capabilities.issuperset(facts.needs):
        return "capability"
    if facts.prompt_tokens + (facts.completion_tokens or 0) > model.context_window:
        return "context"
    if facts.max_cost_nano_usd is not None and (cost_nano_usd is None or cost_nano_usd > facts.max_cost_nano_usd):
        return "budget"  # what nobody knows the price of fits no budget
    return None


def unwell(facts: RequestFacts, snapshot: Snapshot, model: str) -> str | None:
    health = snapshot.health.get(model)
    if health is None:
        return None
    if health.state == "down" and (health.until_ms is None or facts.at_ms < health.until_ms):
        return "down"
    if facts.at_ms + health.wait_ms + (health.p95_ms or 0) > facts.deadline_at_ms:
        return "deadline"
    return None


def refusal_of(facts: RequestFacts, candidates: tuple[Candidate, ...]) -> Refusal:
    """By the rule that removed the last candidate: the one that the most hopeful model failed."""
    reasons = {candidate.model: candidate.excluded for candidate in candidates if candidate.excluded in _RANK}
    last = max(reasons.values(), key=lambda rule: _RANK[rule or "pin"], default=None) or "ban"
    code: Code | str = facts.last_error if last in {"tried", "chain"} and facts.last_error else _CODES[last]
    listed = ", ".join(f"{model}: {rule}" for model, rule in reasons.items())
    return Refusal(code, f"no model is left ({listed})")
