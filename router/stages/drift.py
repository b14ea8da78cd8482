"""Watches whether requests still look as those did that the classifier was fitted to (``core/guard/drift``). Runs beside ``watch``.

    profiles (partial histograms, by pool) --> one ``Drift`` a pool, judged once a day --> alerts, severity watch

A pool has one alert a signal, ``confidence_drift`` and ``off_centroid``, that names all classes in which it is seen. It is told again each day that
it has news, and closes by itself when no class has shown it for ``CALM_DAYS`` days in a row, or another classifier is in force. A person may
acknowledge it, or close it: then it opens again only after it was gone. It moves no traffic.

Table: pool -> JSON of ``Drift`` and alerts. A day is ``guard.day_s``. A pool whose row cannot be read by this release begins anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from router.contract.codec import encode
from router.contract.releases import by_place
from router.core.guard.alerts import acknowledged, closed
from router.core.guard.detector import DAY_MS
from router.core.guard.drift import SIGNALS, Drift, Sample
from router.core.guard.drift_alert import record_of
from router.kafka.follow import Follower
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable

log = logging.getLogger(__name__)

NAME: Final = "drift"
CALM_DAYS: Final = 2


@dataclass(slots=True)
class Told:
    """An alert that is not closed. ``calm``: days without the signal; ``quiet``: a person closed it, and it is still seen."""

    last: dict[str, Any]
    calm: int = 0
    quiet: bool = False


@dataclass(slots=True)
class Book:
    """One pool."""

    drift: Drift
    told: dict[str, Told] = field(default_factory=dict)


class DriftStage:
    """The stage's handlers for one installation."""

    def __init__(self, context: Context) -> None:
        names, config = context.names, context.config
        self._name = f"{names.group('watch')}-{NAME}"
        self._profiles, self._alerts = names.of("profiles"), names.of("alerts")
        self._dead, acts = names.of("dead-letter"), names.of("alert.acts")
        self._pools = frozenset(config.pools)
        self._scale = DAY_MS // (config.guard.day_s * 1000)
        self._said: dict[str, str] = {}
        self._follower = Follower(context.client, [acts], self._apply, confirms=False)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._profiles,),
            outputs=frozenset({self._alerts, self._dead}),
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
        """The pools as they were stored."""
        books: dict[str, Book] = {}
        for key, value in rows.items():
            pool = key.decode()
            try:
                found = orjson.loads(value)
                told = {signal: by_place(Told, one) for signal, one in found["told"].items()}
                books[pool] = Book(Drift.load(found["drift"]), told)
            except (ValueError, LookupError, TypeError) as error:
                log.warning("drift of pool %s begins anew: its state is not of this release (%s)", pool, error)
        return books

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        changed = set()
        for record in batch.records:
            try:
                pool, found = (record.key or b"").decode(), orjson.loads(record.value or b"")
                if pool in self._pools:
                    self._take(pool, found, unit)
                    changed.add(pool)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
        for pool in sorted(changed):
            self._store(pool, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        """What people said of alerts."""
        books: dict[str, Book] = unit.index
        for pool, book in books.items():
            for signal, told in book.told.items():
                act, state = self._said.get(told.last["id"]), told.last["state"]
                if act == "close" and state != "closed":
                    told.quiet = True
                    self._tell(pool, signal, told, closed(told.last, now_ms), unit)
                elif act == "acknowledge" and state == "open":
                    self._tell(pool, signal, told, acknowledged(told.last, now_ms), unit)
                else:
                    continue
                self._store(pool, unit)

    def _take(self, pool: str, found: Mapping[str, Any], unit: UnitLike) -> None:
        """One lane's word of one pool."""
        books: dict[str, Book] = unit.index
        version, at_ms = str(found["version"]), int(found["at_ms"]) * self._scale
        parts = {}
        for name, counts in found["classes"].items():
            half = len(counts) // 2
            parts[name] = (Sample(counts[: half - 1], counts[half - 1]), Sample(counts[half:-1], counts[-1]))
        book = books.get(pool)
        if book is None or book.drift.version != version:
            for signal, told in () if book is None else list(book.told.items()):
                self._close(pool, signal, told, unit)
            book = books[pool] = Book(Drift(version, at_ms))
        if book.drift.step(at_ms):
            for signal in SIGNALS:
                self._look(pool, book, signal, unit)
        for name, (seen, rows) in parts.items():
            book.drift.add(name, seen, rows, at_ms)

    def _look(self, pool: str, book: Book, signal: str, unit: UnitLike) -> None:
        """A day has ended: open, tell again or close."""
        speaking, told = book.drift.speaking(signal), book.told.get(signal)
        if not speaking:
            if told is not None:
                told.calm += 1
                if told.calm >= CALM_DAYS:
                    self._close(pool, signal, told, unit)
                    del book.told[signal]
            return
        if told is not None:
            told.calm = 0
            if told.quiet:
                return
        record = asdict(record_of(book.drift, signal, pool=pool, scale=self._scale, now_ms=unit.now_ms))
        if told is None:
            told = book.told[signal] = Told({})
        elif told.last["evidence"] == record["evidence"]:
            return
        else:
            record = {**record, **{name: told.last[name] for name in ("id", "state", "since")}}
        self._tell(pool, signal, told, record, unit)

    def _close(self, pool: str, signal: str, told: Told, unit: UnitLike) -> None:
        if told.last["state"] != "closed":
            self._tell(pool, signal, told, closed(told.last, unit.now_ms), unit)

    def _tell(self, pool: str, signal: str, told: Told, record: dict[str, Any], unit: UnitLike) -> None:
        told.last = record
        unit.emit(self._alerts, f"{pool}/none/{signal}".encode(), encode(record))

    def _store(self, pool: str, unit: UnitLike) -> None:
        book: Book = unit.index[pool]
        told = {signal: [one.last, one.calm, one.quiet] for signal, one in book.told.items()}
        unit.put(pool.encode(), orjson.dumps({"drift": book.drift.dump(), "told": told}))

    def _apply(self, record: Any) -> None:
        """A record of what people say of alerts."""
        if record.value is not None:
            with contextlib.suppress(ValueError, LookupError, TypeError):
                found = orjson.loads(record.value)
                self._said[found["id"]] = found["act"]
