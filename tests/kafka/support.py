"""What tests of the Kafka room share: producing, reading, waiting, and an app that runs for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trustme
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from cryptography.hazmat.primitives import serialization

from router.kafka.client import Client
from router.kafka.stage import Stage
from router.kafka.stage_app import StageApp, new_stage_app

PATIENCE_S = 120.0


def keystore_of(authority: trustme.CA) -> str:
    """A broker's key, as Java reads it, and its certificate for this machine."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (pkcs8 + b"".join(blob.bytes() for blob in issued.cert_chain_pems)).decode()


async def read_committed(client: Client, topic: str) -> list[ConsumerRecord]:
    """Everything committed in a topic now."""
    return await until_committed(client, topic, 0)


async def until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for it; a test that waits in vain fails here, and says for what."""
    try:
        async with asyncio.timeout(patience_s):
            while not holds():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError("waited in vain") from None


async def until_committed(client: Client, topic: str, count: int) -> list[ConsumerRecord]:
    """The committed records of a topic, all there are once they are at least ``count``. Each is read once, however long that takes."""
    found: list[ConsumerRecord] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        AIOKafkaConsumer(
            topic, auto_offset_reset="earliest", isolation_level="read_committed", **client.aiokafka()
        ) as consumer,
    ):
        assigned = consumer.assignment()
        while True:
            ends = await consumer.end_offsets(assigned)
            while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)


async def fill(client: Client, topic: str, count: int, partitions: int = 4) -> None:
    """Records 0..count-1 with their number as key and value, in turn over the partitions."""
    async with AIOKafkaProducer(linger_ms=5, **client.aiokafka()) as producer:
        for number in range(count):
            text = b"%d" % number
            await producer.send(topic, text, key=text, partition=number % partitions)
        await producer.flush()


@asynccontextmanager
async def running(
    stage: Stage, client: Client, data_dir: Path, partitions: int = 4, *, lanes: int | None = None
) -> AsyncIterator[StageApp]:
    """The stage's app, with all its lanes open, or as many as another one leaves it; stopped at the end."""
    app = new_stage_app(stage, client, partitions=partitions, data_dir=data_dir, session_timeout_s=3.0)
    await app.start()
    try:
        await until(lambda: len(app.lanes) == (partitions if lanes is None else lanes))
        yield app
    finally:
        await app.stop()
