"""Reads what ``status`` is folded from: state topics whole, event topics from an hour back, one consumer for all.

No group: nobody's partitions move because somebody looks. ``read_committed``. Topics that do not exist yet are waited
for. All calls have a time limit; whatever the broker does to us is a ``KafkaError`` or ``TimeoutError`` for the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from router.kafka.admin import partitions_of
from router.kafka.client import Client

#: Longest time for one question to the broker.
PATIENCE_S = 3.0
#: One fetch waits so long for news: short enough for figures of each second, long enough to cost nothing when idle.
FETCH_WAIT_MS = 500
MAX_BYTES = 4 * 1024 * 1024
#: Applied at once: some 20 ms in which this process does nothing else.
MAX_RECORDS = 500


class Tail:
    """One consumer. ``whole``: topics read from their beginning, ``recent``: from ``span_ms`` back."""

    def __init__(
        self,
        client: Client,
        *,
        whole: Sequence[str],
        recent: Sequence[str],
        others: Sequence[str] = (),
        span_ms: int = 3_600_000,
    ) -> None:
        """``others``: topics of which only the ends are asked for."""
        self._client = client
        self._whole = frozenset(whole)
        self._recent = frozenset(recent)
        self._others = frozenset(others)
        self._span_ms = span_ms
        self._consumer: AIOKafkaConsumer | None = None
        self._read: list[TopicPartition] = []
        #: Partitions of every topic named, once open.
        self.partitions: dict[str, int] = {}

    async def open(self, now_ms: int) -> bool:
        """Connect and go to where reading begins; ``False`` while topics are missing."""
        async with asyncio.timeout(PATIENCE_S * 2):
            counts = await partitions_of(self._client, sorted(self._whole | self._recent | self._others))
            if not all(counts.get(topic) for topic in self._whole | self._recent):
                return False
            self.partitions = {topic: count for topic, count in counts.items() if count}
            self._consumer = self._client.consumer(fetch_max_wait_ms=FETCH_WAIT_MS, max_partition_fetch_bytes=MAX_BYTES)
            await self._consumer.start()
            self._read = self.of(self._whole | self._recent)
            # A consumer learns where partitions lie only of topics that it is assigned: the others too, but never fetched.
            self._consumer.assign([*self._read, *self.of(self._others - self._whole - self._recent)])
            self._consumer.pause(*self.of(self._others - self._whole - self._recent))
            await self._seek_recent(self._consumer, now_ms)
        return True

    async def close(self) -> None:
        if self._consumer is not None:
            await stop_consumer(self._consumer)
            self._consumer = None

    def of(self, topics: Iterable[str]) -> list[TopicPartition]:
        """All partitions of ``topics`` that exist."""
        return [
            TopicPartition(topic, number) for topic in sorted(topics) for number in range(self.partitions.get(topic, 0))
        ]

    async def ends(self) -> dict[TopicPartition, int]:
        """Last stable offsets of all topics named: what a ``read_committed`` reader can reach."""
        async with asyncio.timeout(PATIENCE_S):
            found: dict[TopicPartition, int] = await self._open().end_offsets(self.of(self.partitions))
            return found

    async def begins(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """First offsets that are retained."""
        async with asyncio.timeout(PATIENCE_S):
            found: dict[TopicPartition, int] = await self._open().beginning_offsets(tps) if tps else {}
            return found

    async def read_to(self, ends: dict[TopicPartition, int], apply: Callable[[ConsumerRecord], None]) -> None:
        """Apply all that lies below ``ends``; ``TimeoutError`` when nothing more comes."""
        consumer = self._open()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + PATIENCE_S
        while any([await consumer.position(tp) < ends.get(tp, 0) for tp in self._read]):
            fetched = await consumer.getmany(timeout_ms=100, max_records=MAX_RECORDS)
            for records in fetched.values():
                for record in records:
                    apply(record)
            if fetched:
                until_s = loop.time() + PATIENCE_S
                await asyncio.sleep(0)
            elif loop.time() > until_s:
                raise TimeoutError("the broker has stopped sending")

    def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("not open")
        return self._consumer

    async def _seek_recent(self, consumer: AIOKafkaConsumer, now_ms: int) -> None:
        tps = self.of(self._recent)
        ends = await consumer.end_offsets(tps)  # asked first: what comes between the two questions is not passed over
        starts = await consumer.offsets_for_times(dict.fromkeys(tps, now_ms - self._span_ms))
        for tp in tps:  # no record is that young: what comes next is the first
            consumer.seek(tp, starts[tp].offset if starts.get(tp) else ends[tp])


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """``consumer.stop()`` that holds also while the broker is away.

    With a fetch in its pause before the next try, aiokafka 0.14 cancels that, awaits it, and lets its ``CancelledError``
    out (``Fetcher.close``): the caller would take it for its own end, and the connection would stay.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping])
    if stopping.cancelled():
        await consumer._client.close()  # noqa: SLF001 - what stop() did not get to
    else:
        stopping.result()
