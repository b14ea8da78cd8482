"""Reads what is committed in some topics now, from the beginning to the ends as of the call, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from router.contract.errors import Unavailable
from router.kafka.client import Client

PATIENCE_MS = 200


async def scan(
    client: Client, topics: Collection[str], *, partition: int | None = None, since_ms: int | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Records of each partition in order, of ``partition`` alone if it is given; from the first one on that is as new as ``since_ms``, if given.

    Raises:
        Unavailable: no broker, or a topic is missing.
    """
    consumer = client.consumer(*topics)
    try:
        await consumer.start()
        tps = _wanted(consumer, topics, partition)
        ends = await consumer.end_offsets(tps)
        consumer.pause(*(consumer.assignment() - set(tps)))
        if since_ms is not None:
            for tp, first in (await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))).items():
                consumer.seek(tp, ends[tp] if first is None else first.offset)
        left = set(tps)
        while left := {tp for tp in left if await consumer.position(tp) < ends[tp]}:
            for tp, records in (await consumer.getmany(timeout_ms=PATIENCE_MS)).items():
                for record in records:
                    if record.offset < ends[tp]:
                        yield record
    except KafkaError as error:
        raise Unavailable(f"cannot read {', '.join(topics)} at {client.bootstrap}: {error!r}") from None
    finally:
        await consumer.stop()


def _wanted(consumer: AIOKafkaConsumer, topics: Collection[str], partition: int | None) -> list[TopicPartition]:
    assigned = consumer.assignment()
    missing = set(topics) - {tp.topic for tp in assigned}
    if missing:
        raise Unavailable(f"there is no topic {', '.join(sorted(missing))}: `pointsman topics create` makes it")
    return [tp for tp in assigned if partition in (None, tp.partition)]
