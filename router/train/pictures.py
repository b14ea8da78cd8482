"""What a table does not show: how calls turn into quality, and whether probabilities mean what they say. PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.calibration import BINS, bins_of

if TYPE_CHECKING:
    from router.train.score import Evaluation

Array = NDArray[np.float64]

_OURS, _OTHERS, _PALE = "#1f5fa8", ("#c2571a", "#3a8a4d"), "#9aa0a6"


def cost_quality(file: Path, found: Evaluation) -> None:
    """Mean quality over the share of calls to the strong model: ours, the others, and what blind mixing would give."""
    plot = _pyplot()
    low, high = found.quality[found.cheap], found.quality[found.strong]
    figure, axes = plot.subplots(figsize=(7.2, 4.8), constrained_layout=True)
    axes.plot([0, 100], [low, high], color=_PALE, linestyle="--", label="random mix (APGR 0.500)")
    for way, colour in zip(found.ways, (_OURS, *_OTHERS), strict=False):
        quality = low + (high - low) * way.curve.recovered
        label = f"{way.name} (APGR {way.apgr.value:.3f})"
        axes.plot(
            100 * way.curve.share, quality, color=colour, linewidth=2.4 if way.name == "ours" else 1.4, label=label
        )
    axes.set_xlabel(f"calls to {found.strong}, % (the rest to {found.cheap})")
    axes.set_ylabel("quality, mean")
    axes.set_title(f"{found.rows:,} rows", loc="left", fontsize=10)
    _finish(plot, figure, axes, file)


def reliability(file: Path, p_ok: Mapping[str, Array], quality: Mapping[str, Array]) -> None:
    """For each model: how good its answers were where so much was said; NaN: it was not asked. Points are as large as the bin."""
    plot = _pyplot()
    figure, axes = plot.subplots(figsize=(5.4, 5.0), constrained_layout=True)
    axes.plot([0, 1], [0, 1], color=_PALE, linestyle="--")
    for (model, each), colour in zip(p_ok.items(), _colours(plot, len(p_ok)), strict=True):
        there = np.isfinite(quality[model])
        said, came = each[there], quality[model][there]
        bins = bins_of(said)
        size = np.bincount(bins, minlength=BINS)
        some = size > 0
        mean = np.bincount(bins, said, BINS)[some] / size[some]
        good = np.bincount(bins, came, BINS)[some] / size[some]
        axes.plot(mean, good, color=colour, linewidth=1.2)
        axes.scatter(mean, good, s=12 + 240 * size[some] / len(said), color=colour, alpha=0.75, label=model)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("p_ok, as said")
    axes.set_ylabel("quality, as found")
    _finish(plot, figure, axes, file)


def _colours(plot: Any, count: int) -> list[Any]:
    return [plot.get_cmap("tab10")(number % 10) for number in range(count)]


def _finish(plot: Any, figure: Any, axes: Any, file: Path) -> None:
    axes.grid(color="#e4e6e8", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    figure.savefig(file, dpi=150)
    plot.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only pictures pay for it
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'pointsman[train]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
