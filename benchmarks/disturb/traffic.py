"""Steady traffic and opinions about its results, from a thread of its own, whatever happens to the broker meanwhile.

What was really asked is read back from the topics: a producer that lost its broker does not know.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from benchmarks.system import request
from router.contract.ids import request_id

#: Time for every fault to end and every request to be answered all the same.
DEADLINE_MS = 180_000
#: How long the load's own clients may take to end.
STOP_S = 60.0
#: Genuine opinions that the end of the load waits for, and how long: a run without any would show nothing of them, but where
#: a clock is wrong there may be no more answers to have one of.
LEAST_OPINIONS, OPINIONS_S = 20, 30.0
#: Of the requests that are not about a pool's weights alone.
BATCH_SHARE, SESSION_SHARE = 0.3, 0.2
#: Of the results of pool ``auto``: how many get an opinion. All of pool ``still`` do, and all of those are refused.
OPINION_SHARE = 0.3
#: Comment of an opinion whose token is not genuine.
FORGED = "forged"
TEXTS = (
    "How many percent of 80 are 20?",
    "Translate to French: good morning",
    "Summarise the minutes of the last meeting in a paragraph",
    "Write a Python function that reverses a linked list",
    "What is a good name for a cat?",
)


class Traffic:
    """``with Traffic(bootstrap, prefix, rate=40, seed=1): ...`` asks until the end of the block, for so many ``tenants``."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        *,
        rate: float,
        seed: int,
        tenants: int = 5,
        sessions: int = 20,
        deadline_ms: int = DEADLINE_MS,
    ) -> None:
        self._bootstrap, self._prefix, self._rate = bootstrap, prefix, rate
        self._tenants, self._sessions, self._deadline_ms = tenants, sessions, deadline_ms
        self._draw = random.Random(seed)
        self._end, self._done = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._number = self._genuine = 0
        self._end_s = 0.0
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the work, not for the thread: what a lost broker has left of a client may not heed a cancellation."""
        self._end_s = time.monotonic()
        self._end.set()
        if not self._done.wait(STOP_S):
            self.failure = self.failure or TimeoutError(f"the load has not ended after {STOP_S:.0f} s")

    async def _run(self) -> None:
        try:
            await asyncio.gather(
                self._again(self._ask, self._end.is_set),
                self._again(self._judge, self._has_judged),
            )
        except BaseException as error:  # the thread's owner tells
            self.failure = error
            raise
        finally:
            self._done.set()

    def _has_judged(self) -> bool:
        late = time.monotonic() > self._end_s + OPINIONS_S
        return self._end.is_set() and (late or self._genuine >= LEAST_OPINIONS)

    async def _again(self, work: Any, enough: Callable[[], bool]) -> None:
        """Until there is enough, with a new producer whenever one has given up."""
        while not enough():
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, enable_idempotence=True, linger_ms=2)
            try:
                await producer.start()
                await work(producer, enough)
            except KafkaError:
                await asyncio.sleep(0.5)
            finally:
                await asyncio.wait([asyncio.create_task(producer.stop())], timeout=5.0)

    async def _ask(self, producer: AIOKafkaProducer, enough: Callable[[], bool]) -> None:
        began_s, first = time.monotonic(), self._number
        while not enough():
            lane, value = self._request()
            key = request_id(value["router"]["tenant"], value["custom_id"]).encode()
            await producer.send(f"{self._prefix}.requests{lane}", orjson.dumps(value), key=key)
            await asyncio.sleep(max(0.0, began_s + (self._number - first) / self._rate - time.monotonic()))

    def _request(self) -> tuple[str, dict[str, Any]]:
        self._number += 1
        draw = self._draw
        how: dict[str, Any] = {"tenant": f"t{draw.randrange(self._tenants)}", "deadline_ms": self._deadline_ms}
        if draw.random() < SESSION_SHARE:
            how["session"] = f"s{draw.randrange(self._sessions)}"
        model = "still" if draw.random() < 0.1 else "auto"
        lane = ".batch" if draw.random() < BATCH_SHARE else ""
        return lane, request(f"q{self._number}", model=model, text=draw.choice(TEXTS), **how)

    async def _judge(self, producer: AIOKafkaProducer, enough: Callable[[], bool]) -> None:
        consumer = AIOKafkaConsumer(
            f"{self._prefix}.results",
            bootstrap_servers=self._bootstrap,
            group_id="opinions",
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            while not enough():
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        await self._opine(record, producer)
        finally:
            await asyncio.wait([asyncio.create_task(consumer.stop())], timeout=5.0)

    async def _opine(self, record: ConsumerRecord, producer: AIOKafkaProducer) -> None:
        result = orjson.loads(record.value)
        token = (result.get("router") or {}).get("feedback_token")
        pool = (result.get("router") or {}).get("pool")
        if token is None or (pool != "still" and self._draw.random() > OPINION_SHARE):
            return
        if pool == "still" or self._draw.random() < 0.2:
            token = token[:-2] + ("AA" if not token.endswith("AA") else "BB")  # forged
            opinion = {"kind": "thumbs", "value": 0.0, "feedback_token": token, "comment": FORGED}
        else:
            self._genuine += 1
            opinion = {"kind": "thumbs", "value": float(self._draw.random() < 0.8), "feedback_token": token}
        await producer.send(f"{self._prefix}.feedback", orjson.dumps(opinion), key=record.key)
