"""Reads whole compacted topics and keeps reading: what every process needs to know in full (weights, health, control).

No group, so nobody else's restart touches it and every process reads everything; ``read_committed``.

- Start barrier: ``start`` returns once everything that lay before the ends seen at start has been applied.
- Freshness: ``fresh()`` says whether within the last 2 s the end was asked for *and* everything before that answer was
  applied since. A follower that a broker no longer answers turns stale, not wrong. What an open transaction still hides
  does not count: the end of ``read_committed`` is the last stable offset.
- "At the end" compares positions with end offsets, never numbers of records: markers and compaction leave holes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from router.kafka.client import Client

log = logging.getLogger(__name__)

#: Between two questions for the ends: an answer ages by that much, plus the time to read up to it.
ASK_S = 0.5
FRESH_S = 2.0

#: The broker answers as soon as there is something; with nothing to say it need not be asked often.
FETCH_MAX_WAIT_MS = 1_000

Apply = Callable[[ConsumerRecord], None]


class Follower:
    """Calls ``apply`` with each record of ``topics``, in order within a partition; a ``None`` value is a deletion.

    ``apply`` is a plain function. If it raises, following ends, ``fresh()`` turns false and ``stop`` raises the error.
    A resource of a stage (``Stage.resources``) or of several of one process, or started and stopped by hand: it runs
    from the first ``start`` to the last ``stop``.

    Args:
        client: where the broker is.
        topics: full names; they must exist.
        apply: see above.
        confirms: whether ``fresh()`` will be asked. It takes two more questions a second.
        clock_s: seconds, of any origin.
    """

    def __init__(
        self,
        client: Client,
        topics: Sequence[str],
        apply: Apply,
        *,
        confirms: bool = True,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.topics = tuple(topics)
        self.apply = apply
        self._client = client
        self._confirms = confirms
        self.clock_s = clock_s
        self._users = 0
        self._confirmed_s = float("-inf")
        self._caught_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when nothing before the ends of now is left unread; raises what stopped it before that."""
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(self._follow())
        caught_up = asyncio.create_task(self._caught_up.wait())
        await asyncio.wait([self._task, caught_up], return_when=asyncio.FIRST_COMPLETED)
        caught_up.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """End, when nobody else uses it; raises what ``apply`` raised."""
        self._users -= 1
        if self._task is not None and self._users <= 0:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def fresh(self, within_s: float = FRESH_S) -> bool:
        """Whether all that was there ``within_s`` ago has been applied."""
        return self.clock_s() - self._confirmed_s <= within_s

    def confirm(self, asked_s: float) -> None:
        """All that was there at ``asked_s`` (of ``clock_s``) has been applied. ``router.testing`` says so, too."""
        self._confirmed_s = asked_s
        self._caught_up.set()

    async def _follow(self) -> None:
        consumer = self._client.consumer(*self.topics, fetch_max_wait_ms=FETCH_MAX_WAIT_MS)
        # Asked over a connection of its own: on the consumer's, a question waits behind the fetch that is out.
        asker = self._client.consumer()
        try:
            await consumer.start()
            await asker.start()
            while True:
                await self._round(consumer, asker)
        finally:
            await asyncio.gather(consumer.stop(), asker.stop())

    async def _round(self, consumer: AIOKafkaConsumer, asker: AIOKafkaConsumer) -> None:
        asked_s = self.clock_s()
        try:
            if self._confirms or not self._caught_up.is_set():
                ends = await asker.end_offsets(list(consumer.assignment()))
                while not await self._reached(consumer, ends):
                    await self._read(consumer, 0.1)
                self.confirm(asked_s)
                if not self._confirms:
                    # Nothing more will be asked. Shielded, because it swallows a cancellation: `stop` would wait for ever.
                    await asyncio.shield(asker.stop())
            while (left_s := asked_s + ASK_S - self.clock_s()) > 0:
                await self._read(consumer, left_s)
        except KafkaError as error:  # the broker is away: stay, stale, and ask again
            log.warning("following %s: %r", self.topics, error)
            await asyncio.sleep(ASK_S)

    @staticmethod
    async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
        return all([await consumer.position(tp) >= end for tp, end in ends.items()])

    async def _read(self, consumer: AIOKafkaConsumer, timeout_s: float) -> None:
        fetched = await consumer.getmany(timeout_ms=int(timeout_s * 1000))
        for records in fetched.values():
            for record in records:
                self.apply(record)
