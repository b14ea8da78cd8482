"""Counts results, attempts and feedback into metric windows: exact sums, each window final once. Keeps no ids.

Two steps in one stage, through one table:

    usage, results, feedback.counted of lane p --> parts by window and dimensions --> counts[q], q by dimensions
    counts[q] of lane q --> rows --> metrics

1. *Count.* A piece of a batch becomes one part a window and dimensions, so the busier the lane, the fewer parts a record.
   Which window, and when a lane announces that it is done with one, is ``core/window``. The lane's number p orders its
   parts before its announcement in every partition of ``counts``: they are written by one transactional producer.
2. *Merge.* A row gets every part of its dimensions. It is published ``final: false`` at most once a second while it
   changes, and ``final: true`` when all lanes have announced its end; then it is deleted.

A restart replays nothing twice (parts and offsets commit together) and forgets only marks that were never announced:
then a late record may still count in a window that is open everywhere. Windows that cannot close yet, because a lane
has a backlog, wait in the table: their number is bounded by the topics' retention.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from router.contract.codec import encode, to_rfc3339
from router.contract.ids import DEFAULT_TENANT
from router.core.counts import NONE, OTHER, Counts, Dimensions, metric_window
from router.core.window import Marks, closed_by_all
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.account_books import ANNOUNCED, UPDATE_EVERY_MS, Books, Part, Row, row_key, seen_key
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable

NAME = "account"
#: Metric records a tick may write: some 5 ms of work.
ROWS_A_TICK = 256

_COUNTS, _CLOSED = "counts", "closed"

Place = Callable[[int, Dimensions], Counts]


class Account:
    """The stage's handlers for one configuration."""

    def __init__(self, context: Context) -> None:
        config, names = context.config, context.names
        self._name = names.group(NAME)
        self._lanes = context.partitions
        self._window_s = config.account.window_s
        self._size_ms = config.account.window_s * 1000
        self._grace_ms = round(config.account.grace_s * 1000)
        self._max_rows = config.account.max_rows
        self._tenants = frozenset(config.tenants) | {DEFAULT_TENANT}
        self._counts, self._metrics, self._dead = names.of("counts"), names.of("metrics"), names.of("dead-letter")
        self._readers: dict[str, Callable[[Any, Place], None]] = {
            names.of("usage"): self._usage,
            names.of("results"): self._result,
            names.of("feedback.counted"): self._feedback,
        }

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(*self._readers, self._counts),
            outputs=frozenset({self._counts, self._metrics, self._dead}),
            handle=self.handle,
            tick=self.tick,
            index=self.index,
            rows=DictRows,
            linger_s=PATIENT_LINGER_S,
            gather_s=GATHER_S,
            culprit=give_up(NAME, self._dead),
        )

    def index(self, rows: Rows) -> Books:
        marks = Marks(self._size_ms, self._grace_ms)
        return Books.of(rows, marks, self._max_rows)

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        if batch.tp.topic == self._counts:
            self._merge(batch, unit)
        else:
            self._count(batch, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        books: Books = unit.index
        if books.opened_ms is None:
            books.opened_ms = now_ms
        self._announce(unit, books)
        left = self._close(unit, books, ROWS_A_TICK)
        self._update(unit, books, now_ms, left)

    # Step 1: count

    def _count(self, batch: Batch, unit: UnitLike) -> None:
        """One part a window and dimensions of what the piece holds."""
        books: Books = unit.index
        now_ms, read = unit.now_ms, self._readers[batch.tp.topic]
        parts: dict[Part, Counts] = {}

        def place(at_ms: int, dimensions: Dimensions) -> Counts:
            part = (books.marks.window(at_ms, now_ms), dimensions)
            found = parts.get(part)
            if found is None:
                part = (part[0], self._admit(unit, books, *part))
                found = parts.setdefault(part, Counts())
            return found

        for record in batch.records:
            if record.value is None:
                continue
            try:
                read(record, place)
            except (ValueError, LookupError, TypeError) as error:
                letter = dead_letter(record, unreadable(error), stage=NAME, at_ms=now_ms)
                unit.emit(self._dead, *letter)
        for (start_ms, dimensions), counts in parts.items():
            key = orjson.dumps([*dimensions])
            value = orjson.dumps([_COUNTS, start_ms, [*dimensions], counts.to_json()])
            unit.emit(self._counts, key, value, partition=unit.by_key(self._counts, key))

    def _admit(self, unit: UnitLike, books: Books, start_ms: int, dimensions: Dimensions) -> Dimensions:
        dimensions, new = books.admission.admit(start_ms, dimensions)
        if new:
            unit.put(seen_key(start_ms, dimensions), b"")
        return dimensions

    def _tenant(self, name: str) -> str:
        return name if name in self._tenants else OTHER

    def _usage(self, record: Any, place: Place) -> None:
        """A unique outcome, by its record's time, under the model that made the attempt."""
        found = orjson.loads(record.value)
        dimensions = Dimensions(
            self._tenant(found["tenant"]),
            found["pool"] or NONE,
            found["model"],
            found["stratum"] or NONE,
            found["cohort"],
            found["lane"],
        )
        place(found["at_ms"], dimensions).add_attempt(
            reason=found["reason"],
            prompt_tokens=found["prompt_tokens"],
            completion_tokens=found["completion_tokens"],
            cached_tokens=found["cached_tokens"],
            cost_nano_usd=found["cost_nano_usd"],
            baseline_cost_nano_usd=found["baseline_cost_nano_usd"],
            beside=found["cohort"] == "shadow",
            in_time=found.get("status") == "ok" and not found.get("late"),
        )

    def _result(self, record: Any, place: Place) -> None:
        """A result, by its record's time: that is when it was settled."""
        found = orjson.loads(record.value)
        router, error = found["router"], found["error"]
        dimensions = Dimensions(
            self._tenant(router["tenant"]),
            router["pool"] or NONE,
            router["model"] or NONE,
            router["stratum"] or NONE,
            router["cohort"] or NONE,
            _header(record.headers, "lane", "interactive"),
        )
        code = None if error is None else error["code"]
        place(record.timestamp, dimensions).add_result(code, int(router["latency_ms"]), asks="survey" in router)

    def _feedback(self, record: Any, place: Place) -> None:
        found = orjson.loads(record.value)
        dimensions = Dimensions(
            self._tenant(found["tenant"]),
            found["pool"] or NONE,
            found["model"],
            found["stratum"] or NONE,
            found["cohort"],
            found["lane"],
        )
        place(found["at_ms"], dimensions).add_feedback(found["kind"], found["value"], repeat=found["repeat"])

    def _announce(self, unit: UnitLike, books: Books) -> None:
        marks = books.marks
        marks.read_to(unit.read_to_ms)
        to_ms = marks.due(books.admission.windows, books.heard_ms)
        if to_ms is None:
            return
        value = orjson.dumps([_CLOSED, unit.partition, to_ms])
        for partition in range(self._lanes):
            unit.emit(self._counts, None, value, partition=partition)
        unit.put(ANNOUNCED, to_ms.to_bytes(8))
        marks.announce(to_ms)
        for start_ms, dimensions in books.admission.close(to_ms, self._size_ms):
            unit.put(seen_key(start_ms, dimensions), None)

    # Step 2: merge

    def _merge(self, batch: Batch, unit: UnitLike) -> None:
        books: Books = unit.index
        changed: set[Part] = set()
        for record in batch.records:
            try:
                what, *values = orjson.loads(record.value or b"")
                if what == _CLOSED:
                    lane, to_ms, *_ = values
                    books.hear(lane, to_ms, unit)
                else:
                    changed.add(books.add(*values[:3]))
            except (ValueError, LookupError, TypeError) as error:
                letter = dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms)
                unit.emit(self._dead, *letter)
        for start_ms, dimensions in changed:
            books.store(start_ms, dimensions, unit)

    def _close(self, unit: UnitLike, books: Books, most: int) -> int:
        """Publish and delete rows of windows that all lanes are done with; what is left of ``most``."""
        closed_ms = closed_by_all(books.announced, self._lanes)
        for start_ms in sorted(start for start in books.rows if start + self._size_ms <= closed_ms):
            rows = books.rows[start_ms]
            while rows and most:
                dimensions, row = rows.popitem()
                self._publish(unit, start_ms, dimensions, row, final=True)
                unit.put(row_key(start_ms, dimensions), None)
                most -= 1
            if not rows:
                del books.rows[start_ms]
        return most

    def _update(self, unit: UnitLike, books: Books, now_ms: int, most: int) -> None:
        """Publish rows that have changed, each at most once a second."""
        if now_ms < (books.opened_ms or 0) + UPDATE_EVERY_MS:
            return
        while books.due and books.due[0][0] <= now_ms and most:
            _, start_ms, dimensions = heapq.heappop(books.due)
            row = books.rows.get(start_ms, {}).get(dimensions)
            if row is not None:
                self._publish(unit, start_ms, dimensions, row, final=False)
                row.published_ms, row.waits = now_ms, False
                most -= 1

    def _publish(self, unit: UnitLike, start_ms: int, dimensions: Dimensions, row: Row, *, final: bool) -> None:
        window = metric_window(dimensions, row.counts, start=to_rfc3339(start_ms), window_s=self._window_s, final=final)
        unit.emit(self._metrics, dimensions.key().encode(), encode(window))


def build(context: Context) -> list[Stage]:
    return [Account(context).stage()]


def _header(headers: Iterable[tuple[str, bytes]], name: str, default: str) -> str:
    for key, value in headers:
        if key == name:
            return value.decode("ascii")
    return default
