"""A few records written by hand, as a person's commands do: each into the partition of its key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from router.contract.errors import Unavailable
from router.contract.ids import partition_of
from router.kafka.client import MAX_REQUEST_BYTES, Client


@dataclass(frozen=True, slots=True)
class Said:
    """One record."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


async def put(client: Client, topic: str, records: Iterable[Said]) -> None:
    """Write them, in their order; returns when the cluster has all.

    Raises:
        Unavailable: it has not.
    """
    producer = client.producer(topic, acks="all", max_request_size=MAX_REQUEST_BYTES)
    try:
        await producer.start()
        partitions = len(await producer.partitions_for(topic))
        for one in records:
            partition = partition_of(one.key, partitions)
            await producer.send_and_wait(topic, one.value, key=one.key, partition=partition, headers=list(one.headers))
    except KafkaError as error:
        raise Unavailable(f"no Kafka at {client.bootstrap}: {error}") from None
    finally:
        await producer.stop()
