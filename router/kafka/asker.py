"""Asks the broker where the sources end: one question for all stages of a process.

The answers are what horizons (``horizon.py``) and lags are made of. The client is one of its own: on a consumer's
connection a question waits behind the fetch that is out. Asking takes 0.7 ms of CPU, so it is done as seldom as the most
demanding stage allows: a punctual one (settle) that is quiet still meets a deadline within 250 ms + a tick.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakKeyDictionary

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from router.kafka.client import Client
from router.kafka.horizon import Ends, Where

log = logging.getLogger(__name__)

#: How old an answer may become: for stages whose ticks somebody waits for, and for others; at work, and quiet.
PUNCTUAL_S = (0.1, 0.25)
EASY_S = (0.5, 1.0)
RETRY_S = 1.0

Clock = Callable[[], int]


class Asking(Protocol):
    """A stage that wants to know."""

    def source_partitions(self) -> Iterable[Where]:
        """Of its lanes now."""

    def patience_s(self) -> float:
        """How old an answer may become."""


class Asker:
    """Asks while somebody ``join``ed has lanes; ``newest`` is the last answer."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self.newest: Ends | None = None
        self._client, self._clock = client, clock
        self._asking: set[Asking] = set()
        self._task: asyncio.Task[None] | None = None

    def join(self, asking: Asking) -> None:
        self._asking.add(asking)
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def leave(self, asking: Asking) -> None:
        """The last one to leave ends it."""
        self._asking.discard(asking)
        if not self._asking and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            consumer = self._client.consumer(isolation_level="read_uncommitted")
            try:
                await consumer.start()
                await self._ask(consumer)
            except KafkaError as error:
                log.warning("cannot ask for the ends of sources: %r", error)
                await asyncio.sleep(RETRY_S)
            finally:
                await consumer.stop()

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            # What is stamped with the very millisecond of the question may come after it.
            asked_ms, asked_s = self._clock() - 1, time.monotonic()
            tps = {TopicPartition(*where) for asking in self._asking for where in asking.source_partitions()}
            if tps:
                self.newest = Ends(asked_ms, await consumer.end_offsets(list(tps)))
            every_s = min(asking.patience_s() for asking in self._asking)
            await asyncio.sleep(max(every_s / 2, asked_s + every_s - time.monotonic()))


_askers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Client, Clock], Asker]] = WeakKeyDictionary()


def asker_of(client: Client, clock: Clock) -> Asker:
    """The one that all stages of this event loop share."""
    of_loop = _askers.setdefault(asyncio.get_running_loop(), {})
    return of_loop.setdefault((client, clock), Asker(client, clock))
