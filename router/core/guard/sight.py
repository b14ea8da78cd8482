"""What a pool's guard can see by its own counts: ``power`` of each stratum, by what the last ``DAYS`` days brought.

A test needs both arms: of reviews counts twice the rarer arm's, so a stratum whose reference nobody looks at has none. Strata without pilot traffic, and those that were given back,
have nothing to be seen and are left out; so is what has been watched for less than a day, for its rates are not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Guard
from router.core.guard.power import Power, Volume, power
from router.core.guard.slices import PREFIX
from router.core.guard.unit import Unit

DAYS: Final = 7
#: Bad answers by review where few were looked at: as many judgements of this share are added.
_JUDGED, _BAD = 15.0, 0.08


@dataclass(frozen=True, slots=True)
class Seeing:
    """One stratum: what it brings a day and what that allows."""

    stratum: str
    volume: Volume
    power: Power


def seeing(guard: Guard, now_ms: int) -> list[Seeing]:
    """Every stratum of which something can be said, by name."""
    found = []
    for name, unit in sorted(guard.units.items()):
        if name.startswith(PREFIX) or name in guard.fenced or now_ms - unit.started_ms < DAY_MS:
            continue
        volume = _volume(guard, unit, now_ms)
        if volume.pilot > 0:
            found.append(Seeing(name, volume, power(volume, guard.settings.margin)))
    return found


def _volume(guard: Guard, unit: Unit, now_ms: int) -> Volume:
    since_ms = now_ms - (DAYS - 1) * DAY_MS
    began_ms = max(since_ms // DAY_MS * DAY_MS, unit.started_ms)
    days = max(1.0, (now_ms - began_ms) / DAY_MS)
    reference, pilot = unit.since("requests", since_ms)
    judged = [unit.since(signal, since_ms) for signal in ("review", "label")]
    n0, n1 = (sum(both[arm].n for both in judged) for arm in (0, 1))
    bad0 = sum(both[0].bad for both in judged)
    thumbs = unit.since("thumbs", since_ms)
    verdicts, spread = unit.verdicts
    return Volume(
        pilot=pilot.n / days,
        reference=reference.n / days,
        reviews=2.0 * min(n0, n1) / days,
        pairs=unit.since("judge", since_ms)[1].n / days,
        thumbs_rate=(thumbs[0].bad + thumbs[1].bad) / max(1.0, reference.n + pilot.n),
        bad=(bad0 + _JUDGED * _BAD) / (n0 + _JUDGED),
        threshold=guard.threshold(unit.name),
        judge_power=guard.settings.judge_power,
        spread=spread / verdicts,
    )
