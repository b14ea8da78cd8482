"""The transactional producer of one partition: outputs and offsets of a turn become visible together or not at all.

Plain aiokafka, no Faust: stages use it (``transaction.py``) and workers of long calls do (``calls.py``).

The transactional id names the *partition*, not the process. Whoever is assigned the partition starts this producer
before it reads offsets or state; Kafka thereby ends what an earlier owner left open and fences it for good.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import NotEnoughReplicasError
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import OffsetAndMetadata

from router.kafka import pace
from router.kafka.client import MAX_REQUEST_BYTES, Client, Codec

Headers = list[tuple[str, bytes]]
Record = tuple[bytes | None, bytes | None, Headers]
Where = tuple[str, int]

#: Shared by all records without headers: aiokafka's record builder insists on a list and leaves it alone.
NO_HEADERS: Headers = []

#: Largest produce batch; a stage's outputs for one partition rarely exceed it, so one append loop makes one request.
PRODUCE_BATCH_BYTES = 512 * 1024

#: As a batch's attributes name them.
CODECS: Mapping[Codec, int] = {
    "none": 0,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}

#: Right after a commit Kafka is still writing its markers. The next transaction's first request is then refused
#: (``pace.py``), its records, too, by the check that their partition was added (NotEnoughReplicas): aiokafka would wait
#: 100 ms before it sends them again.
RETRY_BACKOFF_MS = 2
pace.install()
#: aiokafka warns each time; it is how a busy partition looks, several times a second, and no news.
sender.log.addFilter(lambda record: NotEnoughReplicasError not in (record.args or ()))


class Writer:
    """Writes for ``partition`` under the fencing name ``<group>-<name>``."""

    #: ``False`` only in a benchmark's subclass, which measures what transactions cost.
    transactional = True

    def __init__(self, client: Client, group: str, name: str, partition: int, transaction_timeout_s: float) -> None:
        self.partition = partition
        self.partitions: dict[str, int] = {}
        self._group = group
        self._codec = client.codec
        self._producer = AIOKafkaProducer(
            **client.aiokafka(),
            transactional_id=f"{group}-{name}" if self.transactional else None,
            transaction_timeout_ms=int(transaction_timeout_s * 1000),
            retry_backoff_ms=RETRY_BACKOFF_MS,
            max_request_size=MAX_REQUEST_BYTES,
        )
        self._pace = pace.pace_of(self._producer)

    async def start(self, topics: Iterable[str]) -> None:
        """Fences earlier owners of the partition; returns when their open transaction has ended."""
        await self._producer.start()
        for topic in topics:
            self.partitions[topic] = len(await self._producer.partitions_for(topic))

    async def stop(self) -> None:
        await self._producer.stop()

    def pause_s(self) -> float:
        """How long to wait after a commit, so that Kafka does not turn down the next one."""
        return self._pace.pause_s

    async def commit(
        self,
        outputs: Mapping[Where, Sequence[Record]],
        offsets: Mapping[Where, int | OffsetAndMetadata],
    ) -> dict[Where, int]:
        """One transaction. Returns the offset of the last record written to each topic-partition."""
        producer, now_ms = self._producer, int(time.time() * 1000)
        async with producer.transaction():
            # The offsets go along while the records are on their way: they share the transaction, not an order.
            sending = [self._send(*where, records, now_ms) for where, records in outputs.items()]
            if offsets:
                named = {TopicPartition(*where): offset for where, offset in offsets.items()}
                sending.append(producer.send_offsets_to_transaction(named, self._group))
            sent = await asyncio.gather(*sending)
        self._pace.ended()
        return dict(zip(outputs, sent, strict=False))

    async def _send(self, topic: str, partition: int, records: Sequence[Record], now_ms: int) -> int:
        producer, futures = self._producer, []
        builder = self._batch(topic)
        for key, value, headers in records:
            if builder.append(key=key, value=value, headers=headers, timestamp=now_ms) is None:
                futures.append(await producer.send_batch(builder, topic, partition=partition))
                builder = self._batch(topic)
                builder.append(key=key, value=value, headers=headers, timestamp=now_ms)
        in_last: int = builder.record_count()
        futures.append(await producer.send_batch(builder, topic, partition=partition))
        ends = await asyncio.gather(*futures)
        return int(ends[-1].offset) + in_last - 1

    def _batch(self, topic: str) -> BatchBuilder:
        """An empty one. aiokafka's ``create_batch`` knows one codec a producer, not one a topic."""
        codec = CODECS[self._codec(topic)]
        return BatchBuilder(PRODUCE_BATCH_BYTES, codec, is_transactional=int(self.transactional))
