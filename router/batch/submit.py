"""``pointsman submit``: produce a batch file, collect its results, survive being killed.

- Results are read from the ends noted before the first request was sent, so none can be missed.
- Each result is written once, whole lines only; after a crash the torn last line is cut off and the journal says where
  to go on. Sending a line twice does no harm: a request has one result, however often it was produced.
- While the broker is away the job waits and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from router.batch import journal as journals
from router.batch.journal import Journal
from router.batch.lines import Done, Line, Scan, read_lines
from router.contract.errors import ConfigError, Unavailable
from router.contract.ids import partition_of
from router.kafka.client import Client

BATCH_BYTES = 256 * 1024
SENDING = {"max_batch_size": BATCH_BYTES, "max_request_size": 2 * 1024 * 1024}
#: Most bytes that are sent and not yet acknowledged.
WINDOW_BYTES = 4 * 1024 * 1024
FETCH_BYTES = 512 * 1024
YIELD_LINES = 256
RETRY_S = 1.0
#: A file that waits this long without any news is told to look at `pointsman status`.
SILENT_S = 30.0


@dataclass(slots=True)
class Progress:
    """What a job shows while it runs; ``note`` is a sentence for the user, empty when all is well."""

    total: int
    sent: int = 0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    note: str = ""


Show = Callable[[Progress], None]


class Job:
    """One file on its way through. ``run`` returns when every line has a result."""

    def __init__(
        self,
        client: Client,
        *,
        requests: str,
        results: str,
        source: Path,
        tenant: str | None,
        scanned: Scan,
        out: BinaryIO,
        journal: Journal | None,
        show: Show,
    ) -> None:
        self._client, self._requests, self._results = client, requests, results
        self._source, self._tenant = source, tenant
        self._out, self._journal, self._show = out, journal, show
        self._done = Done(scanned)
        self._digest = scanned.digest
        self.progress = Progress(scanned.count)

    def recall(self) -> None:
        """Count what an earlier run has written already; leaves the output at its end."""
        for raw in iter(self._out.readline, b""):
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                self._count(int(orjson.loads(raw)["id"][:16], 16), raw)

    def close(self) -> None:
        self._out.close()

    async def run(self) -> Progress:
        """Send, collect, return the final count."""
        consumer = await self._consumer()
        try:
            await self._place(consumer)
            sending = asyncio.create_task(self._send())
            try:
                await self._collect(consumer, sending)
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
        finally:
            await consumer.stop()
        return self.progress

    async def _consumer(self) -> AIOKafkaConsumer:
        consumer = self._client.consumer(
            self._results, max_partition_fetch_bytes=FETCH_BYTES, fetch_max_bytes=4 * FETCH_BYTES
        )
        try:
            await consumer.start()
        except KafkaError as error:
            await consumer.stop()
            raise Unavailable(f"no Kafka at {self._client.bootstrap}: {error}") from None
        return consumer

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Stand where the first result of this job may lie."""
        tps = consumer.assignment()
        if not tps:
            raise Unavailable(f"there is no topic {self._results}: `pointsman topics create` makes it")
        if self._journal is None or not self._journal.ends:
            ends = {tp.partition: end for tp, end in (await consumer.end_offsets(tps)).items()}
            if self._journal is not None:
                self._journal.ends = ends
                self._journal.save()
        else:
            ends = self._journal.ends
        for tp in tps:
            consumer.seek(tp, ends.get(tp.partition, 0))

    async def _send(self) -> None:
        """Produce what has no result yet, a window at a time, each journaled when the broker has it."""
        start = self._journal.sent_bytes if self._journal else 0
        async with self._client.producer(self._requests, **SENDING) as producer:
            partitions = len(await producer.partitions_for(self._requests))
            window: list[Line] = []
            held, position = 0, start
            for number, (position, line) in enumerate(read_lines(self._source, self._tenant, start)):
                if not self._done.has(line.half):
                    window.append(line)
                    held += len(line.value)
                if held >= WINDOW_BYTES:
                    await self._deliver(producer, window, partitions)
                    self._acknowledged(position, len(window))
                    window, held = [], 0
                elif number % YIELD_LINES == 0:
                    await asyncio.sleep(0)  # results come in meanwhile
            await self._deliver(producer, window, partitions)
            self._acknowledged(position, len(window))
        self.progress.sent = self.progress.total

    def _acknowledged(self, position: int, count: int) -> None:
        self.progress.sent += count
        if self._journal is not None:
            self._journal.sent_bytes = position
            self._journal.save()

    async def _deliver(self, producer: AIOKafkaProducer, lines: Sequence[Line], partitions: int) -> None:
        """Until the broker has them all."""
        by_partition: dict[int, list[Line]] = {}
        for line in lines:
            by_partition.setdefault(partition_of(line.key, partitions), []).append(line)
        for partition, group in by_partition.items():
            while True:
                try:
                    await _send_all(producer, self._requests, partition, group)
                    self.progress.note = ""
                    break
                except KafkaError as error:
                    self.progress.note = f"waiting for Kafka at {self._client.bootstrap} ({type(error).__name__})"
                    await asyncio.sleep(RETRY_S)

    async def _collect(self, consumer: AIOKafkaConsumer, sending: asyncio.Task[None]) -> None:
        """Until every line has its result."""
        news_s = time.monotonic()
        self._show(self.progress)
        while self._done.count < self.progress.total:
            if sending.done() and sending.exception() is not None:
                sending.result()
            try:
                fetched: Mapping[TopicPartition, list[ConsumerRecord]] = await consumer.getmany(timeout_ms=200)
            except KafkaError as error:
                self.progress.note = f"waiting for Kafka at {self._client.bootstrap} ({type(error).__name__})"
                await asyncio.sleep(RETRY_S)
                continue
            if self._take(fetched):
                news_s, self.progress.note = time.monotonic(), ""
            elif time.monotonic() - news_s > SILENT_S:
                self.progress.note = f"no result for {time.monotonic() - news_s:.0f} s: see `pointsman status`"
            self._show(self.progress)
        self._show(self.progress)

    def _take(self, fetched: Mapping[TopicPartition, list[ConsumerRecord]]) -> bool:
        """Write the results that are ours; whether there was any."""
        before = self._done.count
        for records in fetched.values():
            for record in records:
                half = _half(record)
                if half is not None and self._count(half, record.value):
                    self._out.write(record.value + b"\n")
        if self._done.count > before:
            self._out.flush()
        return self._done.count > before

    def _count(self, half: int, value: bytes) -> bool:
        if not self._done.add(half):
            return False
        self.progress.done = self._done.count
        error = orjson.loads(value)["error"]
        if error is not None:
            self.progress.failed[error["code"]] += 1
        return True


