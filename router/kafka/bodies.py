"""Reads single records at given places again: the log is the store, so whoever needs a body fetches it at its origin.

Reads are sorted by offset inside a partition and neighbours come with one seek; at most ``BYTES_PER_S`` are read, so
that a burst of retries cannot starve the fetches that bring new requests. ``read_committed``; a place that retention,
compaction or an abort has emptied gives ``None``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from router.contract.errors import Unavailable
from router.kafka.admin import partitions_of
from router.kafka.client import Client

log = logging.getLogger(__name__)

Place = tuple[str, int, int]

#: Between tries while Kafka does not answer.
RETRY_S = 0.5

#: Reading on to a wanted record up to this many offsets away is cheaper than seeking to it.
NEAR_OFFSETS = 500

#: Of all reads of one reader, averaged over a second.
BYTES_PER_S = 32 * 1024 * 1024

#: What one fetch brings of a partition at most; a larger record still comes.
FETCH_BYTES = 256 * 1024


class BodyReader:
    """``fetch`` may be called from many tasks; they take turns. A resource of a stage (``Stage.resources``).

    ``topics``: full names of those it reads. A place in any other topic is as if nothing were there: what names places
    comes out of records.
    """

    def __init__(self, client: Client, topics: Iterable[str]) -> None:
        self.topics = tuple(topics)
        self._client = client
        self._consumer: AIOKafkaConsumer | None = None
        self._turn = asyncio.Lock()
        self._lookup: Callable[[Place], ConsumerRecord | None] | None = None
        self._free_at_s = 0.0
        self._partitions: dict[str, int] = {}

    async def start(self) -> None:
        self._consumer = self._client.consumer(max_partition_fetch_bytes=FETCH_BYTES, fetch_max_wait_ms=50)
        await self._consumer.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    def read_from(self, lookup: Callable[[Place], ConsumerRecord | None]) -> None:
        """Answer from ``lookup`` instead of a broker (``router.testing``)."""
        self._lookup = lookup

    async def fetch(self, places: Sequence[Place]) -> list[ConsumerRecord | None]:
        """The record at each ``(topic, partition, offset)``, in the order asked; ``None`` where there is none (left)."""
        if not places:
            return []
        if self._lookup is not None:
            return [self._lookup(place) if place[0] in self.topics else None for place in places]
        wanted: defaultdict[TopicPartition, set[int]] = defaultdict(set)
        for topic, partition, offset in places:
            if topic in self.topics:
                wanted[TopicPartition(topic, partition)].add(offset)
        async with self._turn:
            found = await self._read({tp: sorted(offsets) for tp, offsets in wanted.items()})
            await self._pause(sum(len(record.value or b"") for record in found.values()))
        return [found.get(place) for place in places]

    async def fetch_in_the_end(self, places: Sequence[Place]) -> list[ConsumerRecord | None]:
        """``fetch``, which waits for as long as Kafka does not answer: for stages, where an error would be blamed on the records in hand."""
        while True:
            try:
                return await self.fetch(places)
            except (KafkaError, Unavailable) as error:
                log.warning("cannot read %d records at their places yet: %r", len(places), error)
                await asyncio.sleep(RETRY_S)

    async def _read(self, wanted: Mapping[TopicPartition, list[int]]) -> dict[Place, ConsumerRecord]:
        consumer = self._consumer
        assert consumer is not None, "start it first"
        found: dict[Place, ConsumerRecord] = {}
        left = {tp: offsets for tp, offsets in wanted.items() if await self._exists(tp)}
        begins, ends = await self._bounds(list(left))
        for tp, offsets in list(left.items()):
            left[tp] = [offset for offset in offsets if begins[tp] <= offset < ends[tp]]
        left = {tp: offsets for tp, offsets in left.items() if offsets}
        if not left:
            return {}
        consumer.assign(list(left))
        for tp, offsets in left.items():
            consumer.seek(tp, offsets[0])
        while left:
            for tp, records in (await consumer.getmany(*left, timeout_ms=100)).items():
                found |= {(*tp, record.offset): record for record in records if record.offset in left[tp]}
            for tp in list(left):
                await self._advance(consumer, tp, left)
        return found

    @staticmethod
    async def _advance(consumer: AIOKafkaConsumer, tp: TopicPartition, left: dict[TopicPartition, list[int]]) -> None:
        """Drop what lies behind the position; seek where the next wanted offset is far."""
        position = await consumer.position(tp)
        while left[tp] and left[tp][0] < position:
            left[tp].pop(0)
        if not left[tp]:
            del left[tp]
            consumer.pause(tp)
        elif left[tp][0] > position + NEAR_OFFSETS:
            consumer.seek(tp, left[tp][0])

    async def _exists(self, tp: TopicPartition) -> bool:
        """Kafka's clients wait for a partition that is not there to appear; here it never was."""
        if not self._partitions.get(tp.topic):
            self._partitions |= await partitions_of(self._client, [tp.topic])
        return bool(tp.partition < self._partitions.get(tp.topic, 0))

    async def _bounds(
        self, tps: Sequence[TopicPartition]
    ) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
        """First offset kept, and the last stable one: beyond it there is nothing to wait for."""
        assert self._consumer is not None
        if not tps:
            return {}, {}
        return await self._consumer.beginning_offsets(tps), await self._consumer.end_offsets(tps)

    async def _pause(self, read_bytes: int) -> None:
        """Hold the turn until what was read fits the rate; a second's worth may come at once."""
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s - 1.0) + read_bytes / BYTES_PER_S
        await asyncio.sleep(max(0.0, self._free_at_s - now_s))
