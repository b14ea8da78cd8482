"""Says at most once an hour what a pool's guard can see (topic ``guard.sight``), so that ``status`` shows a stratum as blind and not as well."""

from __future__ import annotations

from typing import Final

from router.contract.codec import encode
from router.core.guard.monitor import Guard
from router.core.guard.sight import seeing
from router.core.records import Sight, Stratum
from router.kafka.unit import UnitLike

EVERY_MS: Final = 3_600_000


class SightTeller:
    """Of one pool; ``topic``: where it is told."""

    def __init__(self, pool: str, topic: str) -> None:
        self._pool, self._topic = pool, topic
        self._told_ms: int | None = None

    def step(self, guard: Guard, now_ms: int, unit: UnitLike) -> None:
        """``now_ms``: the guard's time, which a demonstration lets pass faster. After a restart it is told again at once."""
        if self._told_ms is not None and now_ms - self._told_ms < EVERY_MS:
            return
        strata = [
            Stratum(
                stratum=one.stratum,
                blind=one.power.blind,
                days=None if one.power.days is None else round(one.power.days, 2),
                reviews_for_one_day=one.power.reviews_for_one_day,
                pairs_for_one_day=one.power.pairs_for_one_day,
            )
            for one in seeing(guard, now_ms)
        ]
        if not strata:
            return
        self._told_ms = now_ms
        sight = Sight(pool=self._pool, margin=guard.settings.margin, strata=strata, at_ms=unit.now_ms)
        unit.emit(self._topic, self._pool.encode(), encode(sight))
