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

#: Rows with answers of both models below which, where others have one answer, nothing is said of routing.
LEAST_BOTH = 100

#: Beside ours: what else could order the rows.
LENGTH, ORACLE = "prompt length", "oracle"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``ways``: ours first; none where too few rows have answers of both models. ``ece`` by model.

    ``quality`` of each model alone, mean over the rows that have it; ``rows``: how many, ``both`` of them with both models.
    """

    rows: int
    both: int
    strong: str
    cheap: str
    quality: dict[str, float]
    ways: list[Judged]
    ece: dict[str, Estimate]

    def document(self) -> dict[str, Any]:
        """As ``pointsman evaluate --json`` prints it."""
        return {
            "rows": self.rows,
            "rows_with_both": self.both,
            "strong": self.strong,
            "cheap": self.cheap,
            "quality": self.quality,
            **(_figures(self.ways[0]) if self.ways else {}),
            "ece": {model: _values(figure) for model, figure in self.ece.items()},
            "beside": {
                way.name: _figures(way) | {"apgr_less_ours": _values(way.difference)}
                for way in self.ways[1:]
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
        ConfigError: some of the rows' models are none of these, or there is no gap between the two that are compared.
    """
    known = qualities_of(rows)
    if missing := sorted(set(known.models) - set(models)):
        raise ConfigError(f"not fitted to {', '.join(missing)}: only to {', '.join(models)}")
    strong, cheap = known.pair(strong, cheap)
    column = {model: p_ok[:, models.index(model)] for model in known.models}
    there = {model: known.has(model) for model in known.models}
    both = known.has(strong, cheap)
    best, other = known.quality[strong][both], known.quality[cheap][both]
    scores = {
        "ours": (column[strong] - column[cheap])[both],
        LENGTH: np.array([float(len(row.prompt.last_user_text)) for row in rows])[both],
        ORACLE: best - other,
    }
    count = int(both.sum())
    return Evaluation(
        rows=len(rows),
        both=count,
        strong=strong,
        cheap=cheap,
        quality=known.means,
        ways=judge(scores, best, other, draws=draws, seed=seed) if count >= min(len(rows), LEAST_BOTH) else [],
        ece={
            model: calibration(column[model][has], known.quality[model][has], draws=draws, seed=seed)
            for model, has in there.items()
        },
    )


def _figures(way: Judged) -> dict[str, dict[str, float]]:
    return {"apgr": _values(way.apgr), **{f"cpt{100 * level:.0f}": _values(way.cpt[level]) for level in LEVELS}}


def _values(figure: Estimate) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}
