"""Run stages without Kafka: an in-memory log with the promises of the real one, and a clock that only you move.

>>> from router.kafka.lane import Stage
>>> def copy(batch, unit):
...     for record in batch.records:
...         unit.emit("out", record.key, record.value)
>>> log = MemoryLog(Stage(name="copy", sources=("in",), outputs=frozenset({"out"}), handle=copy))
>>> _ = log.produce("in", b"k", b"v")
>>> log.run()
>>> [record.value for record in log.records("out")]
[b'v']

- A stage is handled as on Kafka: batches in order within a partition, ``prefetch`` and ``prepare`` before the turn,
  ``ready`` and ``readable`` asked (``holds`` is not: a stage is never behind here), ticks in every partition, outputs and
  rows visible after the turn, all or nothing.
- ``restart`` forgets what a process keeps in memory and rebuilds rows from the compacted changelog, and the index.
- Followers and body readers among a stage's resources read this log, and what is done beside the lanes (``Aside``) is done after each
  pass; other resources are left alone.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import xxhash
from aiokafka import ConsumerRecord
from faust.types import TP

from router.kafka.aside import Aside
from router.kafka.bodies import BodyReader, Place
from router.kafka.follow import Follower
from router.kafka.horizon import Ends, Horizon
from router.kafka.lane import Stage, Unit
from router.kafka.table import Rows
from router.kafka.transport import Batch
from router.kafka.writer import Record, Where

T = TypeVar("T")

#: A stage that still acts after so many passes without new records or time acts for ever.
MOST_PASSES = 10_000


class FakeClock:
    """Milliseconds since 1970; moves when told to.

    >>> clock = FakeClock(1000)
    >>> clock.advance(50)
    >>> clock()
    1050
    """

    def __init__(self, now_ms: int = 1_750_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms


class MemoryLog:
    """Topics and the stages that run on them.

    Args:
        stages: run in this order, pass by pass, until nothing happens any more.
        partitions: of every topic.
        clock: stamps records, and is what ticks see.
        batch_records: how many records a batch has at most.
    """

    def __init__(
        self, *stages: Stage, partitions: int = 4, clock: FakeClock | None = None, batch_records: int = 500
    ) -> None:
        self.partitions = partitions
        self.clock = clock or FakeClock()
        self.batch_records = batch_records
        self._topics: defaultdict[str, list[list[ConsumerRecord]]] = defaultdict(
            lambda: [[] for _ in range(partitions)]
        )
        self._order = itertools.count()
        self._written: dict[tuple[str, int, int], int] = {}
        self._lanes: dict[str, list[_Lane]] = {}
        self._followers: dict[Follower, defaultdict[Where, int]] = {}
        self._asides: list[Aside[Any]] = []
        for stage in stages:
            self.add(stage)

    def add(self, stage: Stage) -> None:
        """Start a stage; it reads from the beginning."""
        self._lanes[stage.name] = [_Lane(self, stage, number) for number in range(self.partitions)]
        self._attach(stage)

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> ConsumerRecord:
        """Append a record; without ``partition``, where its key belongs (``xxh3_64(key) mod n``)."""
        if partition is None:
            partition = xxhash.xxh3_64_intdigest(key or b"") % self.partitions
        records = self._topics[topic][partition]
        timestamp_ms = self.clock() if timestamp_ms is None else timestamp_ms
        sizes = (-1 if key is None else len(key), -1 if value is None else len(value))
        record = ConsumerRecord(
            topic, partition, len(records), timestamp_ms, 0, key, value, None, *sizes, tuple(headers)
        )
        records.append(record)
        self._written[topic, partition, record.offset] = next(self._order)
        return record

    def records(self, topic: str, partition: int | None = None) -> list[ConsumerRecord]:
        """All records of a topic, or of one partition, in the order in which they were written."""
        if partition is not None:
            return list(self.partition((topic, partition)))
        found = [record for records in self._topics[topic] for record in records]
        return sorted(found, key=lambda record: self._written[record.topic, record.partition, record.offset])

    def partition(self, where: Where) -> Sequence[ConsumerRecord]:
        """The records of one partition: offset by offset, nothing is missing."""
        topic, number = where
        return self._topics[topic][number]

    def run(self) -> None:
        """Let all stages work until nothing happens any more. Time stands still meanwhile."""
        for _ in range(MOST_PASSES):
            fed = self._feed_followers()
            acted = [lane.turn() for lanes in list(self._lanes.values()) for lane in lanes]
            worked = [elsewhere(aside.work_off()) for aside in self._asides if aside.asked]
            if not fed and not any(acted) and not any(worked):
                return
        raise RuntimeError(f"a stage still acts after {MOST_PASSES} passes: does a tick emit every time?")

    def advance(self, ms: int, *, step_ms: int | None = None) -> None:
        """Move the clock and ``run``, in one step or in steps of ``step_ms``."""
        while ms > 0:
            step = min(ms, step_ms or ms)
            self.clock.advance(step)
            ms -= step
            self.run()

    def restart(self, stage: Stage) -> None:
        """As after a crash and a new start, perhaps with another ``Stage`` of the same name."""
        before = self._lanes[stage.name]
        self._lanes[stage.name] = [_Lane(self, stage, lane.partition, lane.positions) for lane in before]
        self._attach(stage)

    def give_up(self, name: str, record: ConsumerRecord) -> None:
        """As after three deaths at ``record``: the stage's ``culprit`` gets it, its handler goes on behind it."""
        self._lanes[name][record.partition].give_up(record)

    def rows(self, stage: Stage, partition: int) -> Rows | None:
        """A stage's committed rows in one partition."""
        return self._lanes[stage.name][partition].rows

    def _attach(self, stage: Stage) -> None:
        for resource in stage.resources:
            if isinstance(resource, Follower):
                self._followers.setdefault(resource, defaultdict(int))  # stages of a process may share it
            elif isinstance(resource, BodyReader):
                resource.read_from(self._at)
            elif isinstance(resource, Aside) and resource not in self._asides:
                self._asides.append(resource)
        self._feed_followers()

    def _at(self, place: Place) -> ConsumerRecord | None:
        topic, partition, offset = place
        records = self.partition((topic, partition))
        return records[offset] if 0 <= offset < len(records) else None

    def _feed_followers(self) -> bool:
        fed = False
        for follower, positions in self._followers.items():
            for where in itertools.product(follower.topics, range(self.partitions)):
                for record in self.partition(where)[positions[where] :]:
                    positions[where] = record.offset + 1
                    follower.apply(record)
                    fed = True
            follower.confirm(follower.clock_s())
        return fed


