"""Raises the pilot's share stratum by stratum as it shows what was declared (``core/rollout``). Runs beside ``watch``, for pools with a table ``rollout``.

    counts, pairs of lane p --> what the gates look at, by pool --> rollout.evidence[q], q by pool
    rollout.evidence[q] of lane q --> one ladder a pool --> control (rollout orders), journal

1. *Collect.* A piece of a batch becomes one record a pool. No state.
2. *Climb.* Once a minute every stratum is judged. What the ladder has decided stands in ``control`` as orders of "pointsman rollout": one for the pool
   with the first stage's share, one for each stratum that is elsewhere. What is missing there is ordered, what is not wanted any more released.

A person comes first. Where one has ordered something about a stratum (pin, rollout, rollback, freeze; of it, its class, the pool or all), nothing is
ordered and no evidence counts until that is over; a share ordered for the whole pool takes our orders for its strata away. When a person releases an order of
ours, the stratum climbs again from the first stage. Two orders may cross: a person's that we have overwritten, not having read it yet, is put back.

Tables: ``pool`` -> when the rollout began; ``pool`` + NUL + stratum -> JSON of its climb. Days are those of ``guard.day_s``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

import orjson

from router.config import Config, PoolConfig
from router.contract.codec import decode, decode_control, encode, to_rfc3339
from router.contract.errors import BadRecord
from router.contract.orders import GUARD, ROLLOUT, in_force, scopes_of
from router.contract.records import Alert, Control
from router.core.counts import NONE, OTHER, Counts, Dimensions
from router.core.guard.detector import DAY_MS
from router.core.guard.slices import ALL, PREFIX
from router.core.records import Entry
from router.core.rollout.gates import Evidence
from router.core.rollout.ladder import Climb, Ladder, Plan, Step, Word
from router.kafka.follow import Follower
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable
from router.stages.guard_heard import ARMS

NAME: Final = "rollout"
BY: Final = ROLLOUT
#: Between two looks at the gates, and at the orders, of the ladder's own time and of the clock.
STEP_MS: Final = 60_000
LOOK_MS: Final = 1_000
#: An order of our own is back from its topic by then.
_BACK_MS: Final = 10_000
#: Orders of a person that take a stratum out of our hands.
_RULING: Final = ("rollout", "rollback", "pin", "freeze")
#: What is collected, and whom it is told: each item begins with its stratum.
_TOLD: Final[Mapping[str, Callable[..., None]]] = {
    "served": lambda evidence, arm, requests, ok, latency: evidence.served(arm, requests, ok, dict(latency)),
    "spent": Evidence.spent,
    "unpriced": Evidence.unpriced,
    "reviews": Evidence.reviewed,
    "pairs": Evidence.pair,
}


@dataclass(slots=True)
class Book:
    """One pool's ladder. ``ordered_ms``: when an order that is not back yet was written, by key. Times by the clock."""

    ladder: Ladder
    stepped_ms: int = 0
    looked_ms: int = 0
    ordered_ms: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Orders:
    """What the control topic says, by key ``scope/action``: the last record, the last active one, and the last that was not ours."""

    last: dict[str, Control] = field(default_factory=dict)
    active: dict[str, Control] = field(default_factory=dict)
    others: dict[str, Control] = field(default_factory=dict)

    def note(self, order: Control) -> None:
        """A record of the topic."""
        key = f"{order.scope}/{order.action}"
        self.last[key] = order
        if order.active:
            self.active[key] = order
        if order.by != BY:
            self.others[key] = order

    def in_force(self, key: str, now_ms: int) -> Control | None:
        """The order of a key, if it holds."""
        order = self.last.get(key)
        return order if order is not None and in_force(order, now_ms) else None

    def ruling(self, key: str, now_ms: int) -> Control | None:
        """The same, but a person's order that we have overwritten goes before ours."""
        other = self.others.get(key)
        return other if other is not None and in_force(other, now_ms) else self.in_force(key, now_ms)


