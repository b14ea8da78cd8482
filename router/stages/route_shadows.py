"""What a lane of the batch route may still spend on shadows, pool by pool, and how many it has out.

A shadow is sent only while batch work is admitted and the lane's share of the pool's allowance has room; what is not sent is dropped
without a word, for nobody waits for it. A lane keeps its own ledger, as it does of budgets: settle tells it what became of each call
(topic ``spending.batch``). Rows: ``d`` + pool -> ``[day, spent, calls, owed]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple

import orjson

from router.contract.releases import by_place
from router.core.allowance import Allowance
from router.core.records import Spending
from router.kafka.unit import UnitLike

ROW = b"d"


class Shadows:
    """Of one lane, by pool."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._of = {
            key[len(ROW) :].decode(): by_place(Allowance, orjson.loads(value)) for key, value in rows if key[:1] == ROW
        }
        self._changed: set[str] = set()

    def room(self, pool: str, limits: Mapping[str, int], most_calls: int, now_ms: int) -> bool:
        """Whether one more shadow of the pool may be sent. ``limits``: nano-dollars a day of this lane, of pools that have one."""
        return self._allowance(pool).room(now_ms, limit_nano_usd=limits.get(pool), most_calls=most_calls)

    def charge(self, pool: str, expected_nano_usd: int, now_ms: int) -> None:
        """A shadow, or the judge of a pair, was sent."""
        self._allowance(pool).charge(expected_nano_usd, now_ms)
        self._changed.add(pool)

    def correct(self, spending: Spending, now_ms: int) -> None:
        """What became of some."""
        self._allowance(spending.pool).correct(spending.requests, spending.charged, spending.cost, now_ms)
        self._changed.add(spending.pool)

    def store(self, unit: UnitLike) -> None:
        """Put the rows that changed in this turn."""
        for name in sorted(self._changed):
            unit.put(ROW + name.encode(), orjson.dumps(astuple(self._of[name])))
        self._changed.clear()

    def _allowance(self, pool: str) -> Allowance:
        return self._of.setdefault(pool, Allowance())
