"""Pictures of ``guard.py``: how late each detector is in each world, and the main world day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.guard_parts.heard import BAD_REVIEWS, REQUESTS, REVIEWS, THUMBS
from benchmarks.guard_parts.others import WEEK
from benchmarks.guard_parts.runs import heard
from router.core.guard.monitor import Finding, Guard, Settings
from router.simulation import world as worlds
from router.simulation.play import START_MS, Player
from router.simulation.traffic import HOURS, Stream

Json = Mapping[str, Any]

GREY, BLUE, RED = "#9aa0a6", "#1f5fa8", "#b3261e"
COLOURS = {"guard": BLUE, "cusum": "#c2571a", "page-hinkley": "#3a8a4d", "adwin": "#7b4fa3", "dashboard": "#5f6368"}
#: Where what was never found is drawn.
NEVER = 90.0


def delays(file: Path, found: Mapping[str, Sequence[Json]], compared: Mapping[str, Sequence[Json]]) -> None:
    """A line a world: a dot a run and a bar at the median, in rows by detector."""
    names = [name for name, each in found.items() if any(one["truth"] for one in each)]
    detectors = ["guard", *(f"{kind}, strata" for kind in COLOURS if kind != "guard"), "dashboard, the whole pool"]
    figure, plot = plt.subplots(figsize=(10, 1.0 + 0.62 * len(names)), constrained_layout=True)
    random = np.random.default_rng(1)
    for line, name in enumerate(names):
        for row, detector in enumerate(detectors):
            each = found[name] if detector == "guard" else [one[detector] for one in compared[name]]
            days = np.array([NEVER if one["days_to_alarm"] is None else one["days_to_alarm"] for one in each])
            y = line + (row - (len(detectors) - 1) / 2) * 0.13
            colour = COLOURS[detector.partition(",")[0]]
            hollow = detector.endswith("pool")
            jitter = random.uniform(-0.03, 0.03, len(days))
            plot.scatter(
                days,
                y + jitter,
                s=9,
                alpha=0.5,
                linewidths=0.6,
                edgecolors=colour,
                facecolors="none" if hollow else colour,
            )
            plot.plot([np.median(days)] * 2, [y - 0.07, y + 0.07], color=colour, linewidth=2.4)
            if line == 0:
                plot.scatter([], [], s=22, edgecolors=colour, facecolors="none" if hollow else colour, label=detector)
        plot.axhline(line + 0.5, color="#e4e6e8", linewidth=0.8)
    plot.set_xscale("symlog", linthresh=1)
    plot.set_xlim(-0.08, 130)
    plot.set_xticks([0, 0.5, 1, 3, 7, 14, 30, NEVER], ["0", "½", "1", "3", "7", "14", "30", "never"])
    plot.set_yticks(range(len(names)), names)
    plot.set_ylim(len(names) - 0.5, -0.5)
    plot.tick_params(length=0)
    plot.grid(axis="x", color="#e4e6e8", linewidth=0.8)
    plot.set_axisbelow(True)
    plot.set_xlabel("days from the moment when the slice is worse by more than the margin to the alarm; bars: medians")
    for side in ("top", "right", "left"):
        plot.spines[side].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(detectors), frameon=False, fontsize=8, handletextpad=0.2)
    figure.savefig(file, dpi=130)
    plt.close(figure)


class _Watched(Guard):
    """Remembers what its tests said each hour."""

    def __init__(self, strata: Sequence[str]) -> None:
        super().__init__(Settings(), strata, START_MS)
        self.told: list[dict[str, float]] = []

    def step(self, now_ms: int) -> list[Finding]:
        found = super().step(now_ms)
        names = [name for name in self.units if not name.startswith("slice/") and name not in self.fenced]
        self.told.append({name: self.units[name].evidence - self.threshold(name) for name in names})
        return found


def main_world(file: Path, folder: Path, seed: int) -> None:
    """What is true, what averages show, what the guard knows."""
    world = worlds.read("main").model_copy(update={"days": 60.0})
    guard = _Watched(list(world.strata))
    story = Player(world, seed, listener=guard).play()
    stream, raw = Stream(world, seed), heard(folder, "main", seed).raw.sum(axis=1)
    days = np.arange(int(world.days) * HOURS) / HOURS
    page = next((day for day, one in story.findings if one.severity == "page"), None)
    figure, (truth, means, tests) = plt.subplots(3, 1, figsize=(10, 8), sharex=True, constrained_layout=True)
    bad = "code/hard"
    truth.plot(days, [100 * stream.excess(bad, day) for day in days], color=RED, linewidth=2)
    truth.axhline(100 * world.margin, color=GREY, linestyle="--", linewidth=1)
    truth.annotate("margin", (0.3, 100 * world.margin + 0.7), fontsize=8, color=GREY)
    truth.set_title(f"what nobody sees: points more bad answers in {bad}, by the cheap model", loc="left", fontsize=10)
    weeks = raw[: len(raw) // WEEK * WEEK].reshape(-1, WEEK, 4).sum(axis=1)[: int(world.days) // 7]
    at = (np.arange(len(weeks)) + 1) * 7
    for what, of, colour, label in (
        (THUMBS, REQUESTS, "#3a8a4d", "thumbs down per 1,000 requests of the pilot"),
        (BAD_REVIEWS, REVIEWS, "#c2571a", "bad reviews per 100 of the pilot"),
    ):
        scale = 1000 if what == THUMBS else 100
        n, k = weeks[:, of], weeks[:, what]
        error = 1.96 * np.sqrt(np.maximum(k, 1)) / n * scale
        means.errorbar(at, k / n * scale, error, color=colour, marker="o", markersize=4, capsize=2, label=label)
    means.set_ylim(0, None)
    means.legend(frameon=False, fontsize=8, loc="upper left")
    means.set_title("what a dashboard shows: the pool's averages by week, with 95 % bars", loc="left", fontsize=10)
    for name in world.strata:
        told = np.array([one.get(name, np.nan) for one in guard.told])
        tests.plot(
            days,
            told,
            color=RED if name == bad else GREY,
            linewidth=2 if name == bad else 0.8,
            label=name if name == bad else None,
        )
    tests.plot([], [], color=GREY, linewidth=0.8, label="the other seven strata")
    tests.axhline(0, color="#202124", linestyle="--", linewidth=1)
    tests.annotate("alarm", (0.3, 0.2), fontsize=8)
    tests.set_ylim(-12, 1.5)
    tests.legend(frameon=False, fontsize=8, loc="lower left")
    tests.set_title(
        "what the guard knows: ln M of each stratum, less the height at which it alarms", loc="left", fontsize=10
    )
    tests.set_xlabel("day")
    for plot in (truth, means, tests):
        plot.grid(color="#e4e6e8", linewidth=0.8)
        plot.set_axisbelow(True)
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
        if page is not None:
            plot.axvline(page, color=BLUE, linewidth=1.2)
    if page is not None:
        truth.annotate(f"page, day {page:.1f}", (page + 0.4, 21), fontsize=9, color=BLUE)
    figure.savefig(file, dpi=130)
    plt.close(figure)
