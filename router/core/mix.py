"""From what was published for a stratum to the probability of each open model, and from a draw to one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from router.core.snapshot import Orders, PoolFacts, Snapshot

#: Of the requests that could go to it, the share that a model on probation gets.
PROBE_SHARE: Final = 0.05


def policy_weights(
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


def restricted(weights: Mapping[str, float], models: list[str], baseline: str) -> dict[str, float]:
    """``weights`` on these models alone, sum 1; where they had none, all on the baseline, else on the dearest."""
    total = sum(weights.get(model, 0.0) for model in models)
    if total <= 0.0:
        chosen = baseline if baseline in models else models[-1]
        return {model: float(model == chosen) for model in models}
    return {model: weights.get(model, 0.0) / total for model in models}


def with_floor(weights: dict[str, float], epsilon: float) -> dict[str, float]:
    """``epsilon`` of all spread evenly, the exploration floor."""
    share = epsilon / len(weights)
    return {model: (1.0 - epsilon) * weight + share for model, weight in weights.items()}


def with_probation(weights: dict[str, float], snapshot: Snapshot, at_ms: int) -> dict[str, float]:
    """What models on probation have beyond their share goes to the others, in proportion; not if there are none."""
    if not snapshot.health:
        return weights
    probing = {model for model in weights if on_probation(snapshot, model, at_ms)}
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


def on_probation(snapshot: Snapshot, model: str, at_ms: int) -> bool:
    """Probing, or down with its rest over: as good as probing, should nobody say so."""
    health = snapshot.health.get(model)
    if health is None:
        return False
    rested = health.state == "down" and health.until_ms is not None and at_ms >= health.until_ms
    return health.state == "probing" or rested


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