class Rollout:
    """The stage's handlers for one installation."""

    def __init__(self, context: Context) -> None:
        names, config = context.names, context.config
        self._name = f"{names.group('watch')}-{NAME}"
        self._counts, self._pairs = names.of("counts"), names.of("pairs")
        self._evidence, self._journal = names.of("rollout.evidence"), names.of("journal")
        self._control, self._dead = names.of("control"), names.of("dead-letter")
        self._alerts = names.of("alerts")
        self._pools = {name: pool for name, pool in config.pools.items() if pool.rollout is not None}
        self._plans = {name: plan_of(pool) for name, pool in self._pools.items()}
        self._orders, self._paged = Orders(), dict[str, tuple[str, str]]()
        self._follower = Follower(context.client, [self._control, self._alerts], self._apply)
        self._scale = DAY_MS // (config.guard.day_s * 1000)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._counts, self._pairs, self._evidence),
            outputs=frozenset({self._evidence, self._control, self._journal, self._dead}),
            handle=self.handle,
            tick=self.tick,
            index=self.index,
            rows=DictRows,
            resources=(self._follower,),
            linger_s=PATIENT_LINGER_S,
            gather_s=GATHER_S,
            culprit=give_up(NAME, self._dead),
        )

    def index(self, rows: Rows) -> dict[str, Book]:
        """The pools that have a rollout, as they were."""
        stored = dict(rows.items())
        books: dict[str, Book] = {}
        for key in sorted(stored):
            pool, _, stratum = key.decode().partition("\0")
            if pool not in self._plans:
                continue
            if not stratum:
                books[pool] = Book(Ladder(self._plans[pool], orjson.loads(stored[key])))
                continue
            climb = Climb.load(orjson.loads(stored[key]))
            climb.step = min(climb.step, len(self._plans[pool].stages) - 1)
            books[pool].ladder.strata[stratum] = climb
        return books

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        if batch.tp.topic == self._evidence:
            for record in batch.records:
                self._hear(record, unit)
        else:
            self._collect(batch, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        books: dict[str, Book] = unit.index
        for pool in self._plans:
            key = pool.encode()
            if unit.by_key(self._evidence, key) != unit.partition:
                continue
            book = books.get(pool)
            if book is None:
                book = books[pool] = self._begin(pool, now_ms, unit)
            if now_ms >= book.looked_ms + LOOK_MS and self._follower.fresh():
                book.looked_ms = now_ms
                self._climb(pool, book, now_ms, unit)
                self._order(pool, book, now_ms, unit)

    # Step 1: collect

    def _collect(self, batch: Batch, unit: UnitLike) -> None:
        pools: dict[str, dict[str, list[Any]]] = {}
        for record in batch.records:
            if record.value is None:
                continue
            try:
                found = orjson.loads(record.value)
                if batch.tp.topic == self._pairs:
                    if found["pool"] in self._pools:
                        said = _of(pools, found["pool"])["pairs"]
                        said.append([found["stratum"], float(found["verdict"])])
                elif found[0] == "counts":
                    self._count(found, pools)
            except (ValueError, LookupError, TypeError) as error:
                unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
        for pool, heard in pools.items():
            key = pool.encode()
            unit.emit(self._evidence, key, orjson.dumps(heard), partition=unit.by_key(self._evidence, key))

    def _count(self, found: list[Any], pools: dict[str, dict[str, list[Any]]]) -> None:
        """A part of a metric window."""
        _, start_ms, parts, value, *_ = found
        dimensions, arm = Dimensions(*parts), ARMS.get(parts[4])
        if arm is None or dimensions.pool not in self._pools or dimensions.stratum in {NONE, OTHER}:
            return
        counts = Counts.from_json(value)
        reviews = counts.feedback.get("review", [0, 0, 0])
        of_pool, stratum = _of(pools, dimensions.pool), dimensions.stratum
        requests, ok = counts.of("requests"), counts.of("ok")
        cost, unknown = counts.of("cost_nano_usd"), counts.of("cost_unknown")
        if requests:
            of_pool["served"].append([stratum, arm, requests, ok, [*counts.latency.items()]])
        if requests or cost:
            of_pool["spent"].append([stratum, arm, start_ms * self._scale, requests, cost])
        if unknown:
            of_pool["unpriced"].append([stratum, arm, unknown])
        if reviews[0]:
            of_pool["reviews"].append([stratum, arm, reviews[0], reviews[1] / 1_000_000])

    # Step 2: climb

    def _begin(self, pool: str, now_ms: int, unit: UnitLike) -> Book:
        started_ms = now_ms * self._scale
        unit.put(pool.encode(), orjson.dumps(started_ms))
        stages = ", ".join(f"{stage:g}" for stage in self._plans[pool].stages)
        self._write(pool, now_ms, unit, kind="start", scope=f"pool:{pool}", reason=f"stages of {stages} %")
        return Book(Ladder(self._plans[pool], started_ms))

    def _hear(self, record: Any, unit: UnitLike) -> None:
        books: dict[str, Book] = unit.index
        try:
            pool, found = (record.key or b"").decode(), orjson.loads(record.value or b"")
            book = books.get(pool)
            if book is None:
                if pool not in self._plans:
                    return
                book = books[pool] = self._begin(pool, unit.now_ms, unit)
            changed = self._add(book.ladder, found, unit.now_ms * self._scale)
        except (ValueError, LookupError, TypeError) as error:
            unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
            return
        self._store(pool, book, changed, unit)

    def _add(self, ladder: Ladder, found: Mapping[str, list[Any]], now_ms: int) -> set[str]:
        """Evidence to the strata that it is of; those that somebody holds, or that are at the end, need none."""
        changed: set[str] = set()
        for kind, items in found.items():
            for stratum, *values in items:
                climb = ladder.climb(stratum, now_ms)
                if climb is not None and ladder.hears(climb):
                    _TOLD[kind](climb.evidence, *values)
                    changed.add(stratum)
        return changed

    def _climb(self, pool: str, book: Book, now_ms: int, unit: UnitLike) -> None:
        ladder, at_ms = book.ladder, now_ms * self._scale
        words = {stratum: word for stratum in ladder.strata if (word := self._word(pool, stratum, now_ms)) is not None}
        steps = [
            step for stratum in [*ladder.strata] if (step := self._again(pool, ladder, stratum, at_ms)) is not None
        ]
        if ladder.has_news(words) or at_ms >= book.stepped_ms + STEP_MS:
            book.stepped_ms = at_ms
            steps += ladder.decide(words, at_ms, self._waits(pool))
        for step in steps:
            self._tell(pool, step, now_ms, unit)
        self._store(pool, book, (step.stratum for step in steps), unit)

    def _again(self, pool: str, ladder: Ladder, stratum: str, at_ms: int) -> Step | None:
        """A person has released an order of ours."""
        key = f"stratum:{pool}/{stratum}/rollout"
        last, active = self._orders.last.get(key), self._orders.active.get(key)
        if last is None or last.active or last.by == BY or active is None or active.by != BY:
            return None
        del self._orders.active[key]
        return ladder.again(stratum, at_ms, f"released by {last.by}: {last.reason}")

    def _word(self, pool: str, stratum: str, now_ms: int) -> Word | None:
        """What others say of a stratum: a person, then the guard; a freeze keeps nobody from giving it back."""
        orders = [
            order
            for action, scope in product(_RULING, scopes_of(pool, stratum))
            if (order := self._orders.ruling(f"{scope}/{action}", now_ms)) is not None and order.by != BY
        ]
        persons = [order for order in orders if order.by != GUARD]
        if persons and persons[0].action != "freeze":
            return _said(persons[0])
        alert = next((id_ for id_, where in self._paged.items() if where in {(pool, stratum), (pool, ALL)}), None)
        if alert is not None:
            return Word("guard", f"the guard has paged (alert {alert[:8]})")
        if (order := next((one for one in orders if one.by == GUARD), None)) is not None:
            return Word("guard", f"rolled back by the guard: {order.reason}")
        return _said(persons[0]) if persons else None

    def _waits(self, pool: str) -> str | None:
        """A slice that is no stratum is bad somewhere: nobody goes on before that is cleared up."""
        found = next((unit for of, unit in self._paged.values() if of == pool and unit.startswith(PREFIX)), None)
        return None if found is None else f"the guard has paged about {found}"

    def _order(self, pool: str, book: Book, now_ms: int, unit: UnitLike) -> None:
        """Make the standing orders what the ladder says."""
        first, whole = self._plans[pool].stages[0], f"pool:{pool}"
        wanted = {whole: first}
        for stratum in book.ladder.strata:
            own, *wider = scopes_of(pool, stratum)
            share = book.ladder.percent(stratum)
            if share != first and all(self._ruled(scope, now_ms) is None for scope in wider):
                wanted[own] = share
        ours = [order for order in self._orders.last.values() if order.by == BY and order.active]
        mine = {one.scope for one in ours if one.scope == whole or one.scope.startswith(f"stratum:{pool}/")}
        for scope in sorted(wanted.keys() | mine):
            key, percent = f"{scope}/rollout", wanted.get(scope)
            if now_ms < book.ordered_ms.get(key, 0) + _BACK_MS:
                continue
            if (record := self._due(scope, percent, now_ms)) is not None:
                book.ordered_ms[key] = now_ms
                unit.emit(self._control, key.encode(), encode(record))

    def _due(self, scope: str, percent: float | None, now_ms: int) -> Control | None:
        """What has to be written so that the order of a scope is as wanted (``None``: there should be none); ``None`` if it is."""
        lost = self._ruled(scope, now_ms)
        standing = self._orders.in_force(f"{scope}/rollout", now_ms)
        if lost is not None:
            return lost if standing is None or standing.by == BY else None
        if percent is None:
            return None if standing is None else replace(standing, active=False, at=to_rfc3339(now_ms))
        if standing is not None and standing.args.get("percent") == percent:
            return None
        reason = "the share that it has come to: pointsman journal says why"
        return Control(
            scope=scope,
            action="rollout",
            args={"percent": percent},
            active=True,
            by=BY,
            reason=reason,
            at=to_rfc3339(now_ms),
        )

    def _ruled(self, scope: str, now_ms: int) -> Control | None:
        """A share that somebody else has ordered for exactly this scope, also if we have overwritten it."""
        order = self._orders.others.get(f"{scope}/rollout")
        return order if order is not None and in_force(order, now_ms) else None

    def _tell(self, pool: str, step: Step, now_ms: int, unit: UnitLike) -> None:
        plan = self._plans[pool]
        until_ms = now_ms + plan.least_ms // self._scale if step.kind in {"advance", "resume"} else None
        self._write(
            pool,
            now_ms,
            unit,
            kind=step.kind,
            scope=f"stratum:{pool}/{step.stratum}",
            reason=step.why,
            before_percent=step.before,
            after_percent=step.after,
            until=None if until_ms is None else to_rfc3339(until_ms),
            known=[gate._asdict() for gate in step.gates],
        )

    def _write(self, pool: str, now_ms: int, unit: UnitLike, **said: Any) -> None:
        entry = Entry(at=to_rfc3339(now_ms), by=BY, **said)
        unit.emit(self._journal, pool.encode(), encode(entry), partition=unit.by_key(self._journal, pool.encode()))

    @staticmethod
    def _store(pool: str, book: Book, strata: Iterable[str], unit: UnitLike) -> None:
        for stratum in strata:
            unit.put(f"{pool}\0{stratum}".encode(), orjson.dumps(book.ladder.strata[stratum].dump()))

    def _apply(self, record: Any) -> None:
        """A record of control or alerts."""
        if record.value is None:
            return
        try:
            if record.topic == self._control:
                order = decode_control(record.value)
                if order.action in _RULING:
                    self._orders.note(order)
                return
            alert = decode(Alert, record.value)
        except BadRecord:
            return
        if alert.pool in self._pools and alert.stratum is not None:
            self._paged.pop(alert.id, None)
            if alert.state != "closed" and alert.severity == "page":
                self._paged[alert.id] = (alert.pool, alert.stratum)


def plan_of(pool: PoolConfig) -> Plan:
    """A configured rollout as the core has it; days are of the ladder's own time."""
    assert pool.rollout is not None
    return Plan.of(pool.rollout, float(pool.margin), float(pool.judge_power))


def build(context: Context) -> list[Stage]:
    """None where no pool has a rollout."""
    return [Rollout(context).stage()] if wanted(context.config) else []


def wanted(config: Config) -> bool:
    """Whether any pool has a rollout."""
    return any(pool.rollout is not None for pool in config.pools.values())


def _said(order: Control) -> Word:
    """A person's order as the ladder hears it."""
    percent = order.args.get("percent") if order.action == "rollout" else 0.0 if order.action == "rollback" else None
    return Word("person", f"{order.action} {order.scope} by {order.by}: {order.reason}", percent)


def _of(pools: dict[str, dict[str, list[Any]]], pool: str) -> dict[str, list[Any]]:
    return pools.setdefault(pool, {kind: [] for kind in _TOLD})
