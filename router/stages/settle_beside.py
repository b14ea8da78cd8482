"""What settle does beside results: shadows and judges are ordered, pairs told, answers given to people (``core.beside``).

All of it leaves in the transaction of what it follows; none of it has a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router.contract.codec import encode
from router.contract.records import Origin, Outcome
from router.core.beside import judged_pair, order_judge, order_shadow
from router.core.records import Order
from router.core.reward import reward_key
from router.core.settlement import Row
from router.core.slip import Slip
from router.kafka.unit import UnitLike
from router.stages.context import Context
from router.stages.headers import passed_on


class Beside:
    """For one configuration; ``outputs``: the topics it writes to beside those of orders."""

    def __init__(self, context: Context) -> None:
        config, names = context.config, context.names
        self._judges = {name: pool.judge for name, pool in config.pools.items() if pool.judge is not None}
        self._redispatch = {"interactive": names.of("redispatch"), "batch": names.of("redispatch.batch")}
        self._pairs = names.of("pairs")
        self.outputs = frozenset({self._pairs, *self._redispatch.values()})

    def answered(self, row: Row, number: int, token: str | None, unit: UnitLike) -> None:
        """A request that was drawn has its answer, of attempt ``number``; ``token``: feedback on it."""
        answered_by = next(each for each in row.tries if each.number == number)
        order = order_shadow(row.slip, answered_by, now_ms=unit.now_ms, token=self._for_people(row.slip, token))
        if order is not None:
            self.emit_order(unit, order, row.headers)

    def concluded(self, record: Any, slip: Slip, outcome: Outcome, unit: UnitLike) -> None:
        """The first outcome of a shadow, or of a pair's judge, was read. Late or failed: nothing follows."""
        if outcome.status != "ok" or record.timestamp >= slip.deadline_at_ms:
            return
        if slip.reason == "judge":
            pair = judged_pair(slip, outcome, at_ms=record.timestamp)
            if pair is not None:
                key = reward_key(pair.pool, pair.stratum).encode()
                unit.emit(self._pairs, key, encode(pair), partition=unit.by_key(self._pairs, key))
            return
        judge = self._judges.get(slip.pool or "")
        order = None if judge is None else order_judge(slip, outcome, place_of(record), judge, now_ms=unit.now_ms)
        if order is not None:
            self.emit_order(unit, order, passed_on(record.headers))

    def emit_order(self, unit: UnitLike, order: Order, headers: Iterable[tuple[str, bytes]]) -> None:
        """To the lane of route that has the request's partition."""
        key, partition = order.request_id.encode(), order.origin.partition
        unit.emit(self._redispatch[order.lane], key, encode(order), partition=partition, headers=list(headers))

    def _for_people(self, slip: Slip, token: str | None) -> str | None:
        """The token, where people are to look at both answers of the pair."""
        return None if slip.pool in self._judges else token


def place_of(record: Any) -> Origin:
    """Where a record lies."""
    return Origin(topic=record.topic, partition=record.partition, offset=record.offset)
