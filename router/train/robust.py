"""How often a choice flips when a prompt is said in other words that mean the same.

The choice: rows whose score reaches the threshold of CPT50 (the share of strong calls that recovers half of the gap) go to the strong
model. A flip is a row that a rephrasing sends to the other side. Beside it: what flips by chance where choices are drawn, 2 s (1 - s) for a
share s, and what would flip by the prompt's length alone at the same share. ``apgr``: of the rephrased rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.artefact import Artefact
from router.core.routing_curve import Ranked
from router.train.measure import qualities_of
from router.train.rephrase import REPHRASINGS, rephrased
from router.train.rows import Row
from router.train.score import p_ok_of_texts

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flips:
    """Of one rephrasing: shares of the rows 0..1, and APGR afterwards."""

    name: str
    ours: float
    by_chance: float
    by_length: float
    apgr: float

    def document(self) -> dict[str, float]:
        return {"flips": self.ours, "random": self.by_chance, "prompt_length": self.by_length, "apgr": self.apgr}


def flips(
    artefact: Artefact, rows: Sequence[Row], *, strong: str | None = None, cheap: str | None = None, seed: int = 0
) -> list[Flips]:
    """One for each rephrasing, and the mean of them, called ``all``.

    Raises:
        ConfigError: as ``measure.Qualities.pair``.
    """
    known = qualities_of(rows)
    strong, cheap = known.pair(strong, cheap)
    both = known.has(strong, cheap)
    if not both.any():
        raise ConfigError(f"no row has answers of both {strong} and {cheap}: nothing can be compared")
    best, other = known.quality[strong][both], known.quality[cheap][both]
    models = artefact.heads.models
    texts = [row.prompt.last_user_text for row, judged in zip(rows, both, strict=True) if judged]

    def score(asked: Sequence[str]) -> Array:
        p_ok = p_ok_of_texts(artefact, asked)
        return np.asarray(p_ok[:, models.index(strong)] - p_ok[:, models.index(cheap)])

    def apgr(scores: Array) -> float:
        return Ranked.by(scores, best, other).curve().apgr

    before, length = score(texts), _lengths(texts)
    share = Ranked.by(before, best, other).curve().cpt(0.5)
    edge, length_edge = np.quantile(before, 1.0 - share), np.quantile(length, 1.0 - share)
    found = []
    for name in REPHRASINGS:
        others = [rephrased(text, name, seed) for text in texts]
        after, longer = score(others), _lengths(others)
        found.append(
            Flips(
                name=name,
                ours=float(np.mean((after >= edge) != (before >= edge))),
                by_chance=2.0 * share * (1.0 - share),
                by_length=float(np.mean((longer >= length_edge) != (length >= length_edge))),
                apgr=apgr(after),
            )
        )
    mean = {
        field: float(np.mean([getattr(one, field) for one in found]))
        for field in ("ours", "by_chance", "by_length", "apgr")
    }
    return [*found, Flips(name="all", **mean)]


def _lengths(texts: Sequence[str]) -> Array:
    return np.array([float(len(text)) for text in texts])
