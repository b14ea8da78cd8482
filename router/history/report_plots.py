"""The report's pictures: SVG to be put into a page, in the page's own colours, so that they follow its light and dark.

Colours are stand-ins that become CSS variables; text stays text, in the page's font, and nothing in it is read as mathematics.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

from router.contract.errors import ConfigError
from router.core.saving import Interval
from router.history.report_rows import Row
from router.history.report_text import PARTS, told_quality, visible

#: Variable of the page -> what matplotlib is told.
_INK, _PALE, _GRID, _GAIN, _LOSS = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {_INK: "ink", _PALE: "pale", _GRID: "grid", _GAIN: "gain", _LOSS: "loss"}
_PART_COLOURS = {part: f"#01030{number}" for number, part in enumerate(PARTS)}
_VARIABLES |= {colour: f"part-{part}" for part, colour in _PART_COLOURS.items()}
#: Strata of a picture; the table has all of them.
MOST_STRATA = 24
_LONGEST = 22


def weeks(rows: Sequence[Row]) -> str:
    """Of one pool: saving and quality, week by week."""
    plot = _pyplot()
    figure, (above, below) = plot.subplots(2, 1, figsize=(4.8, 3.9), sharex=True, constrained_layout=True)
    labels = [(row.key.week or "")[5:] for row in rows]
    for axes, values, title, colour in (
        (above, [_percent(row) for row in rows], "saved, % of the baseline's cost", _GAIN),
        (below, [_change(row) for row in rows], "quality: pilot - reference", _LOSS),
    ):
        there = [(at, value) for at, value in enumerate(values) if value is not None]
        _points(axes, [at for at, _ in there], [value for _, value in there], colour, upright=True)
        if len(there) > 1:
            axes.plot(
                [at for at, _ in there], [value.value for _, value in there], color=colour, linewidth=1, alpha=0.5
            )
        for at in set(range(len(rows))) - {at for at, _ in there}:
            axes.annotate("not told", (at, 0), rotation=90, ha="center", va="bottom", fontsize=7, color=_PALE)
        axes.axhline(0, color=_PALE, linewidth=1, linestyle="--")
        axes.set_title(title, loc="left", fontsize=9, color=_INK)
        axes.set_xlim(-0.6, len(rows) - 0.4)
        _finish(axes)
    every = max(1, -(-len(rows) // 8))
    below.set_xticks(range(0, len(rows), every), labels[::every])
    below.set_xlabel("week from (UTC)", fontsize=8, color=_PALE)
    return _svg(plot, figure, "Saving and quality by week")


def strata(rows: Sequence[Row]) -> str:
    """Of one pool: where it saves, and what that costs in quality; the largest strata first."""
    plot = _pyplot()
    rows = sorted(rows, key=lambda row: -row.cell.requests)[:MOST_STRATA]
    figure, (left, right) = plot.subplots(
        1, 2, figsize=(4.8, 1.0 + 0.27 * len(rows)), sharey=True, constrained_layout=True
    )
    places = [len(rows) - 1 - at for at in range(len(rows))]
    for axes, values, title, colour in (
        (left, [_percent(row) for row in rows], "saved, %", _GAIN),
        (right, [_change(row) for row in rows], "quality difference", _LOSS),
    ):
        there = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
        _points(axes, [place for place, _ in there], [value for _, value in there], colour, upright=False)
        for place, value in zip(places, values, strict=True):
            if value is None:
                axes.annotate("not told" if axes is left else "unknown", (0, place), fontsize=7, color=_PALE, va="center", xytext=(4, 0), textcoords="offset points")  # fmt: skip
        axes.axvline(0, color=_PALE, linewidth=1, linestyle="--")
        axes.set_title(title, loc="left", fontsize=9, color=_INK)
        _finish(axes)
    left.set_yticks(places, [_short(row.key.stratum or "") for row in rows])
    left.set_ylim(-0.7, len(rows) - 0.3)
    return _svg(plot, figure, "Saving and quality by stratum")


def costs(rows: Sequence[Row]) -> str:
    """Of each pool: what it spent, by part, under what the baseline would have cost."""
    plot = _pyplot()
    figure, axes = plot.subplots(figsize=(4.8, 1.1 + 0.75 * len(rows)), constrained_layout=True)
    labels, places = [], []
    for number, row in enumerate(rows):
        place, left = -2.6 * number, 0.0
        for part, colour in _PART_COLOURS.items():
            cost = row.cell.parts.get(part, 0) / 1e9
            axes.barh(place - 1, cost, left=left, height=0.8, color=colour, label=PARTS[part] if not number else None)
            left += cost
        labels.append(f"{row.key.pool}: spent")
        places.append(place - 1)
        baseline = row.baseline()
        if baseline is not None and row.known:
            value, low, high = (each / 1e9 for each in baseline)
            axes.barh(place, value, height=0.8, color=_GRID, edgecolor=_PALE)
            axes.errorbar(value, place, xerr=[[value - low], [high - value]], color=_INK, capsize=3, linewidth=1.2)
            labels.append("on the baseline")
            places.append(place)
    axes.set_yticks(places, [_short(label) for label in labels])
    axes.set_xlabel("dollars", fontsize=8, color=_PALE)
    handles, names = axes.get_legend_handles_labels()
    spent = {PARTS[part] for part in PARTS if any(row.cell.parts.get(part) for row in rows)}
    kept = [(handle, name) for handle, name in zip(handles, names, strict=True) if name in spent]
    if kept:
        figure.legend(
            *zip(*kept, strict=True), frameon=False, fontsize=8, ncols=2, loc="outside lower center", labelcolor=_INK
        )
    _finish(axes)
    return _svg(plot, figure, "What was spent, and what the baseline would have cost")


def _percent(row: Row) -> Interval | None:
    found = row.saving_share()
    return None if found is None else Interval(*(100 * each for each in found))


def _change(row: Row) -> Interval | None:
    quality = told_quality(row)
    return None if quality is None else quality.change()


def _points(axes: Any, places: Sequence[int], values: Sequence[Interval], colour: str, *, upright: bool) -> None:
    if not values:
        return
    middle = [each.value for each in values]
    reach = [[each.value - each.low for each in values], [each.high - each.value for each in values]]
    how = {"fmt": "o", "markersize": 4, "color": colour, "linewidth": 1.6, "capsize": 2}
    if upright:
        axes.errorbar(places, middle, yerr=reach, **how)
    else:
        axes.errorbar(middle, places, xerr=reach, **how)


def _short(text: str) -> str:
    text = visible(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _finish(axes: Any) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, side in axes.spines.items():
        side.set_visible(name in {"left", "bottom"})
        side.set_color(_PALE)
    axes.tick_params(labelsize=8, color=_PALE, labelcolor=_INK)


def _svg(plot: Any, figure: Any, title: str) -> str:
    """Without a size of its own, a declaration or a date; ids differ from picture to picture."""
    written = io.StringIO()
    with plot.rc_context({"svg.hashsalt": title}):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plot.close(figure)
    found = written.getvalue()
    found = found[found.index("<svg") :]
    found = re.sub(r"<metadata>.*?</metadata>", "", found, flags=re.DOTALL)
    found = re.sub(r'<svg height="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1", found, count=1)
    found = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", found, count=1)
    for colour, variable in _VARIABLES.items():
        found = found.replace(colour, f"var(--{variable})")
    return found.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only pictures pay for it
    except ImportError:
        raise ConfigError("the page needs matplotlib: pip install 'pointsman[history]'") from None
    mpl.use("Agg")
    mpl.rcParams |= {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "axes.unicode_minus": False,
    }
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt
