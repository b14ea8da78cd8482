"""One assigned partition of a worker: its calls in hand, and one transaction at a time for what has finished."""

from __future__ import annotations

import asyncio
import contextlib
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

#: How long what was passed over may stay uncommitted when no outcome takes it along.
PASSED_S = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that has ended, not committed yet."""

    offset: int
    started_s: float
    outcomes: Sequence[Outcome]


class Owner(Protocol):
    """What a share needs of its worker."""

    call: Call
    rebalancing: bool
    slot_freed: asyncio.Event
    last_start_s: float
    last_end_s: float

    def fail(self, error: BaseException | None) -> None: ...
    def passes(self, record: ConsumerRecord) -> bool: ...
    def took(self, seconds: float) -> None: ...


class Share:
    """One assigned partition: calls in hand, and one transaction at a time for what has finished."""

    def __init__(self, tp: TopicPartition, progress: Progress, writer: Writer, worker: Owner) -> None:
        self.progress = progress
        self._tp = tp
        self._writer = writer
        self._worker = worker
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._finished: list[Finished] = []
        self._passed_s = float("inf")  # since when something passed over is not committed
        self._committed_s = float("-inf")
        self._news = asyncio.Event()
        self._closing = False
        self.committing = asyncio.create_task(self._commit())

    @property
    def in_hand(self) -> int:
        """Calls that run, or whose outcome is not committed yet."""
        return len(self._calls)

    def start(self, record: ConsumerRecord) -> None:
        if not self.progress.start(record.offset):
            return
        self._worker.last_start_s = now_s = time.monotonic()
        if self._worker.passes(record):
            self.progress.finish(record.offset)
            self._passed_s = min(self._passed_s, now_s)
            self._news.set()
            return
        self._calls[record.offset] = asyncio.create_task(self._call(record, now_s))

    async def close(self) -> None:
        """Cancel what runs, commit what has finished, let go of the producer."""
        self._closing = True
        for call in self._calls.values():
            call.cancel()
        self._news.set()
        await asyncio.wait([self.committing])
        self._calls.clear()
        await self._writer.stop()

    async def _call(self, record: ConsumerRecord, started_s: float) -> None:
        try:
            outcomes = await self._worker.call(record)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of native code is no Exception; any ends the worker
            self._worker.fail(error)
        else:
            self._worker.last_end_s = time.monotonic()
            self._finished.append(Finished(record.offset, started_s, outcomes))
            self._news.set()

    async def _commit(self) -> None:
        try:
            while self._finished or not self._closing:
                if (left_s := self._left_s()) > 0:
                    await self._wait_for_news(left_s)
                else:
                    await self._commit_finished()
        except ProducerFenced as error:
            # In a rebalance: the partition has a new owner already, who makes these calls again.
            if not self._worker.rebalancing:
                self._worker.fail(error)
        except Exception as error:  # noqa: BLE001 - any error ends the worker
            self._worker.fail(error)

    def _left_s(self) -> float:
        """Until the next commit: Kafka takes none right after the last one."""
        due_s = self._committed_s + self._writer.pause_s() if self._finished else self._passed_s + PASSED_S
        return 0.0 if self._closing else due_s - time.monotonic()

    async def _wait_for_news(self, most_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), None if most_s == float("inf") else most_s)
        self._news.clear()

    async def _commit_finished(self) -> None:
        finished, self._finished, self._passed_s = self._finished, [], float("inf")
        outputs: dict[Where, list[Record]] = defaultdict(list)
        for call in finished:
            self.progress.finish(call.offset)
            for made in call.outcomes:
                outputs[made.topic, made.partition].append((made.key, made.value, made.headers))
        await self._writer.commit(outputs, {self._tp: self.progress.mark()})
        self._committed_s = now_s = time.monotonic()
        for call in finished:
            del self._calls[call.offset]
            self._worker.took(now_s - call.started_s)
        self._worker.slot_freed.set()
