"""Fit, judge, and write it down: a classifier with a model card and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from router import __version__
from router.core.artefact import Artefact
from router.train.fit import Progress, fit
from router.train.measure import DRAWS, Judged, qualities_of
from router.train.pictures import cost_quality, reliability
from router.train.rows import Row
from router.train.score import Evaluation, evaluate

Array = NDArray[np.float64]

#: What is said wherever figures of a training are shown.
HELD_OUT_BY = "nested cross-validation"

CARD = """# Classifier {version}

{rows:,} rows of {files}; pointsman {pointsman}, {date}.

| model | quality, mean | calibration error (ECE) |
|---|---|---|
{models}

{routing}![reliability](reliability.png)

- **Sees** the last user message: its words and pairs of words without case, hashed, and some numbers of its surface. No text is
  in the file; whoever has it can test whether a word mattered.
- **Classes**: {classes}.
- **Shrinking** (C): {strength:g}, by log loss on rows left out; in the folds {strengths}.
- **Nested**: each row was judged by heads, shrinking, slopes and a scale of the surface that were fitted and chosen without it, on
  {share:.0f} % of the rows. All figures above, and the calibration errors, are of these; on other traffic they will be worse. Judge with
  `pointsman evaluate` on rows of your own.
"""

ROUTING = """Held out by {by} ({folds} folds, seed {seed}), calls to `{strong}` saved by `{cheap}`, 95 % intervals:

| way to route | APGR | CPT50 | CPT80 | CPT95 | APGR less ours |
|---|---|---|---|---|---|
{ways}
| random | .500 | .500 | .800 | .950 | |

![cost and quality](curve.png)
"""

NO_ROUTING = """Calibration is held out ({folds} folds). {both:,} rows have answers of both `{strong}` and `{cheap}`: too few to say what
routing would save. Each model was judged by the requests that it was sent, so its quality here is no comparison.

"""


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier and what was found out about it. ``p_ok`` and ``quality`` by model (n,): held out, and as the rows say."""

    artefact: Artefact
    evaluation: Evaluation
    p_ok: Mapping[str, Array]
    quality: Mapping[str, Array]
    files: Sequence[str]
    folds: int
    seed: int
    strength: float
    strengths: Sequence[float]


def trained(
    rows: Sequence[Row], *, files: Sequence[str], folds: int = 5, seed: int = 0, progress: Progress | None = None
) -> Trained:
    """The classifier of these rows, judged by what it says of each row when it was made without it (``fit``: nested).

    Raises:
        ConfigError: as ``fit.fit`` and ``score.evaluate``.
    """
    known = qualities_of(rows)
    fitted = fit(rows, folds=folds, seed=seed, progress=progress)
    found = evaluate(rows, fitted.models, fitted.held_out, draws=DRAWS, seed=seed)
    card = {
        "rows": len(rows),
        "files": list(files),
        "folds": folds,
        "seed": seed,
        "strength": fitted.strength,
        "strengths_in_folds": list(fitted.strengths),
        "held_out_by": HELD_OUT_BY,
        "held_out": found.document(),
        "pointsman": __version__,
    }
    return Trained(
        artefact=replace(fitted.artefact, card=card),
        evaluation=found,
        p_ok={model: fitted.held_out[:, at] for at, model in enumerate(fitted.models)},
        quality=known.quality,
        files=files,
        folds=folds,
        seed=seed,
        strength=fitted.strength,
        strengths=fitted.strengths,
    )


def write_report(folder: Path, made: Trained) -> Path:
    """``card.md``, ``reliability.png``, and ``curve.png`` where models could be compared. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found = made.evaluation
    if found.ways:
        cost_quality(folder / "curve.png", found)
    reliability(folder / "reliability.png", made.p_ok, made.quality)
    (folder / "card.md").write_text(
        CARD.format(
            version=made.artefact.version,
            rows=found.rows,
            files=", ".join(f"`{name}`" for name in made.files),
            pointsman=__version__,
            date=datetime.now(UTC).date(),
            models="\n".join(
                f"| `{model}` | {quality:.3f} | {found.ece[model].value:.3f} |"
                for model, quality in found.quality.items()
            ),
            routing=(ROUTING if found.ways else NO_ROUTING).format(
                by=HELD_OUT_BY,
                seed=made.seed,
                folds=made.folds,
                strong=found.strong,
                cheap=found.cheap,
                both=found.both,
                ways="\n".join(_way(way) for way in found.ways),
            ),
            classes=", ".join(f"`{name}`" for name in made.artefact.heads.classes) or "none were named in the rows",
            seed=made.seed,
            strength=made.strength,
            strengths=", ".join(f"{strength:g}" for strength in made.strengths),
            share=100 * (1 - 1 / made.folds),
        )
    )
    return folder


def _way(way: Judged) -> str:
    cells = [way.apgr, *way.cpt.values()]
    return f"| {way.name} | {' | '.join(map(str, cells))} | {way.difference or ''} |"
