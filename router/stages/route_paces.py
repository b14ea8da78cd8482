"""How often answers are looked at by people, so that a pool's reviews a day are kept on average (``core.review_sample``).

A lane sees its own requests only, and the budget is the pool's: so each lane tells the others what it has a day (topic ``paces``,
when that has changed by a fifth), and divides the budget by the sum. Rows: ``v`` + pool -> ``[began, at, total]``, written again when the total
has grown by a tenth, or an hour of traffic is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from router.contract.codec import encode
from router.contract.records import Lane
from router.contract.releases import by_place
from router.core.records import Pace
from router.core.review_sample import Flow, pace_of
from router.kafka.unit import UnitLike

ROW = b"v"
#: Between two words of a lane on a pool, and by how much they differ at least.
TOLD_EVERY_MS, TOLD_BEYOND = 1_000, 0.2
#: What of a lane's past may be lost when another takes it over.
STORED_EVERY_MS, STORED_BEYOND = 3_600_000, 0.1
#: A flow of less a day than this is none.
NOTHING_A_DAY = 0.01


class Paces:
    """Of one lane, by pool."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._flows = {
            key[len(ROW) :].decode(): by_place(Flow, orjson.loads(value)) for key, value in rows if key[:1] == ROW
        }
        self._stored = {pool: (flow.total, flow.at_ms) for pool, flow in self._flows.items()}
        self._told: dict[str, tuple[float, int]] = {}

    def pace(
        self, pool: str, per_day: int, amount: float, told: Mapping[str, float], *, mine: str, now_ms: int
    ) -> float | None:
        """For one more request that amounts to ``amount``. ``told``: what all lanes said of the pool, by name; ``mine`` is this one's."""
        flow = self._flows.setdefault(pool, Flow(began_ms=now_ms, at_ms=now_ms))
        flow.note(amount, now_ms)
        others = sum(rate for lane, rate in told.items() if lane != mine)
        return pace_of(per_day, flow.per_day(now_ms) + others)

    def tell(self, topic: str, lane: Lane, unit: UnitLike) -> None:
        """Say what is news to the other lanes."""
        for pool, flow in self._flows.items():
            said, said_ms = self._told.get(pool, (0.0, -TOLD_EVERY_MS))
            rate = flow.per_day(unit.now_ms)
            rate = rate if rate >= NOTHING_A_DAY else 0.0
            if abs(rate - said) <= TOLD_BEYOND * said or unit.now_ms - said_ms < TOLD_EVERY_MS:
                continue
            self._told[pool] = rate, unit.now_ms
            pace = Pace(lane=lane, partition=unit.partition, pool=pool, per_day=rate, at_ms=unit.now_ms)
            unit.emit(topic, name_of(lane, unit.partition, pool).encode(), encode(pace))

    def store(self, unit: UnitLike) -> None:
        """Put the rows that are too old."""
        for pool, flow in self._flows.items():
            total, at_ms = self._stored.get(pool, (0.0, 0))
            if flow.total > total * (1.0 + STORED_BEYOND) or flow.at_ms - at_ms >= STORED_EVERY_MS:
                self._stored[pool] = flow.total, flow.at_ms
                unit.put(ROW + pool.encode(), orjson.dumps([flow.began_ms, flow.at_ms, flow.total]))


def name_of(lane: Lane, partition: int, pool: str) -> str:
    """Key of what a lane says of a pool."""
    return f"{lane}/{partition}/{pool}"
