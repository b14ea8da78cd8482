"""A Faust transport that hands agents whole partition batches: one Faust event per fetch, not one per record.

Stock Faust spends some 250 microseconds on each record (a message object, a queue, a stream step, an ack). None of it
is needed once per record; all of it is cheap once per thousand. So the seam is ``Consumer.getmany``, where Faust takes
records out of aiokafka: here it yields one message whose value is a ``Batch``. Agents, rebalances, acks, table
recovery and the worker's life stay Faust's own.

Rule: every topic such an app reads carries batches, so nothing may use Faust's own per-record serializers, its reply
topics or its leader topic. ``BatchConsumer.subscribe`` checks that.
"""
# ruff: noqa: SLF001, ASYNC109 - the seam to two pinned packages: their private names (tests/kafka/test_private_names.py), their signatures

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar

import aiokafka
import faust
from aiokafka import ConsumerRecord, TopicPartition
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, EventT, Message

from router.kafka.client import CONSUMER_TIMEOUT_MS

#: Settings without which batches lose their point.
SETTINGS: Mapping[str, Any] = {
    "web_enabled": False,  # Faust would listen on 0.0.0.0:6066
    "topic_disable_leader": True,  # its topic would be read record by record
    "stream_buffer_maxsize": 8,  # batches, not records
    "stream_wait_empty": True,  # a rebalance waits until started batches are acknowledged
    "consumer_auto_offset_reset": "earliest",
    "consumer_max_fetch_size": 512 * 1024,  # of a partition, as compressed: in memory it may be five times that
}

#: Faust hard-codes 1500 ms. aiokafka has one fetch in flight per broker: while it waits for the quiet partitions,
#: a partition that has just been drained is not asked for. This bounds that wait.
FETCH_MAX_WAIT_MS = 20

#: An app that lets the broker gather takes this many bytes at once all the same.
GATHER_BYTES = 256 * 1024

#: While every lane commits, nothing that came could be handled: the broker gathers for this share of the time that is
#: left, so that what has come is there when they are free; not where that is too short to be worth it, nor longer than this.
GATHER_SHARE, GATHER_LEAST_S, GATHER_MOST_S = 0.75, 0.005, 0.1

#: When nothing has come for a while and every partition is in the fetch, nothing is lost by a longer wait: the broker
#: answers as soon as a record arrives in any of them.
IDLE_FETCH_MAX_WAIT_MS = 1_000
IDLE_AFTER_S = 0.5

#: How often to see whether a position has moved without records: it takes a transaction that was aborted. Less often
#: when nothing has come for a while; a look of that length ends early when the flow is stopped.
LOOK_S = 0.2
IDLE_LOOK_S = 1.0

#: How soon a source whose gate opened is fetched, when meanwhile nothing else has records.
GATE_S = 0.020

