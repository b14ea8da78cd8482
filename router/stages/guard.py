"""Watches the quality of answers: pilot against reference, in every stratum of every pool (``core/guard``). Runs beside ``watch``.

    usage, rewards, pairs of lane p --> what the guard hears, by pool --> guard.evidence[q], q by pool
    guard.evidence[q] of lane q --> one guard a pool --> alerts, orders to give a stratum back, focus

1. A piece of a batch becomes one record a pool: counts of requests by stratum, arm, tenant and slices (``core/slicing``), and opinions. No state.
2. All of a pool meets in one lane, so the bound on false alarms is one for the whole pool. The tests are brought up to date every minute of
   the records' own time, which a demonstration may let pass faster (``guard.day_s``). An alarm opens an alert; where the pool has ``auto_rollback`` and it is a page, an order gives the unit's pilot traffic
   back to the baseline: of the units that alarm together the first, for what overlaps with it begins anew. Orders that people give are obeyed: what is rolled back is out of the tests until it is released.
3. Pairs of a stratum that was given back are its way home (``core/guard/revalidation``): where they show that it is well, the order is released if the
   pool has ``auto_release``. ``focus`` says where more reviews and shadow pairs are wanted; routers draw them.

Tables: ``pool`` -> JSON of guard and alerts as they were at the last minute; ``pool`` + NUL + number -> what was heard since. A pool whose row cannot
be read by this release begins anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import orjson

from router.config import PoolConfig
from router.contract.codec import decode_control, encode, to_rfc3339
from router.contract.errors import BadRecord
from router.contract.orders import GUARD, in_force
from router.contract.records import Alert, Control
from router.core.guard.alerts import (
    OpenAlert,
    Stakes,
    acknowledged,
    again,
    closed,
    is_over,
    load,
    of_news,
    opened,
    record_of,
    scope_of,
)
from router.core.guard.detector import DAY_MS
from router.core.guard.focus import NO_FACTORS, USUAL, factors
from router.core.guard.monitor import Finding, Guard, Settings
from router.core.guard.revalidation import Revalidation, relapsed
from router.core.guard.slices import PREFIX
from router.core.records import Focus
from router.kafka.follow import Follower
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, LINGER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable
from router.stages.guard_baseline import BaselineWatch
from router.stages.guard_heard import ARMS, OTHER, STEP_MS, Heard, latest, tell
from router.stages.guard_sight import SightTeller

log = logging.getLogger(__name__)

NAME: Final = "guard"
BY: Final = GUARD
#: What was heard is kept with the guard itself after so many records, at the latest.
MOST_HEARD: Final = 200
#: Days whose traffic an alert's money is reckoned by.
_STAKES_DAYS: Final = 7
#: An order of our own is back from its topic by then.
_ORDER_IS_BACK_MS: Final = 10_000


@dataclass(slots=True)
class Book:
    """One pool: its guard, its alerts by unit, and how much was heard since both were stored."""

    guard: Guard
    stepped_ms: int
    baseline: BaselineWatch
    sight: SightTeller
    alerts: dict[str, OpenAlert] = field(default_factory=dict)
    heard: int = 0
    again: dict[str, Revalidation] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)  # by their pairs, and when
    focus: dict[str, tuple[float, float]] = field(default_factory=dict)


class GuardStage:
    """The stage's handlers for one installation.

    ``step_ms``: between two looks at the tests, of the records' own time. ``strata``: of every pool, known before their first request.
    """

    def __init__(self, context: Context, *, step_ms: int = STEP_MS, strata: Iterable[str] = ()) -> None:
        names, config = context.names, context.config
        self._name = f"{names.group('watch')}-{NAME}"
        self._usage, self._rewards = names.of("usage"), names.of("rewards")
        self._pairs, self._focus = names.of("pairs"), names.of("focus")
        self._sights = names.of("guard.sight")
        self._evidence, self._alerts = names.of("guard.evidence"), names.of("alerts")
        self._control, self._dead = names.of("control"), names.of("dead-letter")
        self._pools: Mapping[str, PoolConfig] = config.pools
        self._tenants = frozenset(config.tenants)
        self._acts = names.of("alert.acts")
        self._orders: dict[str, Control] = {}
        self._said: dict[str, str] = {}
        self._follower = Follower(context.client, [self._control, self._acts], self._apply, confirms=False)
        self._arl_days = float(config.guard.arl_days)
        self._scale = DAY_MS // (config.guard.day_s * 1000)
        self._step_ms, self._strata = step_ms, tuple(strata)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._usage, self._rewards, self._pairs, self._evidence),
            outputs=frozenset({self._evidence, self._alerts, self._control, self._focus, self._sights, self._dead}),
            handle=self.handle,
            tick=self.tick,
            index=self.index,
            rows=DictRows,
            resources=(self._follower,),
            linger_s=PATIENT_LINGER_S if self._scale == 1 else LINGER_S,
            gather_s=GATHER_S,
            urgent=frozenset({self._alerts, self._control}),
            culprit=give_up(NAME, self._dead),
        )

    def index(self, rows: Rows) -> dict[str, Book]:
        """The pools as they were stored, and what was heard since."""
        stored = dict(rows.items())
        books: dict[str, Book] = {}
        for key, value in stored.items():
            pool = key.decode()
            if b"\0" in key or pool not in self._pools:
                continue
            try:
                found = orjson.loads(value)
                guard = Guard.load(self._settings(pool), found["guard"])
                alerts = {unit: load(one) for unit, one in found["alerts"].items()}
                book = books[pool] = Book(guard, found["stepped_ms"], self._baseline(pool), self._sight(pool), alerts)
                book.baseline.load(found.get("baseline"))
                book.focus = {name: (factors[0], factors[1]) for name, factors in found["focus"].items()}
                book.released = found.get("released", {})
                for name, values in found["again"].items():
                    book.again[name] = Revalidation(guard.settings.margin, guard.settings.judge_power)
                    book.again[name].load(values)
            except (ValueError, LookupError, TypeError) as error:
                log.warning("guard of pool %s begins anew: its state is not of this release (%s)", pool, error)
        for key in sorted(key for key in stored if b"\0" in key):
            pool, _, number = key.decode().partition("\0")
            if pool in books:
                self._hear(books[pool], orjson.loads(stored[key]))
                books[pool].heard = int(number) + 1
        return books

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        if batch.tp.topic == self._evidence:
            for record in batch.records:
                self._take(record, unit)
        else:
            self._collect(batch, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        """Orders that came meanwhile, and what people said of alerts."""
        books: dict[str, Book] = unit.index
        for pool, book in books.items():
            self._obey(pool, book, now_ms, unit)
            self._heed(pool, book, now_ms, unit)

    # Step 1: collect

    def _collect(self, batch: Batch, unit: UnitLike) -> None:
        pools: dict[str, Heard] = {}
        for record in batch.records:
            if record.value is None:
                continue
            try:
                found = orjson.loads(record.value)
                pool, arm = found["pool"], ARMS.get(found["cohort"])
                if pool not in self._pools or arm is None:
                    continue
                tenant = found.get("tenant")
                tenant = tenant if tenant in self._tenants else OTHER
                heard = pools.setdefault(pool, Heard())
                if batch.tp.topic == self._pairs:
                    heard.pair(found, tenant, self._scale)
                elif batch.tp.topic == self._usage:
                    heard.attempt(found, arm, tenant, self._scale)
                else:
                    heard.reward(found, arm, tenant, self._scale)
            except (ValueError, LookupError, TypeError) as error:
                unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
        for pool, heard in pools.items():
            key = pool.encode()
            unit.emit(self._evidence, key, heard.dump(), partition=unit.by_key(self._evidence, key))

    # Step 2: watch

    def _take(self, record: Any, unit: UnitLike) -> None:
        books: dict[str, Book] = unit.index
        try:
            pool, found = (record.key or b"").decode(), orjson.loads(record.value or b"")
            now_ms = latest(found)
            if pool not in self._pools or now_ms is None:
                return
            book = books.get(pool)
            if book is None:
                guard = Guard(self._settings(pool), self._strata, now_ms)
                book = books[pool] = Book(guard, now_ms, self._baseline(pool), self._sight(pool))
                self._store(pool, book, unit)
            self._hear(book, found)
        except (ValueError, LookupError, TypeError) as error:
            unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
            return
        unit.put(_heard_key(pool, book.heard), record.value)
        book.heard += 1
        if now_ms >= book.stepped_ms + self._step_ms or book.heard >= MOST_HEARD:
            self._step(pool, book, max(now_ms, book.stepped_ms), unit)

    def _hear(self, book: Book, found: Mapping[str, Any]) -> None:
        for place, verdict in tell(book.guard, found):
            fence = book.guard.fence_of(place)
            if fence is not None:
                margin, power = book.guard.settings.margin, book.guard.settings.judge_power
                book.again.setdefault(fence, Revalidation(margin, power)).observe(verdict)

    def _step(self, pool: str, book: Book, now_ms: int, unit: UnitLike) -> None:
        book.stepped_ms = now_ms
        findings = book.guard.step(now_ms)
        for news in book.guard.news():
            note = of_news(news._replace(at_ms=news.at_ms // self._scale), pool)
            unit.emit(self._alerts, f"{pool}/{news.model}/{note.signal}".encode(), encode(note))
        by_itself = self._pools[pool].auto_rollback
        finding = next(iter(findings), None) if by_itself else _to_tell(findings, book.alerts)
        if finding is not None:
            self._alarm(pool, book, finding, unit)
        for name in [
            name for name, one in book.alerts.items() if is_over(one, book.guard.units[name].evidence, now_ms)
        ]:
            self._close(pool, book, name, now_ms, unit)
        book.baseline.step(book.guard.baseline, now_ms, unit)
        book.sight.step(book.guard, now_ms, unit)
        self._let_go(pool, book, unit)
        self._look_closer(pool, book, unit)
        self._store(pool, book, unit)

    def _let_go(self, pool: str, book: Book, unit: UnitLike) -> None:
        """What was given back and has shown that it is well is released, where the pool says so; a person may do it elsewhere."""
        for name, trial in list(book.again.items()):
            scope = scope_of(pool, name)
            order = self._orders.get(scope)
            if name not in book.guard.fenced:
                del book.again[name]
            elif relapsed(book.released.get(name), book.guard.fenced[name]):
                continue
            elif trial.passed and self._pools[pool].auto_release and order is not None and order.by == BY:
                reason = f"{trial.pairs} shadow pairs show that it is within the margin again"
                released = replace(order, active=False, reason=reason, at=to_rfc3339(unit.now_ms), expires_at=None)
                unit.emit(self._control, f"{scope}/rollback".encode(), encode(released))
                book.released[name] = book.stepped_ms
                del book.again[name]

    def _look_closer(self, pool: str, book: Book, unit: UnitLike) -> None:
        """Say where reviews and pairs are wanted, where that has changed by a quarter."""
        wanted = factors(book.guard, book.stepped_ms)
        for name in sorted((wanted.keys() | book.focus.keys()) - book.guard.fenced.keys()):
            usual = NO_FACTORS if name.startswith(PREFIX) else USUAL
            now, before = wanted.get(name, usual), book.focus.get(name, usual)
            if now == before or all(0.75 * old < new < 1.25 * old for old, new in zip(before, now, strict=True)):
                continue
            book.focus[name] = now
            record = Focus(pool=pool, stratum=name, reviews=now[0], shadow=now[1], at_ms=unit.now_ms)
            unit.emit(self._focus, f"{pool}/{name}".encode(), encode(record))

    def _alarm(self, pool: str, book: Book, finding: Finding, unit: UnitLike) -> None:
        guard, name = book.guard, finding.unit
        alert = book.alerts.get(name)
        if alert is None:
            alert = book.alerts[name] = opened(finding, pool)
        elif not again(alert, finding.severity, finding.at_ms):
            return
        watched, act = guard.units[name], False
        if self._pools[pool].auto_rollback and alert.severity == "page" and alert.ordered_ms is None:
            alert.ordered_ms, act = unit.now_ms, True
        stakes = self._stakes(pool, guard, name, finding.at_ms)
        record = record_of(alert, finding, watched, stakes, pool)
        at, since = (to_rfc3339(ms // self._scale) for ms in (finding.at_ms, alert.since_ms))
        record = replace(record, at=at, since=since)
        self._tell(pool, alert, record, unit)
        if act:
            reason = f"{finding.signal}: {record.evidence['summary']} (alert {alert.id[:8]})"
            if relapsed(book.released.get(name), finding.at_ms):
                reason = f"bad again after shadow pairs had released it, so a person has to release it now; {reason}"
            order = Control(
                scope=scope_of(pool, name),
                action="rollback",
                active=True,
                by=BY,
                reason=reason[:2000],
                at=to_rfc3339(unit.now_ms),
            )
            unit.emit(self._control, f"{order.scope}/rollback".encode(), encode(order))
            guard.fence(name, finding.at_ms)

    def _obey(self, pool: str, book: Book, now_ms: int, unit: UnitLike) -> None:
        """Fence what is rolled back by an order, release what no longer is; close alerts of what is released."""
        guard = book.guard
        if not self._orders and not guard.fenced:
            return
        standing = {
            name
            for name in guard.units
            if self._in_force(scope_of(pool, name), now_ms)
            or (not name.startswith(PREFIX) and self._in_force(f"stratum:{pool}/{name.partition('/')[0]}", now_ms))
        }
        changed = False
        for name in standing - guard.fenced.keys():
            guard.fence(name, book.stepped_ms)
            changed = True
        for name in guard.fenced.keys() - standing:
            alert = book.alerts.get(name)
            if alert is not None and alert.ordered_ms is not None and now_ms < alert.ordered_ms + _ORDER_IS_BACK_MS:
                continue  # the order that was just written has not come back yet
            guard.release(name, book.stepped_ms)
            if alert is not None:
                self._close(pool, book, name, now_ms, unit)
            changed = True
        if changed:
            self._store(pool, book, unit)

    def _heed(self, pool: str, book: Book, now_ms: int, unit: UnitLike) -> None:
        """Alerts that somebody acknowledged or closed."""
        changed = book.baseline.heed(book.guard.baseline, self._said, book.stepped_ms, unit)
        for name, alert in list(book.alerts.items()):
            act = self._said.get(alert.id)
            if act == "close":
                self._close(pool, book, name, now_ms, unit)
                book.guard.units[name].restart(book.stepped_ms)
                changed = True
            elif act == "acknowledge" and alert.state == "open" and alert.last is not None:
                alert.state, alert.last = "acknowledged", acknowledged(alert.last, now_ms)
                unit.emit(self._alerts, f"{pool}/{name}/{alert.signal}".encode(), orjson.dumps(alert.last))
                changed = True
        if changed:
            self._store(pool, book, unit)

    def _close(self, pool: str, book: Book, name: str, now_ms: int, unit: UnitLike) -> None:
        alert = book.alerts.pop(name)
        if alert.last is not None:
            key = f"{pool}/{name}/{alert.signal}".encode()
            unit.emit(self._alerts, key, orjson.dumps(closed(alert.last, now_ms)))

    def _tell(self, pool: str, alert: OpenAlert, record: Alert, unit: UnitLike) -> None:
        alert.last = asdict(record)
        unit.emit(self._alerts, f"{pool}/{record.stratum}/{alert.signal}".encode(), encode(record))

    def _store(self, pool: str, book: Book, unit: UnitLike) -> None:
        """The pool as it is now; what was heard until now is in it."""
        for number in range(book.heard):
            unit.put(_heard_key(pool, number), None)
        book.heard = 0
        found = {
            "guard": book.guard.dump(),
            "stepped_ms": book.stepped_ms,
            "alerts": {name: alert.dump() for name, alert in book.alerts.items()},
            "again": {name: trial.dump() for name, trial in book.again.items()},
            "released": book.released,
            "focus": book.focus,
            "baseline": book.baseline.dump(),
        }
        unit.put(pool.encode(), orjson.dumps(found))

    def _stakes(self, pool: str, guard: Guard, name: str, now_ms: int) -> Stakes:
        since_ms = now_ms - _STAKES_DAYS * DAY_MS
        unit = guard.units[name]
        days = max(1.0 / 24, min(_STAKES_DAYS, (now_ms - max(since_ms, unit.started_ms)) / DAY_MS))
        reference, pilot = unit.since("requests", since_ms)
        money = unit.since("saved", since_ms)[1]
        whole = [one.since("requests", since_ms) for other, one in guard.units.items() if not other.startswith(PREFIX)]
        config = self._pools[pool]
        return Stakes(
            pilot_requests=pilot.n / days,
            requests=(reference.n + pilot.n) / days,
            pool_requests=sum(both[0].n + both[1].n for both in whole) / days,
            saving_nano_usd=money.bad / days,
            bad_answer_nano_usd=config.bad_answer_nano_usd,
        )

    def _baseline(self, pool: str) -> BaselineWatch:
        return BaselineWatch(pool, self._pools[pool].baseline, self._alerts, self._scale)

    def _sight(self, pool: str) -> SightTeller:
        return SightTeller(pool, self._sights)

    def _settings(self, pool: str) -> Settings:
        config = self._pools[pool]
        return Settings(margin=float(config.margin), arl_days=self._arl_days, judge_power=float(config.judge_power))

    def _in_force(self, scope: str, now_ms: int) -> bool:
        order = self._orders.get(scope)
        return order is not None and in_force(order, now_ms)

    def _apply(self, record: Any) -> None:
        """A record of the control topic, of which only rollbacks concern the guard, or of what people say of alerts."""
        if record.value is None:
            return
        if record.topic == self._acts:
            with contextlib.suppress(ValueError, LookupError, TypeError):
                found = orjson.loads(record.value)
                self._said[found["id"]] = found["act"]
            return
        try:
            order = decode_control(record.value)
        except BadRecord:
            return
        if order.action != "rollback":
            return
        if order.active:
            self._orders[order.scope] = order
        else:
            self._orders.pop(order.scope, None)


def _to_tell(findings: list[Finding], alerts: Mapping[str, OpenAlert]) -> Finding | None:
    """Where people give units back: the one to open an alert for, or to tell again; the first, unless it is open already and another says something new.

    What overlaps with an open alert is part of it: a slice of a stratum, a stratum of a slice. But no page is part of a watch.
    """
    open_ = {name: alert.severity for name, alert in alerts.items() if alert.ordered_ms is None}
    waiting = {"watch": [*open_], "page": [name for name, severity in open_.items() if severity == "page"]}
    for at, finding in enumerate(findings):
        known = finding.unit in alerts
        part = any(name.startswith(PREFIX) != finding.is_slice for name in waiting[finding.severity])
        if not known and not part and (at == 0 or finding.evidence >= finding.threshold):
            return finding
    return next((one for one in findings if one.unit in alerts), None)


def _heard_key(pool: str, number: int) -> bytes:
    return f"{pool}\0{number:06}".encode()
