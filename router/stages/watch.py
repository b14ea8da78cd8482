"""Watches the health of each model, unknown prices, and the orders that people give.

Two steps in one stage, as in ``account``:

    usage of lane p --> evidence by model and second --> health.counts[q], q by model
    open attempts of each lane of settle ------------------> health.counts[q], too
    health.counts[q] of lane q --> one health machine a model --> health, alerts

1. A piece of a batch becomes one record a model and second; no state.
2. ``core/health`` says how a model is, ``core/incidents`` which alerts are open. Health is published when the state
   changes, and at most once a second when its figures moved: error rate or rate-limited share by 0.01, p95 and the wait for a slot by a tenth;
   each second while the model is saturated, for routers count on from there.
   A model nobody called has no health record: it counts as up.

Orders in ``control`` are obeyed by every router and worker by itself; here each is checked once, and one that no router
obeys (unreadable, without ``by`` or ``reason``, an action that does not fit its scope) becomes a dead letter; others are entered in the
``journal``, for the topic itself keeps only the last of a scope and action. (What a rollout orders it enters itself, with its reasons.)

Table: key model -> JSON ``[health, incidents, published_ms, published]``. What settle tells is in no table: it is told again within a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from router.config import ModelConfig
from router.contract.codec import decode_control, encode, to_rfc3339
from router.contract.errors import BadRecord
from router.contract.orders import ROLLOUT
from router.contract.records import Alert, Control, Health
from router.contract.releases import by_place
from router.core.backlog import Backlog, Queue
from router.core.evidence import Evidence
from router.core.health import DEFAULT_LIMITS, Limits, ModelHealth
from router.core.incidents import Incidents
from router.core.records import Entry
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import BRIEF_GATHER_S, LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable
from router.stages.drift import DriftStage
from router.stages.guard import GuardStage
from router.stages.rollout import build as build_rollout

NAME = "watch"
PUBLISH_EVERY_MS = 1_000
#: A change of less is not worth a record to every router.
_SHARE_STEP, _P95_STEP, _LEAST_WAIT_STEP_MS = 0.01, 0.1, 50.0
#: A second between two looks at what is open.
STAND_EVERY_MS = 1_000
#: Alerts of models concern no pool and no stratum: their key is ``none/none/signal``.
_NONE = "none"


@dataclass(slots=True)
class Watched:
    """One model. ``published``: what ``shows`` said when it was last published, at ``published_ms``. ``stood_ms``: of the last look at ``queue``."""

    health: ModelHealth = field(default_factory=ModelHealth)
    incidents: Incidents = field(default_factory=Incidents)
    published_ms: int = 0
    published: list[Any] | None = None
    queue: Queue = field(default_factory=Queue)
    stood_ms: int = 0

    def shows(self) -> list[Any]:
        """State, until when, silent; then the figures."""
        health = self.health
        return [
            health.state,
            health.until_ms,
            health.silent,
            health.error_rate,
            health.rate_limited_share,
            health.p95_ms,
            health.queue_wait_ms,
            None if health.saturated is None else health.saturated.at_ms,
        ]

    def has_news(self, now_ms: int) -> bool:
        """Whether to publish now."""
        shows = self.shows()
        if self.published is None or len(self.published) != len(shows) or self.published[:3] != shows[:3]:
            return True
        if now_ms < self.published_ms + PUBLISH_EVERY_MS:
            return False
        before, after = self.published[3:], shows[3:]
        wait_step = max(_LEAST_WAIT_STEP_MS, _P95_STEP * (before[3] or 0.0))
        steps = (_SHARE_STEP, _SHARE_STEP, _P95_STEP * (before[2] or 0.0), wait_step, 1.0)
        return any(_moved(*change) for change in zip(before, after, steps, strict=True))

    def stand(self, now_ms: int) -> None:
        """Once a second: what is open. After a start what was known goes on until settle has spoken, or time has passed."""
        if self.health.silent and not self.queue.lanes:
            return
        if abs(now_ms - self.stood_ms) >= STAND_EVERY_MS:
            self.stood_ms = now_ms
            self.health.stand(self.queue, now_ms)


class Watch:
    """The stage's handlers for one installation."""

    def __init__(self, context: Context) -> None:
        names = context.names
        self._name = names.group(NAME)
        self._usage, self._counts, self._control = (names.of(name) for name in ("usage", "health.counts", "control"))
        self._health, self._alerts, self._dead = (names.of(name) for name in ("health", "alerts", "dead-letter"))
        self._journal = names.of("journal")
        self._limits = {name: limits_of(model) for name, model in context.config.models.items()}

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._usage, self._counts, self._control),
            outputs=frozenset({self._counts, self._health, self._alerts, self._journal, self._dead}),
            handle=self.handle,
            tick=self.tick,
            index=self.index,
            rows=DictRows,
            linger_s=LINGER_S,
            gather_s=BRIEF_GATHER_S,
            urgent=frozenset({self._health, self._alerts}),
            culprit=give_up(NAME, self._dead),
        )

    def index(self, rows: Rows) -> dict[str, Watched]:
        found: dict[str, Watched] = {}
        for key, value in rows.items():
            health, incidents, published_ms, published, *_ = orjson.loads(value)
            known = ModelHealth.from_json(health, self._limits.get(key.decode(), DEFAULT_LIMITS))
            found[key.decode()] = Watched(known, by_place(Incidents, incidents), published_ms, published)
        return found

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        if batch.tp.topic == self._usage:
            self._count(batch, unit)
        elif batch.tp.topic == self._counts:
            self._judge(batch, unit)
        else:
            self._check_orders(batch, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        models: dict[str, Watched] = unit.index
        for model, watched in models.items():
            before = watched.shows()
            watched.stand(now_ms)
            watched.health.tick(now_ms)
            alert = watched.incidents.on_time(model, now_ms)
            if alert is not None:
                self._alert(alert, unit)
            if alert is not None or before != watched.shows() or watched.has_news(now_ms):
                self._tell(model, watched, now_ms, unit)

    def _count(self, batch: Batch, unit: UnitLike) -> None:
        """One record a model and second of what the piece holds."""
        parts: dict[tuple[str, int], Evidence] = {}
        for record in batch.records:
            if record.value is None:
                continue
            try:
                found = orjson.loads(record.value)
                part = (found["model"], found["at_ms"] // 1000)
                evidence = parts.get(part)
                if evidence is None:
                    evidence = parts[part] = Evidence(part[1])
                evidence.add(
                    found["status"],
                    found["error_code"],
                    at_ms=found["at_ms"],
                    latency_ms=found["latency_ms"],
                    cost_nano_usd=found["cost_nano_usd"],
                    endpoint=found.get("endpoint"),
                )
            except (ValueError, LookupError, TypeError) as error:
                self._reject(record, unreadable(error), unit)
        for (model, _), evidence in parts.items():
            key = model.encode()
            value = orjson.dumps(evidence.to_json())
            unit.emit(self._counts, key, value, partition=unit.by_key(self._counts, key))

    def _judge(self, batch: Batch, unit: UnitLike) -> None:
        models: dict[str, Watched] = unit.index
        changed: set[str] = set()
        for record in batch.records:
            try:
                model = (record.key or b"").decode()
                found = orjson.loads(record.value or b"")
                evidence = Backlog.from_json(found) if isinstance(found, dict) else Evidence.from_json(found)
            except (ValueError, LookupError, TypeError) as error:
                self._reject(record, unreadable(error), unit)
                continue
            watched = models.get(model)
            if watched is None:
                health = ModelHealth(limits=self._limits.get(model, DEFAULT_LIMITS))
                watched = models[model] = Watched(health)
            if isinstance(evidence, Backlog):
                watched.queue.take(evidence)
                continue
            if evidence.unpriced:
                alert = watched.incidents.on_unpriced(model, evidence.unpriced, unit.now_ms)
                self._alert(alert, unit)
            watched.health.observe(evidence, unit.now_ms)
            changed.add(model)
        for model in sorted(changed):
            self._tell(model, models[model], unit.now_ms, unit)

    def _check_orders(self, batch: Batch, unit: UnitLike) -> None:
        for record in batch.records:
            if record.value is None:
                continue
            try:
                order = decode_control(record.value)
            except BadRecord as error:
                self._reject(record, error, unit)
                continue
            if order.by != ROLLOUT:
                unit.emit(self._journal, order.scope.encode(), encode(entry_of(order)))

    def _tell(self, model: str, watched: Watched, now_ms: int, unit: UnitLike) -> None:
        """Store a model that changed, publish it if there is news, open or close its alert."""
        health = watched.health
        self._alert(watched.incidents.on_state(model, health.state, health.reason, now_ms), unit)
        if watched.has_news(now_ms):
            watched.published_ms, watched.published = now_ms, watched.shows()
            record = Health(
                model=model,
                state=health.state,
                reason=health.reason,
                error_rate=None if health.error_rate is None else round(health.error_rate, 4),
                p95_ms=None if health.p95_ms is None else round(health.p95_ms, 1),
                queue_wait_ms=None if health.queue_wait_ms is None else round(health.queue_wait_ms, 1),
                endpoints=health.endpoints(),
                until=None if health.until_ms is None else to_rfc3339(health.until_ms),
                at=to_rfc3339(now_ms),
                p50_ms=None if health.p50_ms is None else round(health.p50_ms, 1),
                p99_ms=None if health.p99_ms is None else round(health.p99_ms, 1),
                silent=health.silent,
                saturated=health.saturated,
            )
            unit.emit(self._health, model.encode(), encode(record))
        row = [health.to_json(), watched.incidents.to_json(), watched.published_ms, watched.published]
        unit.put(model.encode(), orjson.dumps(row))

    def _alert(self, alert: Alert | None, unit: UnitLike) -> None:
        if alert is not None:
            key = f"{alert.pool or _NONE}/{alert.stratum or _NONE}/{alert.signal}"
            unit.emit(self._alerts, key.encode(), encode(alert))

    def _reject(self, record: Any, error: BadRecord, unit: UnitLike) -> None:
        unit.emit(self._dead, *dead_letter(record, error, stage=NAME, at_ms=unit.now_ms))


def build(context: Context) -> list[Stage]:
    stages = [Watch(context).stage(), GuardStage(context).stage(), DriftStage(context).stage()]
    return stages + build_rollout(context)


def limits_of(model: ModelConfig) -> Limits:
    """A model's configured limits as the core has them."""
    return Limits(
        error_rate=float(model.max_error_rate),
        p95_ms=None if model.max_p95_s is None else round(model.max_p95_s * 1000),
        silent_after_ms=round(model.silent_after_s * 1000),
    )


def entry_of(order: Control) -> Entry:
    """An order, or its release, as the journal has it."""
    return Entry(
        at=order.at,
        kind="order" if order.active else "release",
        scope=order.scope,
        by=order.by,
        reason=order.reason,
        action=order.action,
        args=order.args,
        until=order.expires_at,
    )


def _moved(before: float | None, after: float | None, step: float) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(after - before) >= step and after != before
