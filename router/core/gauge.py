"""What policy ``squarecb`` knows of a request, and the weights that follow (``core/bandit/squarecb``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from router.core.facts import Candidate, Purse, RequestFacts
from router.core.snapshot import PoolFacts, Snapshot


@dataclass(frozen=True, slots=True)
class Gauge:
    """Context, expected quality and cost of each candidate."""

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


def gauge_of(
    facts: RequestFacts, snapshot: Snapshot, pool: PoolFacts, stratum: str, candidates: tuple[Candidate, ...]
) -> Gauge | None:
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
    return Gauge(regression, contexts, quality, cost)


def gauged(gauge: Gauge | None, model: str) -> dict[str, Any]:
    """What a choice of this model says of it: fields of ``Choice``."""
    if gauge is None:
        return {}
    return {"quality": gauge.quality, "context": gauge.contexts[model], "gamma": gauge.regression.gamma}