#: How long to look away while every partition waits for its agent, at first and at most. Faust looks away for a second.
BUFFERED_S = (0.002, 0.016)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one partition.

    ``next_offset`` is what to commit once all are processed. It may lie beyond the last record: transaction markers and
    aborted records take offsets too. ``records`` is empty when only such were read. ``fetched`` and ``prepared`` hold
    one item a record where the stage asks for it.
    """

    tp: TP
    records: Sequence[ConsumerRecord]
    next_offset: int
    fetched: Sequence[Any] = ()
    prepared: Sequence[Any] = ()

    def split(self, size: int) -> tuple[Batch, Batch | None]:
        """The first ``size`` records, and the rest, ``None`` when there is none. Each part can be committed alone."""
        if size >= len(self.records):
            return self, None
        return (
            Batch(self.tp, self.records[:size], self.records[size].offset, self.fetched[:size], self.prepared[:size]),
            Batch(self.tp, self.records[size:], self.next_offset, self.fetched[size:], self.prepared[size:]),
        )


class BatchApp(faust.App):  # type: ignore[misc] # Faust's types are loose
    """A Faust app that can leave a source unread for a while, and the broker time to gather records for a fetch."""

    gather_s = 0.0

    def readable(self, tp: TP) -> bool:  # noqa: ARG002 - for subclasses
        """Asked before every fetch. What is ``False`` is not fetched; other partitions are."""
        return True

    def busy_s(self, given: AbstractSet[int]) -> float:  # noqa: ARG002
        """For how long, most likely, nothing that is fetched can be handled. Asked from the consumer's thread.

        ``given``: partition numbers of what has just been fetched.
        """
        return 0.0


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Leaves a batch as it is: what to decode, and when, is the stage's business."""

    def compile(self, app: faust.App, **_: Any) -> Any:
        async def decode(message: Message, *, propagate: bool = False) -> EventT:  # noqa: ARG001 - Faust's signature
            return app.create_event(None, message.value, None, message)

        return decode


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Runs aiokafka's consumer in its own thread, so that heartbeats go on while an agent computes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reached: dict[TP, int] = {}
        self._reached_in: int | None = None
        self._came_s = time.monotonic()
        self._looking: asyncio.Task[Mapping[TP, Sequence[ConsumerRecord]]] | None = None

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # until the first fetch is paced
        consumer._consumer_timeout = CONSUMER_TIMEOUT_MS / 1000
        return consumer

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """End offsets as the broker knows them now (stock Faust, in transactions, trusts a cache that starts empty)."""
        ends: Mapping[TP, int] = await self.call_thread(self._ensure_consumer().end_offsets, partitions)
        return ends

    async def getmany(
        self, active_partitions: set[TP] | None, timeout: float, held: AbstractSet[TP] = frozenset()
    ) -> tuple[int, list[Batch]]:
        """The group generation of the fetch, and at most one batch per partition; none after ``timeout`` seconds.

        ``held``: partitions to leave unread for now.
        """
        fetched: tuple[int, list[Batch]] = await self.call_thread(
            self._fetch, frozenset(active_partitions or ()), timeout, frozenset(held)
        )
        return fetched

    async def _fetch(
        self, partitions: AbstractSet[TP], timeout: float, held: AbstractSet[TP]
    ) -> tuple[int, list[Batch]]:
        consumer, generation = self._ensure_consumer(), self.app.consumer_generation_id
        if not (partitions or held) or not self.consumer.flow_active:
            return generation, []
        assigned = consumer.assignment()
        # Our own changelog, once it has been read, would bring back what we write.
        paused = (held & assigned) | {tp for tp in assigned - partitions if self.consumer._is_changelog_tp(tp)}
        if paused != consumer.paused():
            consumer.resume(*(consumer.paused() - paused))
            consumer.pause(*map(driver.ensure_aiokafka_TP, paused))
        # The paused ones are asked for too: they yield nothing, but what was fetched of them beforehand is dropped.
        # Left lying it would keep aiokafka from fetching the others for 100 ms.
        wanted = [driver.ensure_aiokafka_TP(tp) for tp in partitions | paused]
        if self._reached_in != generation:
            self._reached, self._reached_in = {}, generation
        ends_s = time.monotonic() + timeout
        whole = not held and len(wanted) >= len(assigned)
        look_s = IDLE_LOOK_S if whole and self._is_idle() else LOOK_S
        while True:
            left_s = ends_s - time.monotonic()
            fetched = await self._look(consumer, wanted, max(0.0, min(look_s, left_s)), whole=whole)
            if generation != self.app.consumer_generation_id or not self.consumer.flow_active:
                self._unread(consumer, fetched)
                return generation, []
            batches = [
                Batch(ensure_TP(tp), fetched.get(tp, ()), position)
                for tp in consumer.assignment().intersection(partitions)
                if (position := await consumer.position(tp)) != self._reached.get(tp) or tp in fetched
            ]
            if batches or left_s <= look_s or not self.consumer.flow_active:
                self._reached.update({batch.tp: batch.next_offset for batch in batches})
                return generation, batches

    async def _look(
        self, consumer: aiokafka.AIOKafkaConsumer, wanted: Sequence[TopicPartition], seconds: float, *, whole: bool
    ) -> Mapping[TP, Sequence[ConsumerRecord]]:
        """What comes within ``seconds``; nothing when ``look_up`` is called before anything has come."""
        self._looking = asyncio.ensure_future(self._take(consumer, wanted, seconds, whole=whole))
        try:
            await asyncio.wait([self._looking])
        finally:
            self._looking.cancel()
        return {} if self._looking.cancelled() else self._looking.result()

    async def _take(
        self, consumer: aiokafka.AIOKafkaConsumer, wanted: Sequence[TopicPartition], seconds: float, *, whole: bool
    ) -> Mapping[TP, Sequence[ConsumerRecord]]:
        """Takes and paces in one step of the loop: what is taken makes aiokafka build the next request."""
        fetched: Mapping[TP, Sequence[ConsumerRecord]] = await consumer.getmany(*wanted, timeout_ms=int(seconds * 1000))
        self._pace(consumer, {tp.partition for tp in fetched}, whole=whole)
        return fetched

    def look_up(self) -> None:
        """End a look that is under way, from any thread: the flow was stopped."""
        with contextlib.suppress(RuntimeError):  # its loop has ended, so no look is under way
            self.thread_loop.call_soon_threadsafe(self._look_up)

    def _look_up(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    def _is_idle(self) -> bool:
        return time.monotonic() - self._came_s > IDLE_AFTER_S

    async def rejoin(self) -> None:
        """Have the group deal out its partitions anew, by what the broker says of topics now."""
        consumer = self._ensure_consumer()
        await consumer._client.force_metadata_update()
        consumer._coordinator.request_rejoin()

    def _pace(self, consumer: aiokafka.AIOKafkaConsumer, given: AbstractSet[int], *, whole: bool) -> None:
        """Ask for long waits only when nothing comes and the fetch covers all there is, or to let the broker gather."""
        if given or not whole:
            self._came_s = time.monotonic()
        idle = self._is_idle()
        gather_s = 0.0
        if whole and not self.app.rebalancing:
            busy_s = min(GATHER_SHARE * self.app.busy_s(given), GATHER_MOST_S)
            gather_s = max(self.app.gather_s, busy_s if busy_s >= GATHER_LEAST_S else 0.0)
        fetcher = consumer._fetcher
        wait_ms = int(gather_s * 1000) or FETCH_MAX_WAIT_MS
        fetcher._fetch_max_wait_ms = IDLE_FETCH_MAX_WAIT_MS if idle else wait_ms
        fetcher._fetch_min_bytes = GATHER_BYTES if gather_s and not idle else 1

    @staticmethod
    def _unread(consumer: aiokafka.AIOKafkaConsumer, fetched: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        """A rebalance came between. What was fetched will not be processed, so it must not count as read."""
        for tp, records in fetched.items():
            if tp in consumer.assignment():
                consumer.seek(tp, records[0].offset)


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer with a batch where a record was."""

    _look_away_s = BUFFERED_S[0]

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def stop_flow(self) -> None:
        """Also of a fetch that is under way: a rebalance waits for it."""
        super().stop_flow()
        self._thread.look_up()

    def rejoin(self) -> None:
        """Have the group deal out its partitions anew; returns at once."""
        self.add_future(self._thread.call_thread(self._thread.rejoin))

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Refuse topics whose reader expects single records."""
        for topic in self.app.topics:
            if not isinstance(topic.schema, BatchSchema):
                raise faust.exceptions.ImproperlyConfigured(f"{topic} is read in batches but has no BatchSchema")
        await super().subscribe(topics)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """One message per partition batch. Faust's fetcher calls this in a loop."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        active = self._readable_partitions()
        if not active:
            await self.sleep(self._look_away_s)
            self._look_away_s = min(2 * self._look_away_s, BUFFERED_S[1])
            return
        self._look_away_s = BUFFERED_S[0]
        held = {tp for tp in active if not (self._is_changelog_tp(tp) or self.app.readable(tp))}
        generation, batches = await self._thread.getmany(active - held, GATE_S if held else timeout, held)
        for batch in batches:
            if self.should_stop or not self.flow_active or generation != self.app.consumer_generation_id:
                return  # a rebalance came between: recovery has gone, or will go, back to the committed offsets
            if not batch.records and not self._is_changelog_tp(batch.tp):
                self._read_offset[batch.tp] = None  # Faust would drop it as old: it lies before the position sought
            yield batch.tp, as_message(batch, generation)

    def ack(self, message: Message) -> bool:
        """An advance without records may lie before the offset that Faust knows as committed: it waits no more."""
        done: bool = super().ack(message)
        self._unacked_messages.discard(message)
        return done

    def _readable_partitions(self) -> set[TP]:
        """Partitions to fetch now. Until a rebalance has ended: only changelogs, and only while tables recover.

        A worker that held no partition before keeps its flow running through a rebalance; stock Faust then hands it
        records before their table is back.
        """
        active: set[TP] = self._get_active_partitions()
        if not self.app.rebalancing:
            return active
        return {tp for tp in active if self.app.in_recovery and self._is_changelog_tp(tp)}

    async def verify_all_partitions_active(self) -> None:
        """Faust would report partitions that its own timer does not commit; ``StageApp.liveness`` tells what is so."""

    def _new_offset(self, tp: TP) -> int | None:
        """Faust looks for the first gap among acknowledged offsets; batches are acknowledged in order."""
        acked = self._acked[tp]
        if not acked:
            return None
        newest: int = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return newest + 1

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets inside a batch are no gap to remember."""


def as_message(batch: Batch, generation: int) -> ConsumerMessage:
    """Carries the offset before ``next_offset``: acknowledging it commits the batch, transaction markers included."""
    last = batch.records[-1] if batch.records else None
    return ConsumerMessage(
        *batch.tp,
        offset=batch.next_offset - 1,
        timestamp=last.timestamp / 1000 if last else 0.0,
        timestamp_type=last.timestamp_type if last else 0,
        headers=None,
        key=None,
        value=batch,
        checksum=None,
        tp=batch.tp,
        generation_id=generation,
    )


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust transport for ``batch://host:port`` broker addresses."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
