"""What a lane of learn keeps of a pool's cascade: the labels of each stratum, and the threshold they lead to.

Rows of learn's table: ``PREFIX`` + ``pool/stratum`` -> JSON list of ``core.risk.Label``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from router.config import PoolConfig
from router.contract.records import CascadeThreshold, Reward, ServedRisk
from router.core.cascade import arm_of
from router.core.risk import InForce, Label, in_force, labels_of, with_labels

PREFIX: Final = b"\0labels/"
_DECIMALS: Final = 4


@dataclass(frozen=True, slots=True)
class Cascade:
    """A pool's cascade as learn needs it. ``asked``: it is not only observed."""

    cheap: str
    to: str
    threshold: float
    target: float
    delta: float
    asked: bool

    @property
    def arm(self) -> str:
        return arm_of(self.cheap, self.to)

    def published(self, found: InForce) -> CascadeThreshold:
        """The part of a ``Weights`` record."""
        served = {
            name: ServedRisk(
                threshold=one.threshold,
                labels=one.labels,
                risk=round(one.risk, _DECIMALS),
                bound=round(one.bound, _DECIMALS),
                later_labels=found.later[name].labels,
                later_risk=round(found.later[name].risk, _DECIMALS),
            )
            for name, one in sorted(found.served.items())
        }
        return CascadeThreshold(
            to=self.to,
            threshold=found.threshold,
            calibrated=found.calibrated,
            escalates=found.escalates,
            served=served,
        )


@dataclass(slots=True)
class Labels:
    """Of one stratum. ``found``: what they lead to, ``None`` until asked for."""

    known: list[Label] = field(default_factory=list)
    found: InForce | None = None

    @classmethod
    def load(cls, value: bytes) -> Labels:
        return cls(labels_of(orjson.loads(value)))

    def add(self, news: Iterable[Label], cascade: Cascade) -> None:
        self.known, self.found = with_labels(self.known, news, cascade.threshold, cascade.target), None

    def dump(self) -> bytes:
        return orjson.dumps([tuple(one) for one in self.known])

    def in_force(self, cascade: Cascade) -> InForce:
        """Some milliseconds after a label, else at once."""
        if self.found is None:
            self.found = in_force(self.known, cascade.threshold, cascade.target, cascade.delta)
        return self.found


def cascade_of(pool: PoolConfig) -> Cascade | None:
    """As configured, ``None`` where there is none."""
    found = pool.cascade
    if found is None:
        return None
    return Cascade(
        cheap=pool.models[0],
        to=pool.escalate_to,
        threshold=float(found.threshold),
        target=float(found.target_risk),
        delta=float(found.delta),
        asked=not found.observe,
    )


def label_of(reward: Reward, at_ms: int) -> Label | None:
    """The label in a reward, if there is one."""
    label = reward.label
    if label is None or label.inclusion <= 0.0:
        return None
    return Label(
        confidence=float(label.confidence),
        quality=float(reward.reward),
        weight=1.0 / float(label.inclusion),
        at_ms=at_ms,
        served_model=label.served_model,
        held=None if label.threshold is None else float(label.threshold),
    )


def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Keys changed by ``names``, the rest as they are."""
    return {names.get(name, name): value for name, value in values.items()}