def _half(record: ConsumerRecord) -> int | None:
    """The first 64 bits of the request id of a result, from its header if it has one."""
    for name, value in record.headers:
        if name == "id":
            return int(value[:16], 16)
    try:
        return int(orjson.loads(record.value)["id"][:16], 16)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


async def _send_all(producer: AIOKafkaProducer, topic: str, partition: int, lines: Sequence[Line]) -> None:
    sent, builder = [], producer.create_batch()
    for line in lines:
        entry = {"key": line.key, "value": line.value, "timestamp": None}
        if builder.append(**entry) is None:
            sent.append(await producer.send_batch(builder, topic, partition=partition))
            builder = producer.create_batch()
            builder.append(**entry)
    sent.append(await producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*sent)


def open_job(
    client: Client,
    *,
    requests: str,
    results: str,
    source: Path,
    tenant: str | None,
    scanned: Scan,
    out: Path,
    resume: bool,
    show: Show,
) -> Job:
    """A job with a journal beside its output, new or to be gone on with.

    Raises:
        ConfigError: the output is there already, or is another file's.
    """
    place = out.with_name(out.name + ".journal")
    if resume:
        journal = journals.load(place)
        if journal.digest != scanned.digest:
            raise ConfigError(f"--resume: {place} belongs to another input than {source} (or another --tenant)")
        if journal.topic != results:
            raise ConfigError(f"--resume: {place} was written for the topic {journal.topic}, not {results}")
    else:
        if place.exists() or (out.exists() and out.stat().st_size):
            raise ConfigError(f"{out} is there already: --resume goes on with it, --out FILE writes another")
        journal = Journal(place, scanned.digest, results, {})
    job = Job(
        client,
        requests=requests,
        results=results,
        source=source,
        tenant=tenant,
        scanned=scanned,
        out=journals.reopen(out),
        journal=journal,
        show=show,
    )
    if resume:
        job.recall()
    return job
