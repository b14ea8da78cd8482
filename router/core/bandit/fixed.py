"""Weights as configured; whatever is observed changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from router.core.bandit.contract import Arms, Observation, only


@dataclass(frozen=True, slots=True)
class Fixed:
    """The state is ``None``. A pool without configured weights, or with none of a current model, is all baseline."""

    name: str = "fixed"

    def empty(self) -> None:
        return None

    def update(self, state: None, observations: Iterable[Observation], at_ms: int) -> None:  # noqa: ARG002 - the contract's
        return state

    def forget(self, state: None, model: str, keep: float, at_ms: int) -> None:  # noqa: ARG002
        return state

    def joined(self, state: None, model: str, into: str) -> None:  # noqa: ARG002
        return state

    def pooled(self, voices: Sequence[None], most: float, at_ms: int) -> tuple[None, dict[str, float]]:  # noqa: ARG002
        return None, {}

    def weights(self, state: None, arms: Arms, at_ms: int) -> dict[str, float]:  # noqa: ARG002
        """Configured weights of the models that are there, renormalised."""
        total = sum(arms.weights.get(model, 0.0) for model in arms.models)
        if total <= 0.0:
            return only(arms.baseline, arms.models)
        return {model: arms.weights.get(model, 0.0) / total for model in arms.models}

    def evidence(self, state: None, at_ms: int) -> dict[str, float]:  # noqa: ARG002
        return {}

    def dump(self, state: None) -> Any:
        return state

    def load(self, value: Any) -> None:  # noqa: ARG002
        return None
