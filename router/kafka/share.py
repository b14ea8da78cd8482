"""One assigned partition of a worker: its calls in hand, and one transaction at a time for what has finished."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import ProducerFenced

from router.kafka.progress import Progress
from router.kafka.writer import NO_HEADERS, Headers, Record, Where, Writer


@dataclass(frozen=True, slots=True)
class Outcome:
    """A record that a call leaves behind."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=lambda: NO_HEADERS)


Call = Callable[[ConsumerRecord], Awaitable[Sequence[Outcome]]]


class Owner(Protocol):
    """What a share needs of its worker."""

    call: Call
    rebalancing: bool
    slot_freed: asyncio.Event
    last_start_s: float
    last_end_s: float

    def fail(self, error: BaseException | None) -> None: ...


class Share:
    """One assigned partition: calls in hand, and one transaction at a time for what has finished."""

    def __init__(self, tp: TopicPartition, progress: Progress, writer: Writer, worker: Owner) -> None:
        self.progress = progress
        self._tp = tp
        self._writer = writer
        self._worker = worker
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._finished: list[tuple[int, Sequence[Outcome]]] = []
        self._news = asyncio.Event()
        self._closing = False
        self.committing = asyncio.create_task(self._commit())

    @property
    def in_hand(self) -> int:
        """Calls that run, or whose outcome is not committed yet."""
        return len(self._calls)

    def start(self, record: ConsumerRecord) -> None:
        if self.progress.start(record.offset):
            self._worker.last_start_s = time.monotonic()
            self._calls[record.offset] = asyncio.create_task(self._call(record))

    async def close(self) -> None:
        """Cancel what runs, commit what has finished, let go of the producer."""
        self._closing = True
        for call in self._calls.values():
            call.cancel()
        self._news.set()
        await asyncio.wait([self.committing])
        self._calls.clear()
        await self._writer.stop()

    async def _call(self, record: ConsumerRecord) -> None:
        try:
            outcomes = await self._worker.call(record)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of native code is no Exception; any ends the worker
            self._worker.fail(error)
        else:
            self._worker.last_end_s = time.monotonic()
            self._finished.append((record.offset, outcomes))
            self._news.set()

    async def _commit(self) -> None:
        try:
            while self._finished or not self._closing:
                if not self._finished:
                    await self._news.wait()
                    self._news.clear()
                    continue
                finished, self._finished = self._finished, []
                outputs: dict[Where, list[Record]] = defaultdict(list)
                for offset, outcomes in finished:
                    self.progress.finish(offset)
                    for made in outcomes:
                        outputs[made.topic, made.partition].append((made.key, made.value, made.headers))
                await self._writer.commit(outputs, {self._tp: self.progress.mark()})
                for offset, _ in finished:
                    del self._calls[offset]
                self._worker.slot_freed.set()
        except ProducerFenced as error:
            # In a rebalance: the partition has a new owner already, who makes these calls again.
            if not self._worker.rebalancing:
                self._worker.fail(error)
        except Exception as error:  # noqa: BLE001 - any error ends the worker
            self._worker.fail(error)
