"""What a lane of learn keeps of a pool's cascade: the labels of each stratum, and the threshold they lead to.

Rows of learn's table: ``PREFIX`` + ``pool/stratum`` -> JSON of ``core.labels.Labels``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from router.config import ModelConfig, PoolConfig
from router.contract.records import CascadeThreshold, ServedRisk
from router.core.cascade import arm_of
from router.core.labels import InForce, Labels
from router.core.risk import Label
from router.stages.snapshot import cascade_facts

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
    scale: str

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
            scale=self.scale,
            served=served,
        )


@dataclass(slots=True)
class Book:
    """Labels of one stratum. ``found``: what they lead to, ``None`` until asked for."""

    labels: Labels
    found: InForce | None = None

    def add(self, news: Iterable[Label], cascade: Cascade, now_ms: int) -> None:
        self.labels, self.found = self.labels.adding(news, cascade.target, now_ms), None

    def in_force(self, cascade: Cascade) -> InForce:
        """Some milliseconds after a label, else at once."""
        if self.found is None:
            self.found = self.labels.in_force(cascade.threshold, cascade.target, cascade.delta)
        return self.found


def cascade_of(pool: PoolConfig, models: Mapping[str, ModelConfig]) -> Cascade | None:
    """As configured, ``None`` where there is none."""
    found, facts = pool.cascade, cascade_facts(pool, models)
    if found is None or facts is None:
        return None
    return Cascade(
        cheap=facts.cheap,
        to=facts.to,
        threshold=facts.threshold,
        target=float(found.target_risk),
        delta=float(found.delta),
        asked=not facts.observe,
        scale=facts.scale,
    )
