"""Long work beside the lanes: a lane asks for it in one turn, goes on, and takes the answer in a later one.

    ask (in a turn) -> the record at its place is fetched -> worked on, in a thread -> taken (in a tick)

For what takes longer than other records of the lane may wait, in code that releases the GIL. Nothing here is durable: who asks keeps
a row until he has taken the answer, and asks again when the lane opens anew. In the order in which it is asked, one record in memory for each thread: so
whoever has much to ask keeps it, and asks for a little at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from aiokafka import ConsumerRecord

from router.kafka.bodies import BodyReader, Place

T = TypeVar("T")

#: More threads than there are cores to spare would take the time of the lanes.
THREADS = max(1, (os.cpu_count() or 1) - 1)


class Aside(Generic[T]):
    """A resource of a stage (``Stage.resources``), behind the ``bodies`` that it reads from.

    ``work`` gets the record, ``None`` where there is none (left), and does not raise.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, bodies: BodyReader, work: Callable[[ConsumerRecord | None], T]) -> None:
        self._bodies = bodies
        self._work = work
        self._asked: deque[tuple[int, bytes, Place]] = deque()
        self._answers: defaultdict[int, dict[bytes, T]] = defaultdict(dict)
        self._news = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._threads: ThreadPoolExecutor | None = None

    async def start(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "aside")
        self._running = [asyncio.create_task(self._run()) for _ in range(THREADS)]

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def ask(self, lane: int, key: bytes, place: Place) -> None:
        """Work on the record at ``place``; the lane will know the answer by ``key``."""
        self._asked.append((lane, key, place))
        self._news.set()

    def take(self, lane: int) -> dict[bytes, T]:
        """The lane's answers since it last took some, also to what was asked when its partition was here before.

        What ended the work, should anything, is raised here: the lane would wait for ever.
        """
        for task in self._running:
            if task.done() and not task.cancelled():
                task.result()
        return self._answers.pop(lane, {})

    @property
    def asked(self) -> int:
        """How many records nobody works on yet."""
        return len(self._asked)

    async def work_off(self) -> bool:
        """Do at once all that was asked, without threads (``router.testing``); whether there was any."""
        worked = bool(self._asked)
        while self._asked:
            lane, key, place = self._asked.popleft()
            (record,) = await self._bodies.fetch([place])
            self._answers[lane][key] = self._work(record)
        return worked

    async def _run(self) -> None:
        assert self._threads is not None
        while True:
            while not self._asked:
                self._news.clear()
                await self._news.wait()
            lane, key, place = self._asked.popleft()
            (record,) = await self._bodies.fetch_in_the_end([place])
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._work, record)
            self._answers[lane][key] = answer
