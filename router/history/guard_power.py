"""What the guard of a pool can see in each stratum, by the metric windows that are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from router.config import PoolConfig
from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.records import MetricWindow
from router.contract.topics import Names
from router.core.guard.monitor import Settings, usual_threshold
from router.core.guard.power import Power, Volume, power
from router.kafka.client import Client
from router.kafka.scan import scan

DAY_S = 86_400.0
#: Thumbs down a request, and bad answers by review, where nothing was said yet.
_USUAL_THUMBS, _USUAL_BAD = 0.003, 0.08
_REFERENCE = frozenset({"holdout", "control"})


@dataclass(slots=True)
class Counts:
    """Of one stratum in the windows that were read."""

    pilot: int = 0
    reference: int = 0
    thumbs: int = 0
    down: float = 0.0
    reviews: int = 0
    bad: float = 0.0
    shadows: int = 0

    def add(self, window: MetricWindow) -> None:
        if window.cohort == "shadow":
            self.shadows += window.shadows
        if window.cohort == "pilot":
            self.pilot += window.requests
        elif window.cohort in _REFERENCE:
            self.reference += window.requests
        for kind in ("review", "label"):
            said = window.feedback.get(kind)
            if said is not None and said.n and said.mean is not None:
                self.reviews += said.n
                self.bad += said.n * (1.0 - said.mean)
        thumbs = window.feedback.get("thumbs")
        if thumbs is not None and thumbs.n and thumbs.mean is not None:
            self.thumbs += thumbs.n
            self.down += thumbs.n * (1.0 - thumbs.mean)


@dataclass(frozen=True, slots=True)
class Seen:
    """A stratum's volume a day, and what that allows."""

    stratum: str
    volume: Volume
    power: Power


async def powers(client: Client, names: Names, pool: str, config: PoolConfig) -> tuple[float, list[Seen]]:
    """Days that the final windows cover, and each stratum, the blindest first."""
    return seen(await windows_of(client, names, pool), config)


async def windows_of(client: Client, names: Names, pool: str) -> list[MetricWindow]:
    """The final windows of a pool that are kept."""
    windows = []
    async for record in scan(client, [names.of("metrics")]):
        if record.value is None:
            continue
        try:
            window = decode(MetricWindow, record.value)
        except BadRecord:
            continue
        if window.final and window.pool == pool:
            windows.append(window)
    return windows


def seen(windows: Iterable[MetricWindow], config: PoolConfig) -> tuple[float, list[Seen]]:
    """The same of windows that were read."""
    counts: dict[str, Counts] = {}
    first_ms, last_ms = math.inf, -math.inf
    for window in windows:
        start_ms = from_rfc3339(window.window_start)
        first_ms, last_ms = min(first_ms, start_ms), max(last_ms, start_ms + window.window_s * 1000)
        counts.setdefault(window.stratum, Counts()).add(window)
    days = (last_ms - first_ms) / 1000 / DAY_S if counts else 0.0
    settings = Settings(margin=float(config.margin), judge_power=float(config.judge_power))
    threshold = usual_threshold(settings, len(counts))
    found = []
    for stratum, one in counts.items():
        requests = one.pilot + one.reference
        volume = Volume(
            pilot=one.pilot / days,
            reference=one.reference / days,
            reviews=max(one.reviews / days, config.reviews_per_day / len(counts)),
            pairs=one.shadows / days if config.judge is not None else 0.0,
            thumbs_rate=one.down / requests if one.down else _USUAL_THUMBS if one.thumbs else 0.0,
            bad=(one.bad + 15 * _USUAL_BAD) / (one.reviews + 15),
            threshold=threshold,
            judge_power=settings.judge_power,
        )
        found.append(Seen(stratum, volume, power(volume, settings.margin)))
    return days, sorted(found, key=lambda one: (-(one.power.days or math.inf), one.stratum))