class _Lane:
    """One partition of a stage, and what a ``Unit`` needs of a writer."""

    def __init__(
        self, log: MemoryLog, stage: Stage, partition: int, positions: Mapping[Where, int] | None = None
    ) -> None:
        self.partition = partition
        self.partitions = dict.fromkeys(stage.outputs, log.partitions)
        self.positions: dict[Where, int] = dict(positions or {})
        self._log, self._stage = log, stage
        self._changelog = f"{stage.name}-rows-changelog"
        self.rows = stage.rows() if stage.rows is not None else None
        if self.rows is not None:
            for record in compacted(log.records(self._changelog, partition)):
                self.rows.absorb(record.key, record.value)
        self._index = stage.index(self.rows if self.rows is not None else {}) if stage.index else None
        self._horizon = Horizon([(source, partition) for source in stage.sources], self._ends)
        self._horizon.positions = {(source, partition): 0 for source in stage.sources} | self.positions

    def turn(self) -> bool:
        """Everything that waits, a tick, one commit; whether anything happened."""
        unit, offsets = self._unit(), dict[Where, int]()
        for batch in self._batches():
            self._stage.handle(self._prepared(batch), unit)
            offsets[batch.tp] = self._horizon.positions[batch.tp] = batch.next_offset
        if self._stage.tick is not None:
            unit.read_to_ms = self._horizon.look()
            self._stage.tick(unit.now_ms, unit)
        return self._commit(unit, offsets)

    def give_up(self, record: ConsumerRecord) -> None:
        assert self._stage.culprit is not None, "the stage has no culprit function"
        unit, source = self._unit(), TP(record.topic, record.partition)
        self._stage.culprit(record, unit)
        self._horizon.positions[source] = record.offset + 1
        self._commit(unit, {source: record.offset + 1})

    async def commit(self, outputs: Mapping[Where, Sequence[Record]], offsets: Mapping[Where, int]) -> dict[Where, int]:
        """What the real writer does in a transaction."""
        self.positions |= offsets
        ends = {}
        for (topic, partition), records in outputs.items():
            for key, value, headers in records:
                ends[topic, partition] = self._log.produce(
                    topic, key, value, partition=partition, headers=headers
                ).offset
        return ends

    def _unit(self) -> Unit:
        unit = Unit(self, self.rows, self._changelog if self.rows is not None else None, self._index)
        unit.now_ms, unit.read_to_ms = self._log.clock(), self._horizon.look()
        return unit

    def _commit(self, unit: Unit, offsets: Mapping[Where, int]) -> bool:
        if not unit and not offsets:
            return False
        finish(unit.commit(offsets))
        if self.rows is not None:
            self.rows.apply(unit.changes)
        return True

    def _batches(self) -> Iterable[Batch]:
        for source in self._stage.sources:
            tp = TP(source, self.partition)
            while self._may_read(tp):
                first = self._horizon.positions[tp]
                records = self._log.partition(tp)[first : first + self._log.batch_records]
                if not records:
                    break
                yield Batch(tp, records, first + len(records))

    def _may_read(self, tp: TP) -> bool:
        stage = self._stage
        return (stage.ready is None or stage.ready()) and (stage.readable is None or stage.readable(tp))

    def _prepared(self, batch: Batch) -> Batch:
        if self._stage.prefetch is not None:
            batch = replace(batch, fetched=elsewhere(self._stage.prefetch(batch)))
        if self._stage.prepare is not None:
            batch = replace(batch, prepared=self._stage.prepare(batch))
        return batch

    def _ends(self) -> Ends:
        ends = {
            (source, self.partition): len(self._log.partition((source, self.partition)))
            for source in self._stage.sources
        }
        return Ends(self._log.clock(), ends)


def compacted(records: Iterable[ConsumerRecord]) -> list[ConsumerRecord]:
    """The last record of each key, as Kafka's log cleaner leaves it."""
    last: dict[bytes | None, ConsumerRecord] = {}
    for record in records:
        last.pop(record.key, None)
        last[record.key] = record
    return list(last.values())


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise RuntimeError("it waits")


def elsewhere(awaitable: Any) -> Any:
    """The result of an awaitable, from a loop of its own: the test's author may or may not be inside one."""

    async def wait() -> Any:
        return await awaitable

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, wait()).result()
