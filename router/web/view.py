"""What the topics say, folded into a bounded state: the only thing that ``status`` is made from.

Records in, state out; no clock, no I/O. A record of a compacted topic replaces the one before under its key, metric
windows are summed (``sums``), orders, health changes and new names of models are also kept as a short history, dead letters are counted by
minute. Caps: the newest are kept.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from router.contract.orders import in_force
from router.contract.records import Alert, Control, DeadLetter, Health, MetricWindow, Weights
from router.contract.times import from_rfc3339
from router.core.records import NEW_NAME, Load, Sight, TenantState
from router.web.lag import Track
from router.web.sums import Windows

#: Consumer group, topic, partition.
Place = tuple[str, str, int]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
MAX_CHANGES = 50
MAX_ALERTS = 500
#: Distinct (stage, code) pairs counted apart; the rest count as ``other``.
MAX_REASONS = 64


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """Something that a person, the watch or a provider changed."""

    at_ms: int
    kind: Literal["order", "health", "version"]
    what: str
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the configuration adds: names that should be there, and what each pool is compared with."""

    prefix: str = "llm"
    broker: str = ""
    models: tuple[str, ...] = ()
    #: Models of each pool, cheap to dear, and its baseline.
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    baselines: Mapping[str, str] = field(default_factory=dict)
    #: Longest time that a call to a provider may take.
    call_s: float = 60.0
    dedupe_window_s: int = 86_400
    dedupe_max_ids: int = 20_000_000


Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class At(Generic[Record]):
    """A record and its Kafka timestamp."""

    at_ms: int
    record: Record


@dataclass(slots=True)
class View:
    """The state. ``confirmed_ms`` says of each source (``topics``, ``groups``) when it was last read to its end."""

    setup: Setup = field(default_factory=Setup)
    windows: Windows = field(default_factory=Windows)
    weights: dict[tuple[str, str], At[Weights]] = field(default_factory=dict)
    health: dict[str, At[Health]] = field(default_factory=dict)
    #: When each model came into its state, at the latest: older records of a compacted topic may be gone.
    since_ms: dict[str, int] = field(default_factory=dict)
    orders: dict[tuple[str, str], At[Control]] = field(default_factory=dict)
    alerts: dict[str, At[Alert]] = field(default_factory=dict)
    sights: dict[str, At[Sight]] = field(default_factory=dict)
    tenants: dict[str, At[TenantState]] = field(default_factory=dict)
    loads: dict[tuple[str, int], Load] = field(default_factory=dict)
    tracks: dict[Place, Track] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    dead: defaultdict[int, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))
    confirmed_ms: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0

    def fold(self, record: object, at_ms: int) -> None:  # noqa: C901 - one a type
        """Take one record of any observed topic; ``at_ms`` is its Kafka timestamp. ``TypeError`` for other types."""
        match record:
            case MetricWindow():
                self.windows.add(record)
            case Load():
                self.loads[(record.stage, record.partition)] = record
            case Weights():
                self.weights[(record.pool, record.stratum)] = At(at_ms, record)
            case Health():
                self._health(record, at_ms)
            case Control():
                self._order(record, at_ms)
            case Alert():
                self._alert(record, at_ms)
            case Sight():
                self.sights[record.pool] = At(at_ms, record)
            case TenantState():
                self.tenants.pop(record.tenant, None)
                if record.limits:
                    self.tenants[record.tenant] = At(at_ms, record)
            case DeadLetter():
                self._dead(record, at_ms)
            case _:
                raise TypeError(f"not observed: {type(record).__name__}")

    def forget(self, now_ms: int) -> None:
        """Drop what is older than an hour: windows and minutes of dead letters."""
        self.windows.forget(now_ms)
        for minute in [minute for minute in self.dead if minute * MINUTE_MS < now_ms - HOUR_MS]:
            del self.dead[minute]

    def standing(self, now_ms: int) -> list[At[Control]]:
        """Orders in force at ``now_ms``, newest first."""
        found = [order for order in self.orders.values() if in_force(order.record, now_ms)]
        return sorted(found, key=lambda order: -order.at_ms)

    def _health(self, record: Health, at_ms: int) -> None:
        before = self.health.get(record.model)
        self.health[record.model] = At(at_ms, record)
        if before is None or record.state != before.record.state:
            self.since_ms[record.model] = at_ms
        if record.state != (before.record.state if before else "up"):
            self._changed(Change(at_ms, "health", f"model:{record.model} {record.state}", "watch", record.reason))

    def _order(self, record: Control, at_ms: int) -> None:
        if record.expires_at is not None:
            from_rfc3339(record.expires_at)  # a time that no one can read must fail here, not when it is shown
        self.orders[(record.scope, record.action)] = At(at_ms, record)
        args = " ".join(str(value) for value in record.args.values())
        what = f"{record.action if record.active else 'release ' + record.action} {record.scope} {args}".rstrip()
        self._changed(Change(at_ms, "order", what, record.by, record.reason))

    def _alert(self, record: Alert, at_ms: int) -> None:
        if record.signal == NEW_NAME and record.model is not None:
            what, said = f"model:{record.model} {NEW_NAME}", str(record.evidence.get("summary", ""))
            self._changed(Change(at_ms, "version", what, f"guard of {record.pool}", said))
        self.alerts.pop(record.id, None)
        if record.state != "closed":
            self.alerts[record.id] = At(at_ms, record)
        while len(self.alerts) > MAX_ALERTS:
            del self.alerts[next(iter(self.alerts))]

    def _dead(self, record: DeadLetter, at_ms: int) -> None:
        minute = self.dead[at_ms // MINUTE_MS]
        reason = (record.stage, record.reason.code)
        minute[reason if reason in minute or len(minute) < MAX_REASONS else ("other", "other")] += 1

    def _changed(self, change: Change) -> None:
        insort(self.changes, change)
        del self.changes[:-MAX_CHANGES]
