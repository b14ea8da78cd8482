"""How requests are classed: a classifier, and for each pool the strata that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from router.config import Config
from router.core.artefact import Artefact
from router.core.classify import Classifier, Rule, Seen
from router.core.strata import GainBands, Strata, TokenBands
from router.core.usual import Usual


class Asking(NamedTuple):
    """What is classed. ``target``: the pool or model that the request names."""

    target: str
    seen: Seen
    prompt_tokens: int


class Kind(NamedTuple):
    """``p_ok``, ``learned``, ``far`` as in ``Classification``."""

    stratum: str
    p_ok: Mapping[str, float]
    learned: str = ""
    far: bool = False


class Taxonomy:
    """``version``: of the artefact; empty without one. ``usual``: what its rows were like, by class."""

    def __init__(self, config: Config, artefact: Artefact | None) -> None:
        rules = [Rule(rule.name, rule.any) for rule in config.classify.rules]
        heads = None if artefact is None else artefact.heads
        self.version = "" if artefact is None else artefact.version
        self.usual: Mapping[str, Usual] = {} if artefact is None else artefact.usual
        self._classifier = Classifier(rules, heads, self.usual)
        self._plain = TokenBands([(band.name, band.max_tokens) for band in config.classify.bands])
        edges = {} if artefact is None else artefact.gain_edges
        self._of_models = Strata(self._classifier.classes, self._plain)
        self._of_pools = {
            name: Strata(self._classifier.classes, self._bands(pool.baseline, pool.models[0], edges))
            for name, pool in config.pools.items()
        }

    def _bands(
        self, baseline: str, cheapest: str, edges: Mapping[tuple[str, str], Sequence[float]]
    ) -> TokenBands | GainBands:
        bounds = edges.get((baseline, cheapest))
        return self._plain if bounds is None else GainBands(baseline, cheapest, bounds)

    def of(self, requests: Sequence[Asking]) -> list[Kind]:
        """Of each request; the classifier is asked once for all."""
        found = self._classifier.classify([request.seen for request in requests])
        return [
            Kind(
                self._of_pools.get(request.target, self._of_models).of(one, request.prompt_tokens),
                one.p_ok,
                one.learned,
                one.far,
            )
            for request, one in zip(requests, found, strict=True)
        ]
