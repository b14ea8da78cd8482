"""What calls that were made would have cost on other models, and which of them a classifier would have moved.

A call keeps its tokens on whatever model: the same count in and out, the same part of them cached. Other models answer longer or
shorter, so every figure is an estimate that says nothing of lengths.

Moved are calls from the baseline to the cheapest model that is able to (capabilities, context window, longest answer), has a
price, and of which

    p_ok(model) >= p_ok(baseline) - margin

so ``margin`` 0 moves what is expected to lose nothing, call by call, and a larger one moves at least as much. Expected change of quality:
mean of p_ok(chosen) - p_ok(baseline), calls that stay included. ``least``: each call on the cheapest model, whatever it is worth; no way
to route among these models costs less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from router.contract.records import Usage
from router.core.price import cost_nano_usd
from router.core.snapshot import ModelFacts


class Past(NamedTuple):
    """A call: what it needed of a model, and what a classifier says of each model; empty where nothing is known."""

    usage: Usage
    needs: tuple[str, ...] = ()
    p_ok: Mapping[str, float] = {}


@dataclass(slots=True)
class Plan:
    """Sums over calls: cost, how many were ``moved``, and the expected ``gain`` of quality (of a loss: below 0)."""

    cost_nano_usd: int = 0
    moved: int = 0
    gain: float = 0.0

    def add(self, cost: int, gain: float, *, moved: bool) -> None:
        self.cost_nano_usd += cost
        self.moved += moved
        self.gain += gain


class Hindsight:
    """The models of a pool, from cheap to dear, and its baseline, which has a price."""

    def __init__(self, models: Sequence[ModelFacts], baseline: str) -> None:
        self.models = tuple(models)
        self.baseline = baseline

    def costs(self, usage: Usage) -> dict[str, int]:
        """By model that has a price, in nano-dollars."""
        costs = ((model.name, cost_nano_usd(model.price, usage)) for model in self.models)
        return {name: cost for name, cost in costs if cost is not None}

    def able(self, past: Past, costs: Mapping[str, int]) -> list[str]:
        """Models that have a price and could have taken the call; the baseline always."""
        usage = past.usage
        return [
            model.name
            for model in self.models
            if model.name in costs
            and (
                model.name == self.baseline
                or (
                    model.capabilities.issuperset(past.needs)
                    and usage.prompt_tokens + usage.completion_tokens <= model.context_window
                    and usage.completion_tokens <= model.max_output_tokens
                )
            )
        ]

    def choose(self, past: Past, costs: Mapping[str, int], able: Sequence[str], margin: float) -> str:
        """Where the call would have gone; the baseline where its own ``p_ok`` is not known.

        >>> from router.core.price import Price
        >>> limits = {"context_window": 9000, "max_output_tokens": 900, "capabilities": frozenset()}
        >>> def model(name, price):
        ...     return ModelFacts(name=name, provider_model=name, price=Price(input_nano_usd_per_token=price), **limits)
        >>> pool = Hindsight([model("small", 1), model("large", 9)], "large")
        >>> past = Past(Usage(prompt_tokens=10), p_ok={"small": 0.8, "large": 0.9})
        >>> costs = pool.costs(past.usage)
        >>> [pool.choose(past, costs, ["small", "large"], margin) for margin in (0.0, 0.11)]
        ['large', 'small']
        """
        if self.baseline not in past.p_ok:
            return self.baseline
        least = past.p_ok[self.baseline] - margin
        good = [name for name in able if name == self.baseline or past.p_ok.get(name, -1.0) >= least]
        return min(good, key=costs.__getitem__)

    def gain(self, past: Past, chosen: str) -> float:
        """Expected change of quality against the baseline; 0 where nothing is known."""
        if chosen not in past.p_ok or self.baseline not in past.p_ok:
            return 0.0
        return past.p_ok[chosen] - past.p_ok[self.baseline]
