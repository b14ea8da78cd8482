"""Reads topics as a consumer would, in a thread of its own, and notes when each record became readable."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord

START_S = 60.0


@dataclass(frozen=True, slots=True)
class Read:
    """A committed record. ``readable_at_ms``: wall clock when the consumer handed it out."""

    readable_at_ms: float
    record: ConsumerRecord


class Reader:
    """``with Reader(bootstrap, topics) as reader: ... reader.wait(1000, within_s=60)``; reads from the beginning."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        self.reads: list[Read] = []
        self._bootstrap, self._topics = bootstrap, topics
        self._news = threading.Condition()
        self._started, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(START_S):
            raise RuntimeError(f"cannot read {self._topics} at {self._bootstrap}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def wait(self, count: int, within_s: float, *, more_s: float = 0.0) -> bool:
        """Whether ``count`` records came in time. Waits ``more_s`` longer, for any that should not come."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.reads) >= count, within_s)
        time.sleep(more_s)
        return came

    def until(self, holds: Callable[[list[Read]], bool], within_s: float) -> bool:
        """Whether it held in time; asked at each arrival."""
        with self._news:
            return self._news.wait_for(lambda: holds(self.reads), within_s)

    async def _read(self) -> None:
        async with AIOKafkaConsumer(
            *self._topics,
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        ) as consumer:
            self._started.set()
            while not self._end.is_set():
                found = await consumer.getmany(timeout_ms=50)
                if found:
                    now_ms = time.time() * 1000
                    with self._news:
                        self.reads += [Read(now_ms, record) for records in found.values() for record in records]
                        self._news.notify_all()
