"""What a lane of route keeps of pools with a budget: a ledger each, and the price of money that paces it.

A lane keeps its own ledger: it charges what it decides, and settle tells it what became of that (topic ``spending``, into the
partition in which the requests were). So nothing is global, each lane spends at most its own requests' budget and a burst, and
their sum does not exceed it either. Rows: ``b`` + pool -> ``[price, requests, spent, owed, lately expected, lately spent]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple

import orjson

from router.core.budget import Ledger, Pacer
from router.core.facts import Choice, Purse
from router.core.records import Spending
from router.core.snapshot import PoolFacts
from router.kafka.unit import UnitLike

ROW = b"b"


class Budgets:
    """Of one lane, by pool; made when it is first asked for."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._kept = {key[len(ROW) :].decode(): orjson.loads(value) for key, value in rows if key[:1] == ROW}
        self._pacers: dict[str, Pacer] = {}
        self._changed: set[str] = set()

    def purse(self, pool: PoolFacts) -> Purse:
        """As the next request of the pool finds it."""
        pacer = self._pacer(pool)
        ledger = pacer.ledger
        return Purse(
            price=round(pacer.price, 9),
            left_nano_usd=ledger.left + ledger.budget,
            burst_nano_usd=ledger.burst,
            dearer=round(ledger.dearer, 4),
        )

    def charge(self, pool: PoolFacts, choice: Choice) -> int:
        """The request was decided; returns what its ledger is charged."""
        pacer = self._pacer(pool)
        costs = {one.model: one.expected_cost_nano_usd or 0 for one in choice.candidates}
        asked = [one.model for one in choice.candidates if one.excluded in (None, "spent")]
        if choice.quality is not None and choice.gamma is not None:
            pacer.note(
                {model: choice.quality[model] for model in asked},
                {model: float(costs[model]) for model in asked},
                choice.gamma,
            )
        pacer.ledger.charge(costs[choice.model])
        self._changed.add(pool.name)
        return costs[choice.model]

    def correct(self, pool: PoolFacts, spending: Spending) -> None:
        """What became of charged requests."""
        self._pacer(pool).ledger.correct(spending.requests, spending.charged, spending.cost)
        self._changed.add(pool.name)

    def store(self, unit: UnitLike) -> None:
        """Put the rows that changed in this turn."""
        for name in sorted(self._changed):
            pacer = self._pacers[name]
            unit.put(ROW + name.encode(), orjson.dumps([pacer.price, *astuple(pacer.ledger)[1:]]))
        self._changed.clear()

    def _pacer(self, pool: PoolFacts) -> Pacer:
        """With the budget of now: one that was changed holds for what is behind, too."""
        pacer = self._pacers.get(pool.name)
        if pacer is None:
            price, *figures = self._kept.get(pool.name, [0.0])
            pacer = self._pacers[pool.name] = Pacer(Ledger(pool.budget_nano_usd, *figures), price)
        pacer.ledger.budget = pool.budget_nano_usd
        return pacer
