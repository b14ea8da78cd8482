"""Rows through an artefact: what it says of each, and how good that is beside other ways to route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.artefact import Artefact
from router.core.features import features_of
from router.core.ope import Estimate
from router.core.tokens import Ids, read
from router.train.measure import LEVELS, Judged, calibration, judge, qualities_of
from router.train.rows import Row

Array = NDArray[np.float64]

#: Prompts that share the price of numpy's calls.
BATCH = 256

#: Beside ours: what else could order the rows.
LENGTH, ORACLE = "prompt length", "oracle"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``ways``: ours first. ``ece`` by model. ``quality`` of each model alone, mean; ``rows``: how many."""

    rows: int
    strong: str
    cheap: str
    quality: dict[str, float]
    ways: list[Judged]
    ece: dict[str, Estimate]

    def document(self) -> dict[str, Any]:
        """As ``pointsman evaluate --json`` prints it."""
        ours, *others = self.ways
        return {
            "rows": self.rows,
            "strong": self.strong,
            "cheap": self.cheap,
            "quality": self.quality,
            **_figures(ours),
            "ece": {model: _values(figure) for model, figure in self.ece.items()},
            "beside": {
                way.name: _figures(way) | {"apgr_less_ours": _values(way.difference)}
                for way in others
                if way.difference is not None
            },
        }


def p_ok_of(artefact: Artefact, rows: Sequence[Row]) -> Array:
    """(n, models) in the artefact's order."""
    return _p_ok(artefact, [row.prompt.read()[1] for row in rows])


def p_ok_of_texts(artefact: Artefact, texts: Sequence[str]) -> Array:
    """The same of user messages."""
    return _p_ok(artefact, [read(text)[1] for text in texts])


def _p_ok(artefact: Artefact, asked: Sequence[Ids]) -> Array:
    parts = [artefact.heads.p_ok(features_of(asked[at : at + BATCH])) for at in range(0, len(asked), BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, len(artefact.heads.models)))


def write_scores(file: Path, rows: Sequence[Row], models: Sequence[str], p_ok: Array) -> None:
    """One JSON object a line: ``{"id", "p_ok": {model: p}}``."""
    lines = (
        orjson.dumps({"id": row.id, "p_ok": dict(zip(models, each, strict=True))})
        for row, each in zip(rows, p_ok.tolist(), strict=True)
    )
    file.write_bytes(b"\n".join(lines) + b"\n")


def evaluate(
    rows: Sequence[Row],
    models: Sequence[str],
    p_ok: Array,
    *,
    strong: str | None = None,
    cheap: str | None = None,
    draws: int,
    seed: int = 0,
) -> Evaluation:
    """Probabilities (n, models) against what the rows say.

    Raises:
        ConfigError: the rows' models are others than these, or there is no gap between the two that are compared.
    """
    known = qualities_of(rows)
    if missing := sorted(set(known.models) - set(models)):
        raise ConfigError(f"not fitted to {', '.join(missing)}: only to {', '.join(models)}")
    strong, cheap = known.pair(strong, cheap)
    column = {model: p_ok[:, models.index(model)] for model in known.models}
    best, other = known.quality[strong], known.quality[cheap]
    scores = {
        "ours": column[strong] - column[cheap],
        LENGTH: np.array([float(len(row.prompt.last_user_text)) for row in rows]),
        ORACLE: best - other,
    }
    return Evaluation(
        rows=len(rows),
        strong=strong,
        cheap=cheap,
        quality={model: float(quality.mean()) for model, quality in known.quality.items()},
        ways=judge(scores, best, other, draws=draws, seed=seed),
        ece={model: calibration(column[model], known.quality[model], draws=draws, seed=seed) for model in known.models},
    )


def _figures(way: Judged) -> dict[str, dict[str, float]]:
    return {"apgr": _values(way.apgr), **{f"cpt{100 * level:.0f}": _values(way.cpt[level]) for level in LEVELS}}


def _values(figure: Estimate) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}
