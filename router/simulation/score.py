"""The figures of a run, as ``docs/guard.md`` defines them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from router.core.guard.slices import ALL, PREFIX
from router.simulation.play import Story
from router.simulation.traffic import HOURS, Stream
from router.simulation.world import Change

#: Of the traffic that was moved this share must lie in the truly bad unit.
RIGHT_SHARE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Truth:
    """A unit that truly gets worse: from ``onset``, beyond the margin from ``passes`` on (days)."""

    unit: str
    onset: float
    passes: float


def truth_of(stream: Stream) -> Truth | None:
    """The unit of the first change for the worse of the cheap model that passes the margin; ``None`` in a world without a trap."""
    world = stream.world
    for change in world.changes:
        if change.who != "cheap":
            continue
        unit = _unit(change)
        if unit not in stream.units:
            continue
        hours = (hour / HOURS for hour in range(int(change.day * HOURS), int(world.days * HOURS)))
        passes = next((day for day in hours if stream.excess(unit, day) > world.margin - 1e-9), None)
        if passes is not None:
            return Truth(unit, change.day, passes)
    return None


def score(story: Story) -> dict[str, Any]:
    """``seed days_to_alarm days_to_rollback right_stratum saving_kept false_alarms_per_100_days requests_harmed``, and what they are made of."""
    stream = Stream(story.world, story.seed)
    truth = truth_of(stream)
    pages = [(day, one) for day, one in story.findings if one.severity == "page"]
    false = sum(stream.excess(one.unit, max(0.0, day - 1 / HOURS)) <= 1e-12 for day, one in pages)
    alarm = first = None
    right: bool | None = None
    if truth is not None:
        true_pages = [day for day, one in pages if one.unit == truth.unit and day > truth.onset]
        alarm = max(0.0, true_pages[0] - truth.passes) if true_pages else None
        later = [one for day, one in pages if day > truth.onset]
        first = later[0].unit if later else None
        moved = sum(story.moved.values())
        inside = sum(n for cell, n in story.moved.items() if stream.units[truth.unit][cell])
        right = first == truth.unit and (moved == 0 or inside / moved >= RIGHT_SHARE)
    onset = truth.onset if truth is not None else 0.0
    hours = [hour for hour in story.hours if hour["day"] >= onset]
    unguarded = sum(hour["unguarded"] for hour in hours)
    return {
        "seed": story.seed,
        "days_to_alarm": None if alarm is None else round(alarm, 3),
        "days_to_rollback": None if alarm is None else round(alarm, 3),
        "right_stratum": right,
        "saving_kept": round(sum(hour["guarded"] for hour in hours) / unguarded, 4) if unguarded else None,
        "false_alarms_per_100_days": round(100 * false / story.world.days, 3),
        "requests_harmed": round(sum(hour["harmed"] for hour in hours)),
        "requests_harmed_unguarded": round(sum(hour["harmed_unguarded"] for hour in hours)),
        "first_alarm": first,
        "pages": [[round(day, 2), one.unit, one.signal] for day, one in pages],
        "watches": len(story.findings) - len(pages),
        "baseline_watches": [[round(day, 2), unit] for day, unit in story.baseline],
        "pairs_per_day": round(story.pairs / story.world.days, 1),
        "reviews_per_day": round(story.reviews / story.world.days, 1),
    }


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median, 90th percentile and maximum of each number; a run without an alarm counts as infinitely late (null)."""
    names = (
        "days_to_alarm",
        "days_to_rollback",
        "saving_kept",
        "false_alarms_per_100_days",
        "requests_harmed",
    )
    found: dict[str, Any] = {name: _spread([run[name] for run in runs]) for name in names}
    told = [run["right_stratum"] for run in runs if run["right_stratum"] is not None]
    found["right_stratum"] = {"share": round(sum(told) / len(told), 3) if told else None}
    found["missed"] = sum(run["days_to_alarm"] is None for run in runs)
    return found


def _spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """A missing value is the largest."""
    ordered = sorted(float("inf") if value is None else float(value) for value in values)
    if not ordered:
        return {"median": None, "p90": None, "max": None}
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    return {name: _finite(value) for name, value in (("median", median(ordered)), ("p90", p90), ("max", ordered[-1]))}


def _finite(value: float) -> float | None:
    return None if value == float("inf") else round(value, 4)


def _unit(change: Change) -> str:
    if change.stratum is not None:
        return change.stratum
    return next((f"{PREFIX}{name}={value}" for name, value in change.where.items()), ALL)
