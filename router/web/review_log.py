"""What the review page needs of Kafka: the queue kept up to date, texts read at their places, opinions written.

Topics are read only while somebody asks: from the first question on, until nobody has asked for ``IDLE_S``. Then nothing is kept, and the next
question reads anew what retention has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from router.contract.codec import encode
from router.contract.errors import Unavailable
from router.contract.records import Feedback
from router.contract.topics import Names
from router.core.reviewing import Place, item_in, opinion_in
from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.web.review_queue import Queue
from router.web.tail import Tail

log = logging.getLogger(__name__)

TOPICS = ("reviews", "feedback.counted")
EVERY_S = 1.0
IDLE_S = 600.0
#: A question waits so long for a queue that is being read, or for a broker.
PATIENCE_S = 5.0


class ReviewLog:
    """Follows ``reviews`` and ``feedback.counted`` into ``queue``. ``start`` and ``stop``; needs no broker to start."""

    def __init__(
        self,
        client: Client,
        names: Names,
        queue: Queue,
        clock: Callable[[], int],
        *,
        idle_s: float = IDLE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``clock``: milliseconds since 1970."""
        self.queue = queue
        self._clock = clock
        self._client = client
        self._names = names
        self._idle_s, self._patience_s = idle_s, patience_s
        self._asked_s = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._read = asyncio.Event()
        self._bodies: BodyReader | None = None
        self._why = "the queue is being read"

    @property
    def following(self) -> bool:
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def ready(self) -> None:
        """Somebody asks: returns when the queue is as the topics are. ``Unavailable`` says what it waits for."""
        self._asked_s = time.monotonic()
        if not self.following:
            self._task = asyncio.create_task(self._follow())
        try:
            async with asyncio.timeout(self._patience_s):
                await self._read.wait()
        except TimeoutError:
            raise Unavailable(self._why) from None

    async def fetch(self, at: Sequence[Place]) -> dict[Place, bytes]:
        """Values of the records at these places, as far as they are still there. ``Unavailable`` without a broker."""
        if not at:
            return {}
        if self._bodies is None:
            raise Unavailable(self._why)
        try:
            async with asyncio.timeout(self._patience_s):
                found = await self._bodies.fetch(at)
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"Kafka at {self._client.bootstrap} does not answer: {error!r}") from None
        return {place: one.value for place, one in zip(at, found, strict=True) if one is not None and one.value}

    async def send(self, key: bytes, said: Feedback) -> None:
        """Write it; returns when the cluster has it. ``Unavailable``."""
        try:
            async with asyncio.timeout(2 * self._patience_s):
                await put(self._client, self._names.of("feedback"), [Said(key, encode(said))])
        except TimeoutError:
            raise Unavailable(f"Kafka at {self._client.bootstrap} does not answer") from None

    async def _follow(self) -> None:
        told = False
        try:
            while self._asked_lately():
                try:
                    await self._follow_one_connection()
                except (KafkaError, Unavailable, TimeoutError, OSError) as error:
                    self._why = f"Kafka at {self._client.bootstrap} does not answer"
                    if not told:
                        log.warning("the review queue: %r", error)
                    told = True
                else:
                    told = False
                await asyncio.sleep(EVERY_S)
        finally:
            self._read.clear()
            self.queue.clear()

    async def _follow_one_connection(self) -> None:
        tail = Tail(
            self._client, whole=(), recent=[self._names.of(name) for name in TOPICS], span_ms=self.queue.retention_ms
        )
        bodies = BodyReader(self._client, [*self._names.bodies(), self._names.of("reviews")])
        try:
            if not await tail.open(self._clock()):
                self._why = "the topics are not there yet: `pointsman topics create`, or `pointsman up`, makes them"
                return
            self._why = "the queue is being read"
            await bodies.start()
            self._bodies = bodies
            while self._asked_lately():
                await tail.read_to(await tail.ends(), partial(fold, self.queue, self._names))
                self.queue.forget(self._clock())
                self._read.set()
                await asyncio.sleep(EVERY_S)
        finally:
            self._bodies = None
            # Not awaited itself: with the broker away a consumer's end lets a CancelledError out that is not meant for us.
            await asyncio.wait([asyncio.ensure_future(bodies.stop())])
            await tail.close()

    def _asked_lately(self) -> bool:
        return time.monotonic() - self._asked_s < self._idle_s


def fold(queue: Queue, names: Names, record: ConsumerRecord) -> None:
    """A record of one of the two topics, into the queue. What cannot be read is passed over."""
    if record.topic == names.of("feedback.counted"):
        if (said := opinion_in(record.value)) is not None:
            queue.note_opinion(said)
    elif (item := item_in(record.value)) is not None:
        queue.note_item(item, record.timestamp, (record.topic, record.partition, record.offset))
