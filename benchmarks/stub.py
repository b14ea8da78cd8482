"""Workers that answer at once, requests by the thousand, and results counted: what drives the stages to their limit.

Written by hand on aiokafka in batches, so that what is measured is the stages and not the load around them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from router.contract.topics import Names

#: As `topics create` makes them on a cluster.
PARTITIONS = 4
TENANTS = 50
BATCH_BYTES = 1024 * 1024
TEXT = "why does my invoice show two charges for the same month? " * 5
#: Requests are sent when there is room for so many.
MIN_CHUNK = 500
#: From a result to the next at most: what waits longer stands still.
STALLED_S = 60.0

_ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}],
    }
)
_TAIL = (
    b'","status":"ok","latency_ms":1,"usage":{"prompt_tokens":70,"completion_tokens":40},"body":'
    + _ANSWER
    + b',"slip":"'
)

Timed = tuple[bytes | None, bytes]


def request(number: int, *, deadline_ms: int = 3_600_000, model: str = "auto") -> bytes:
    """About 500 bytes."""
    body = {"model": model, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 256}
    options = {"tenant": f"t{number % TENANTS}", "deadline_ms": deadline_ms}
    line = {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps({**line, "router": options})


def outcome(work: bytes) -> tuple[int, bytes, bytes]:
    """Partition, key and value of a good outcome of a work record."""
    found = orjson.loads(work)
    request_id = found["request_id"].encode()
    head = b'{"request_id":"%b","attempt":%d,"model":"%b' % (request_id, found["attempt"], found["model"].encode())
    return found["outcome_partition"], request_id, b'%b%b%b"}' % (head, _TAIL, found["slip"].encode())


async def send_batches(producer: AIOKafkaProducer, topic: str, partition: int, entries: Iterable[Timed]) -> None:
    """Lay entries (key, value) into one partition, in batches as large as the producer's; not flushed."""
    batch = producer.create_batch()
    for key, value in entries:
        if batch.append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batch, topic, partition=partition)
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    if batch.record_count():
        await producer.send_batch(batch, topic, partition=partition)


async def lay_out(bootstrap: str, topic: str, values: Sequence[bytes], partitions: int = PARTITIONS) -> None:
    """Write values to a topic, spread over its partitions."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES) as producer:
        for partition in range(partitions):
            await send_batches(producer, topic, partition, ((None, one) for one in values[partition::partitions]))
        await producer.flush()


class StubWorkers:
    """In a thread of its own: every work record gets a good outcome at once, at least once, in batches.

    ``group``: the next ones of the same go on where these end, instead of answering all of it once more.
    """

    def __init__(self, bootstrap: str, names: Names, models: Iterable[str], *, group: str | None = None) -> None:
        self._bootstrap, self._group, self._outcomes = bootstrap, group, names.of("outcomes")
        self._topics = [names.work(model, lane) for model in models for lane in ("interactive", "batch")]
        self._end, self._started = threading.Event(), threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._failed and error is None:
            raise self._failed[0]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told when the thread is joined
            self._failed.append(error)

    async def _serve(self) -> None:
        consumer = AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, max_batch_size=BATCH_BYTES)
        async with consumer, producer:
            self._started.set()
            while not self._end.is_set():
                answers: dict[int, list[Timed]] = defaultdict(list)
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        partition, key, value = outcome(record.value)
                        answers[partition].append((key, value))
                for partition, entries in answers.items():
                    await send_batches(producer, self._outcomes, partition, entries)


@dataclass(frozen=True, slots=True)
class Counted:
    """Results read: how many, and over how many seconds those after the first batch came."""

    count: int
    after_first: int
    seconds: float

    @property
    def per_s(self) -> float:
        return self.after_first / self.seconds if self.seconds else 0.0


class _Tally:
    """Counts what is read, and when the first and the last of it came. ``RuntimeError`` when nothing comes any more."""

    def __init__(self, wanted: int) -> None:
        self.came = self._first = 0
        self._wanted = wanted
        self._began_s = self._last_s = time.perf_counter()

    def add(self, new: int) -> None:
        now_s = time.perf_counter()
        if new:
            self.came, self._last_s = self.came + new, now_s
            if not self._first:
                self._first, self._began_s = self.came, now_s
        elif now_s - self._last_s > STALLED_S:
            raise RuntimeError(f"{self.came} of {self._wanted} records, then none for {STALLED_S:.0f} s")

    def counted(self) -> Counted:
        return Counted(self.came, self.came - self._first, self._last_s - self._began_s)


async def count(
    bootstrap: str, topic: str, wanted: int, *, check: Callable[[int], Any] = lambda _came: None
) -> Counted:
    """Read a topic from its beginning until ``wanted`` records are there and committed.

    ``check`` is called now and then with how many came, to look around or to raise when waiting is in vain.
    """
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, isolation_level="read_committed", fetch_max_wait_ms=50,
        auto_offset_reset="earliest",
    )  # fmt: skip
    async with consumer:
        tally = _Tally(wanted)
        while tally.came < wanted:
            tally.add(sum(map(len, (await consumer.getmany(timeout_ms=100)).values())))
            check(tally.came)
    return tally.counted()


async def drive(
    bootstrap: str,
    names: Names,
    requests: Iterator[bytes],
    *,
    count: int,
    in_flight: int = 4000,
    check: Callable[[], Any] = lambda: None,
) -> Counted:
    """Send ``requests``, at most ``in_flight`` of them unanswered, until ``count`` new results are there and committed.

    ``check`` is called now and then, to raise when waiting is in vain.
    """
    results, source = names.of("results"), names.of("requests")
    consumer = AIOKafkaConsumer(
        results, bootstrap_servers=bootstrap, isolation_level="read_committed", fetch_max_wait_ms=50,
        auto_offset_reset="latest",
    )  # fmt: skip
    async with consumer, AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES) as producer:
        for tp in consumer.assignment():
            await consumer.position(tp)  # now, before the first result can be written
        sent, tally = 0, _Tally(count)
        while tally.came < count:
            room = in_flight - (sent - tally.came)
            chunk = list(islice(requests, room)) if room >= min(MIN_CHUNK, in_flight) else []
            for partition in range(PARTITIONS if chunk else 0):
                entries = ((None, one) for one in chunk[partition::PARTITIONS])
                await send_batches(producer, source, partition, entries)
            sent += len(chunk)
            tally.add(sum(map(len, (await consumer.getmany(timeout_ms=100)).values())))
            check()
    return tally.counted()
