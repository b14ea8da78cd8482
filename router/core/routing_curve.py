"""How much of the gap between a cheap and a strong model a score recovers, for each share of calls to the strong one.

Problem: a score orders requests by how much the strong model is worth to them; a threshold sends those above it there.
Each threshold is a point: the share of calls to the strong model, and the *performance gap recovered*

    PGR = (quality of the mix - quality of cheap alone) / (quality of strong alone - quality of cheap alone)

- ``apgr``: the area under PGR over the share, 0..1. Random order: 0.5; the best possible order may exceed 1, since it
  leaves to the cheap model what only that answers well.
- ``cpt(x)``: the smallest share of calls with which PGR reaches x. Random order: x.

All cut points count, none are sampled. Requests of equal score are taken in random order: a straight line in the mean.
Undefined where the strong model is not better on average: ``ValueError``.

Source: Ong et al., RouteLLM: Learning to Route LLMs with Preference Data, arXiv 2406.18665, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RoutingCurve:
    """``share`` and ``recovered`` (k + 1,): from no call to the strong model to all; k distinct scores."""

    share: Array
    recovered: Array

    @property
    def apgr(self) -> float:
        """Area under the curve."""
        return float(np.diff(self.share) @ (self.recovered[1:] + self.recovered[:-1]) / 2.0)

    def cpt(self, recovered: float) -> float:
        """Share of calls with which so much of the gap (0..1) is recovered first."""
        at = int(np.argmax(self.recovered >= recovered - 1e-12))
        if at == 0:
            return 0.0
        low, high = self.recovered[at - 1], self.recovered[at]
        part = (recovered - low) / (high - low)
        return float(self.share[at - 1] + part * (self.share[at] - self.share[at - 1]))


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows in order of falling score, equal scores together: made once, asked for many weightings (``curve``).

    ``order`` (n,): rows by falling score; ``starts`` (k,): where each distinct score begins; ``gain`` (n,): strong minus
    cheap quality, in that order.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    gain: Array

    @classmethod
    def by(cls, scores: Array, strong: Array, cheap: Array) -> Ranked:
        """``scores``, qualities ``strong`` and ``cheap`` 0..1: (n,) each."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        return cls(order, starts, (strong - cheap)[order])

    def curve(self, weights: Array | None = None) -> RoutingCurve:
        """``weights`` (n,): of each row, as a bootstrap draws them; 1 without. ``ValueError`` where no gap is left."""
        weight = np.ones(len(self.gain)) if weights is None else weights[self.order]
        calls = np.add.reduceat(weight, self.starts)
        gained = np.add.reduceat(weight * self.gain, self.starts)
        total = float(gained.sum())
        if total <= 0.0:
            raise ValueError("the strong model is not better on average: there is no gap to recover")
        share = np.concatenate([[0.0], np.cumsum(calls) / calls.sum()])
        return RoutingCurve(share, np.concatenate([[0.0], np.cumsum(gained) / total]))
