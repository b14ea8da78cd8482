"""A follower knows when it has read everything, and when it no longer does."""

import asyncio
import os
import signal

import pytest
from aiokafka import AIOKafkaProducer

from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.kafka.follow import Follower
from tests.kafka.support import until


async def test_all_before_the_start_is_applied_and_news_follow(client, prefix):
    await create_topics(client, {prefix: TopicSpec(cleanup="compact")})
    rows = {}
    async with AIOKafkaProducer(transactional_id=prefix, **client.aiokafka()) as producer:
        for generation in range(5):
            async with producer.transaction():  # leaves markers behind: the last offset of a partition has no record
                for number in range(1000):
                    await producer.send(prefix, b"%d" % generation, key=b"%d" % number, partition=number % 4)
        follower = Follower(client, [prefix], lambda record: rows.update({record.key: record.value}))
        await follower.start()
        assert len(rows) == 1000
        assert set(rows.values()) == {b"4"}
        assert follower.fresh()
        async with producer.transaction():
            await producer.send(prefix, b"news", key=b"0", partition=0)
        await until(lambda: rows[b"0"] == b"news")
    await follower.stop()


async def test_two_stages_share_one_and_the_last_to_leave_ends_it(client, prefix):
    await create_topics(client, {prefix: TopicSpec(partitions=1)})
    seen = []
    async with AIOKafkaProducer(**client.aiokafka()) as producer:
        await producer.send_and_wait(prefix, b"before")
        follower = Follower(client, [prefix], lambda record: seen.append(record.value))
        await asyncio.gather(follower.start(), follower.start())
        assert seen == [b"before"]
        await follower.stop()
        await producer.send_and_wait(prefix, b"after")
        await until(lambda: seen == [b"before", b"after"])
    await follower.stop()
    assert follower._task.done()


async def test_one_that_confirms_nothing_asks_once_and_reads_on(client, prefix):
    await create_topics(client, {prefix: TopicSpec(partitions=1)})
    now_s, seen = [0.0], []
    follower = Follower(
        client, [prefix], lambda record: seen.append(record.value), confirms=False, clock_s=lambda: now_s[0]
    )
    async with AIOKafkaProducer(**client.aiokafka()) as producer:
        await producer.send_and_wait(prefix, b"before")
        await follower.start()
        assert seen == [b"before"]
        now_s[0] += 2.1
        await producer.send_and_wait(prefix, b"after")
        await until(lambda: seen == [b"before", b"after"])
        assert not follower.fresh()
    await follower.stop()


async def test_one_that_is_stopped_as_soon_as_it_has_started_ends(client, prefix):
    await create_topics(client, {prefix: TopicSpec()})
    follower = Follower(client, (prefix,), print, confirms=False)
    await follower.start()
    stopping = asyncio.create_task(follower.stop())
    assert (await asyncio.wait([stopping], timeout=10))[0]


async def test_an_error_in_apply_ends_it_and_is_raised(client, prefix):
    await create_topics(client, {prefix: TopicSpec()})
    now_s = [0.0]

    def fail(record):
        raise SystemError("cannot apply")

    follower = Follower(client, [prefix], fail, clock_s=lambda: now_s[0])
    await follower.start()
    assert follower.fresh()
    async with AIOKafkaProducer(**client.aiokafka()) as producer:
        await producer.send_and_wait(prefix, b"", partition=0)
    await until(follower._task.done)
    now_s[0] += 2.1
    assert not follower.fresh()
    with pytest.raises(SystemError, match="cannot apply"):
        await follower.stop()


async def test_a_mute_broker_makes_it_stale_not_wrong_and_it_recovers():
    with EmbeddedKafka() as own:
        client = Client(own.bootstrap)
        await create_topics(client, {"whole": TopicSpec()})
        follower = Follower(client, ["whole"], lambda record: None)
        await follower.start()
        os.kill(own.pid, signal.SIGSTOP)
        await until(lambda: not follower.fresh())
        os.kill(own.pid, signal.SIGCONT)
        await until(follower.fresh)
        await asyncio.gather(follower.stop())
