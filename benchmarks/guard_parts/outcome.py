"""What another detector's alarms come to, by the definitions of ``simulation.score`` as far as they apply.

Kind to them: whatever unit with a true excess they name counts as found (the pool, where they know no strata; a stratum that a bad slice
crosses), and their rollback is at once. Each alarm where nothing was wrong is a false one; the detector goes on from nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.guard_parts.heard import REQUESTS, Heard
from benchmarks.guard_parts.others import Alarm
from router.core.guard.slices import ALL
from router.simulation.score import truth_of
from router.simulation.traffic import HOURS, Stream
from router.simulation.world import World


def outcome(world: World, seed: int, heard: Heard, alarms: Sequence[Alarm], *, pairs: float) -> dict[str, Any]:
    """``pairs``: times the world's shadow pairs a day that were bought."""
    stream = Stream(world, seed)
    truth = truth_of(stream)
    onset = truth.onset if truth is not None else 0.0
    days = [(alarm.hour + 1) / HOURS for alarm in alarms]
    excess = [_excess(stream, one) for one in alarms]
    found: dict[str, Any] = {
        "days_to_alarm": None,
        "right_stratum": None,
        "false": sum(one <= 1e-12 for one in excess),
    }
    if truth is not None:
        true = [day for day, one in zip(days, excess, strict=True) if one > 1e-12 and day > onset]
        found["days_to_alarm"] = max(0.0, true[0] - truth.passes) if true else None
        first = next((one for day, one in zip(days, alarms, strict=True) if day > onset), None)
        named = None if first is None else heard.strata[first.stratum] if first.stratum >= 0 else ALL
        found["right_stratum"] = named == truth.unit
    return found | _money(stream, heard, alarms, onset, pairs)


def oracle(world: World, seed: int, heard: Heard) -> float | None:
    """Share of the saving that is left if the bad stratum is given back at its onset; ``None`` where it is no stratum."""
    truth = truth_of(Stream(world, seed))
    if truth is None or truth.unit not in heard.strata:
        return None
    pilot = heard.raw[int(truth.onset * HOURS) :, :, REQUESTS]
    return float(1.0 - pilot[:, heard.strata.index(truth.unit)].sum() / pilot.sum())


def _excess(stream: Stream, alarm: Alarm) -> float:
    """Of the unit it names, in that hour."""
    strata, day = stream.world.strata, alarm.hour / HOURS
    if alarm.stratum >= 0:
        return stream.excess(list(strata)[alarm.stratum], day)
    return sum(share * stream.excess(name, day) for name, share in strata.items())


def _money(
    stream: Stream, heard: Heard, alarms: Sequence[Alarm], onset: float, pairs: float
) -> dict[str, float | None]:
    world = stream.world
    pilot = heard.raw[:, :, REQUESTS]
    hours = np.arange(len(pilot))
    kept = np.ones(pilot.shape, dtype=bool)
    for alarm in alarms:
        kept[hours > alarm.hour, alarm.stratum if alarm.stratum >= 0 else slice(None)] = False
    later = hours >= onset * HOURS
    bad = np.array([[max(0.0, stream.excess(name, hour / HOURS)) for name in heard.strata] for hour in hours])
    saved = 1.0 - world.cheap_cost
    everything = float(pilot[later].sum()) * saved
    spent = world.judge.pairs_per_day * pairs * (1.0 + world.judge_cost) / HOURS * float(later.sum())
    return {
        "saving_kept": (float((pilot * kept)[later].sum()) * saved - spent) / everything if everything else None,
        "requests_harmed": float((pilot * kept * bad)[later].sum()),
    }
