"""The owner of tenants' limits: lends to the lanes of route, opens alerts of budgets, tells how limits stand.

    leases.wanted (by tenant) --> [ leases ] --> leases, leases.batch (to the lane that asked); alerts; tenants

Rules
- ``core.lease`` knows what may be lent. A tenant's limits are rows of one partition: nobody else lends of them.
- It runs where route runs, and only where a tenant has a limit. While a partition of it moves, lanes use what they have.
- Rows: table's name -> its accounts, by limit and window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import orjson

from router.contract.codec import decode, encode
from router.contract.errors import BadRecord
from router.contract.records import MAX_INT
from router.core.budget_alerts import alerts_of, refused
from router.core.lease import KINDS, Owner, ends_ms, window_of
from router.core.records import LimitState, TenantNews, TenantState, Wanted
from router.kafka.stage import Stage
from router.kafka.table import DictRows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import Context
from router.stages.dead_letter import dead_letter, give_up, unreadable
from router.stages.tenants import Limits, Tenants

#: Shown as a lane of route.
NAME = "route-leases"
#: Between two words on how a tenant stands, and two looks for alerts.
TELL_EVERY_MS = 1_000


class _Rows(Protocol):
    def items(self) -> Iterable[tuple[bytes, bytes]]: ...


class Book:
    """Of one partition: the owners by table, those that changed in this turn, and those to be told of."""

    def __init__(self, rows: _Rows) -> None:
        self.kept = {key.decode(): orjson.loads(value) for key, value in rows.items()}
        self.owners: dict[str, Owner] = {}
        self.changed: set[str] = set()
        self.news: set[str] = set(self.kept)
        self.looked_ms = 0


class Leases:
    """The stage's handlers for one configuration."""

    def __init__(self, context: Context, tenants: Tenants) -> None:
        names = context.names
        self._group = names.group(NAME)
        self._tenants = tenants
        self._lanes = 2 * max(1, context.partitions)
        self._wanted, self._told, self._alerts = names.of("leases.wanted"), names.of("tenants"), names.of("alerts")
        self._leases = {"interactive": names.of("leases"), "batch": names.of("leases.batch")}
        self._dead = names.of("dead-letter")

    def stage(self) -> Stage:
        return Stage(
            name=self._group,
            sources=(self._wanted,),
            outputs=frozenset({*self._leases.values(), self._told, self._alerts, self._dead}),
            handle=self.handle,
            tick=self.tick,
            rows=DictRows,
            index=Book,
            culprit=give_up(NAME, self._dead),
        )

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        for record in batch.records:
            if record.value is None:
                continue
            try:
                wanted = decode(Wanted, record.value)
            except BadRecord as error:
                unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
                continue
            self._answer(wanted, unit)
        self._store(unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        """Once a second: alerts, and how tenants stand whose limits moved."""
        book: Book = unit.index
        if now_ms - book.looked_ms < TELL_EVERY_MS:
            return
        book.looked_ms = now_ms
        for limits in self._tenants.limits.values():
            if limits.name in book.kept:
                owner = self._owner(limits, book)
                for alert in alerts_of(limits.name, owner, limits.soft, now_ms):
                    unit.emit(self._alerts, f"-/-/{alert.signal}".encode(), encode(alert))
                    book.changed.add(limits.name)
        for name in sorted(book.news):
            found = self._tenants.limits.get(name) or Limits(name, {}, {})  # none: a table that is no more
            unit.emit(self._told, name.encode(), encode(_state(found, self._owner(found, book), now_ms)))
        book.news.clear()
        self._store(unit)

    def _answer(self, wanted: Wanted, unit: UnitLike) -> None:
        book: Book = unit.index
        limits = self._tenants.limits.get(wanted.tenant) or Limits(wanted.tenant, {}, {})
        owner = self._owner(limits, book)
        grants = []
        for ask in wanted.asks:
            grant = owner.answer(ask, unit.now_ms)
            if grant is not None:
                grants.append(grant)
                if grant.dry:
                    refused(owner, grant.kind, grant.window, unit.now_ms)
        book.changed.add(wanted.tenant)
        book.news.add(wanted.tenant)
        if grants:
            news = TenantNews(tenant=wanted.tenant, grants=grants)
            topic = self._leases[wanted.lane]
            unit.emit(topic, wanted.tenant.encode(), encode(news), partition=wanted.partition)

    def _owner(self, limits: Limits, book: Book) -> Owner:
        owner = book.owners.get(limits.name)
        if owner is None:
            kept = book.kept.setdefault(limits.name, {})
            owner = book.owners[limits.name] = Owner.load(limits.kinds, self._lanes, kept)
        return owner

    def _store(self, unit: UnitLike) -> None:
        book: Book = unit.index
        for name in sorted(book.changed):
            unit.put(name.encode(), orjson.dumps(book.owners[name].dump()))
        book.changed.clear()


def _state(limits: Limits, owner: Owner, now_ms: int) -> TenantState:
    states = []
    for kind in KINDS:
        if kind in limits.kinds:
            account, hard = owner.current(kind, now_ms), limits.kinds[kind]
            states.append(
                LimitState(
                    kind=kind,
                    ends_ms=ends_ms(kind, window_of(kind, now_ms)),
                    limit=hard if hard < MAX_INT else None,
                    soft=limits.soft.get(kind),
                    lent=account.out,
                    used=account.used,
                )
            )
    return TenantState(tenant=limits.name, limits=states, at_ms=now_ms)
