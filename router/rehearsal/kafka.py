"""The stage on a Kafka: ``listener.Log`` with producers, a consumer and the stage's app on one event loop; the world is played in a thread beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from router.contract.errors import Unavailable
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.run import run_apps
from router.kafka.stage_app import new_stage_app
from router.rehearsal.installation import CHEAP, PARTITIONS, Installation
from router.rehearsal.listener import Hear, heard

T = TypeVar("T")

#: What was written has been handled by then, on a machine that does much else, too.
PATIENCE_S: Final = 120.0
_POLL_MS: Final = 50
#: Of a batch that is sent at once; a topic takes 1 MiB.
_BATCH_BYTES: Final = 512 * 1024


class OnKafka:
    """Made on the loop; ``write`` and ``read`` are called in one other thread."""

    def __init__(
        self, installation: Installation, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, ended: asyncio.Event
    ) -> None:
        self._stage = installation.stage.name
        self._producer, self._consumer, self._ended = producer, consumer, ended
        self._loop = asyncio.get_running_loop()

    def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        self._wait(self._write(topic, records))

    def read(self, hear: Hear, until: Callable[[], bool]) -> None:
        self._wait(self._read(hear, until))

    def _wait(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        batch, sent = self._producer.create_batch(), []
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=0))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        sent.append(await self._producer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*sent)

    async def _read(self, hear: Hear, until: Callable[[], bool]) -> None:
        began_s = time.monotonic()
        while not until():
            if self._ended.is_set():
                raise Unavailable(f"the stage {self._stage} ended")
            if time.monotonic() > began_s + PATIENCE_S:
                raise Unavailable(f"the stage {self._stage} has not handled in {PATIENCE_S:.0f} s what was written")
            for records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    hear(record.topic, record.key, record.value)


async def rehearse(installation: Installation, client: Client, data_dir: Path, play: Callable[[OnKafka], T]) -> T:
    """Create the installation's topics, run its stage, and ``play`` in a thread; everything has ended when this returns.

    Raises:
        Unavailable: the stage ended, or stands still.
    """
    for noisy in ("aiokafka", "faust", "mode"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # new topics and groups have no leader for a moment
    names = installation.context.names
    await create_topics(client, _topics(installation))
    app = new_stage_app(installation.stage, client, partitions=PARTITIONS, data_dir=data_dir)
    until, started, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_apps([app], until, started=started))
    running.add_done_callback(lambda _: ended.set())
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        waiting.cancel()
        await running
    consumer = client.consumer(*heard(names), installation.changelog, fetch_max_wait_ms=_POLL_MS)
    producer = client.producer(names.of("usage"), max_batch_size=_BATCH_BYTES)
    try:
        await asyncio.gather(consumer.start(), producer.start())
        return await asyncio.to_thread(play, OnKafka(installation, producer, consumer, ended))
    finally:
        await asyncio.gather(consumer.stop(), producer.stop())
        until.set()
        await running


def _topics(installation: Installation) -> dict[str, TopicSpec]:
    """Those that the stage reads and writes, and what it follows."""
    names, stage = installation.context.names, installation.stage
    wanted = {*stage.sources, *stage.outputs, names.of("control"), names.of("alert.acts")}
    return {
        name: TopicSpec(
            partitions=PARTITIONS, cleanup=one.cleanup, max_bytes=one.max_bytes, append_time=one.append_time
        )
        for name, one in names.all([CHEAP]).items()
        if name in wanted
    }
