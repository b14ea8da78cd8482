"""Single records are read again at their place, whatever lies around them."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.structs import TopicPartition

from router.kafka.admin import TopicSpec, create_topics
from router.kafka.bodies import BodyReader
from tests.kafka.support import fill


async def reader_of(client, *topics):
    reader = BodyReader(client, topics)
    await reader.start()
    return reader


async def test_records_come_in_the_order_asked_from_many_partitions_near_and_far(client, prefix):
    await create_topics(client, {prefix: TopicSpec()})
    await fill(client, prefix, 8000)
    reader = await reader_of(client, prefix)
    places = [(prefix, number % 4, number // 4) for number in (7999, 0, 4, 3, 5000, 4, 5001)]
    found = await reader.fetch(places)
    assert [int(record.value) for record in found] == [7999, 0, 4, 3, 5000, 4, 5001]
    assert [int(one.value) for many in await asyncio.gather(*(reader.fetch([place]) for place in places)) for one in many] == [
        7999, 0, 4, 3, 5000, 4, 5001,
    ]  # fmt: skip
    await reader.stop()


async def test_what_is_not_there_is_none(client, prefix):
    await create_topics(client, {prefix: TopicSpec()})
    await fill(client, prefix, 40)
    admin = AIOKafkaAdminClient(**client.aiokafka())
    await admin.start()
    await admin.delete_records({TopicPartition(prefix, 0): RecordsToDelete(before_offset=5)})
    await admin.close()
    async with AIOKafkaProducer(transactional_id=prefix, **client.aiokafka()) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(prefix, b"aborted", partition=1)
        await producer.abort_transaction()
    reader = await reader_of(client, prefix)
    gone, kept, aborted, marker, beyond = [
        (prefix, 0, 4),
        (prefix, 0, 5),
        (prefix, 1, 10),
        (prefix, 1, 11),
        (prefix, 1, 12),
    ]
    found = await reader.fetch([gone, kept, aborted, marker, beyond, (prefix, 9, 0), (f"{prefix}-never", 0, 0)])
    assert [record and record.value for record in found] == [None, b"20", None, None, None, None, None]
    assert await reader.fetch([]) == []
    await reader.stop()


async def test_large_records_come(client, prefix):
    await create_topics(client, {prefix: TopicSpec()})
    async with AIOKafkaProducer(max_request_size=2 * 1024 * 1024, **client.aiokafka()) as producer:
        for number in range(6):
            await producer.send_and_wait(prefix, bytes([number]) * 1_000_000, partition=0)
    reader = await reader_of(client, prefix)
    found = await reader.fetch([(prefix, 0, 5), (prefix, 0, 1)])
    assert [record.value[:1] for record in found] == [b"\5", b"\1"]
    await reader.stop()


async def test_a_topic_that_is_not_named_is_never_read(client, prefix):
    """Places come out of records: one that names a foreign topic finds nothing there."""
    await create_topics(client, {prefix: TopicSpec(), f"{prefix}-secret": TopicSpec()})
    await fill(client, f"{prefix}-secret", 4)
    await fill(client, prefix, 4)
    reader = await reader_of(client, prefix)
    found = await reader.fetch([(f"{prefix}-secret", 0, 0), (prefix, 0, 0)])
    assert [record and record.value for record in found] == [None, b"0"]
    await reader.stop()
