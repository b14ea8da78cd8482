"""A tail misses nothing that comes while it opens."""

import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from router.kafka.admin import TopicSpec, create_topics
from router.web.tail import Tail


@pytest.mark.parametrize("question", ["offsets_for_times", "end_offsets"])
async def test_a_record_that_comes_between_its_questions_is_read(client, prefix, monkeypatch, question):
    await create_topics(client, {prefix: TopicSpec(partitions=1)})
    tail, seen = Tail(client, whole=(), recent=(prefix,)), []
    ask = getattr(AIOKafkaConsumer, question)
    async with AIOKafkaProducer(**client.aiokafka()) as producer:

        async def asked(consumer, *arguments):
            answer = await ask(consumer, *arguments)
            await producer.send_and_wait(prefix, b"between")
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaConsumer, question, asked)
            assert await tail.open(time.time_ns() // 1_000_000)
    await tail.read_to(await tail.ends(), lambda record: seen.append(record.value))
    await tail.close()
    assert seen == [b"between"]
