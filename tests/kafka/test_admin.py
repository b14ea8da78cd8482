"""Topics are created once, and what differs later is said."""

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from router.contract.errors import ConfigError, Unavailable
from router.kafka.admin import TopicSpec, create_topics, end_offsets, group_lags, partitions_of
from router.kafka.client import Client
from router.kafka.embedded_folder import free_ports

SPEC = TopicSpec(partitions=2, cleanup="compact", max_bytes=4 * 1024 * 1024, append_time=True)


async def test_creating_twice_changes_nothing(client, prefix):
    assert await create_topics(client, {prefix: SPEC}) == []
    assert await create_topics(client, {prefix: SPEC}) == []


async def test_another_number_of_partitions_is_refused_and_named(client, prefix):
    await create_topics(client, {prefix: TopicSpec(partitions=2)})
    with pytest.raises(ConfigError, match=f"{prefix}: partitions is 2, not 3"):
        await create_topics(client, {prefix: TopicSpec(partitions=3)})


async def test_other_settings_that_differ_are_told(client, prefix):
    await create_topics(client, {prefix: TopicSpec(append_time=False)})
    told = await create_topics(client, {prefix: TopicSpec(append_time=True)})
    assert [str(one) for one in told] == [f"{prefix}: message.timestamp.type is CreateTime, not LogAppendTime"]


async def test_a_missing_topic_has_no_partitions(client, prefix):
    assert await partitions_of(client, [prefix]) == {prefix: 0}


async def test_a_record_of_four_mebibytes_fits(client, prefix):
    await create_topics(client, {prefix: SPEC})
    async with AIOKafkaProducer(**client.aiokafka(), max_request_size=5 * 1024 * 1024) as producer:
        await producer.send_and_wait(prefix, bytes(4 * 1024 * 1024), key=b"k", partition=1)
    assert await end_offsets(client, [prefix]) == {TopicPartition(prefix, 0): 0, TopicPartition(prefix, 1): 1}
    assert await group_lags(client, f"{prefix}-nobody", [prefix]) == {
        TopicPartition(prefix, 0): 0,
        TopicPartition(prefix, 1): 1,
    }


async def test_no_broker_is_said_with_its_address():
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        await create_topics(Client(f"127.0.0.1:{port}"), {})
