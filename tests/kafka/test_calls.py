"""Many calls in hand: each outcome once, interactive before batch, a gate a topic."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import orjson
import pytest
from aiokafka import TopicPartition

from router.kafka import calls
from router.kafka.admin import TopicSpec, committed, create_topics
from router.kafka.calls import Outcome, Worker
from tests.kafka.support import fill, read_committed, until, until_committed


@pytest.fixture
async def topics(client, prefix):
    names = (f"{prefix}.work", f"{prefix}.batch", f"{prefix}.outcomes")
    await create_topics(client, dict.fromkeys(names, TopicSpec()))
    return names


@asynccontextmanager
async def running(worker):
    run = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await run


class Provider:
    """Answers calls when it is told to; notes how many of each topic it has in hand."""

    def __init__(self, out, hold=False):
        self.out, self.in_hand, self.most, self.made, self.order = out, Counter(), Counter(), Counter(), []
        self.go = asyncio.Event()
        if not hold:
            self.go.set()

    async def __call__(self, record):
        self.in_hand[record.topic] += 1
        self.most |= self.in_hand
        self.made[record.topic] += 1
        self.order.append(record.topic)
        try:
            await self.go.wait()
            await asyncio.sleep(0.002)
        finally:
            self.in_hand[record.topic] -= 1
        return [Outcome(self.out, record.partition, record.key, record.value)]


async def test_every_call_is_made_once_and_its_outcome_is_committed(client, prefix, topics):
    work, batch, out = topics
    await fill(client, work, 300)
    await fill(client, batch, 300)
    provider = Provider(out)
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], concurrency=16)):
        made = await until_committed(client, out, 600)
    assert Counter(record.key for record in made) == Counter({b"%d" % number: 2 for number in range(300)})
    assert provider.made == {work: 300, batch: 300}
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], concurrency=16)) as worker:
        await until(lambda: worker.liveness()["assigned"] == 8)
        await fill(client, work, 10)
        await until_committed(client, out, 610)
    assert provider.made == {work: 310, batch: 300}


async def test_batch_leaves_a_quarter_of_the_slots_to_interactive(client, prefix, topics):
    work, batch, out = topics
    await fill(client, batch, 100)
    provider = Provider(out, hold=True)
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], concurrency=16)) as worker:
        await until(lambda: provider.in_hand[batch] == 12)
        await fill(client, work, 100)
        await until(lambda: provider.in_hand[work] == 4)
        assert worker.liveness()["in_hand"] == {"interactive": 4, "batch": 12}
        provider.go.set()
        await until_committed(client, out, 200)
    assert provider.most[batch] <= 12
    assert sum(provider.most.values()) <= 16 + 12


async def test_while_interactive_calls_come_batch_leaves_three_fifths(client, prefix, topics, monkeypatch):
    monkeypatch.setattr(calls, "BESIDE_S", 60.0)
    work, batch, out = topics
    provider = Provider(out, hold=True)
    await fill(client, work, 2)
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], concurrency=20)):
        await until(lambda: provider.in_hand[work] == 2)
        await fill(client, batch, 100)
        await until(lambda: provider.in_hand[batch] == 8)
        provider.go.set()
        await until_committed(client, out, 102)
    assert provider.most[batch] == 8


async def test_interactive_may_take_all_slots_and_comes_first(client, prefix, topics):
    work, batch, out = topics
    await fill(client, work, 100)
    provider = Provider(out, hold=True)
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], concurrency=8)):
        await until(lambda: provider.in_hand[work] == 8)
        await fill(client, batch, 100)
        provider.go.set()
        await until_committed(client, out, 200)
    assert (
        provider.order[:60].count(work) > 50
    )  # a slot that frees while no interactive record is here yet is not wasted


async def test_a_single_slot_serves_batch_too(client, prefix, topics):
    work, batch, out = topics
    await fill(client, batch, 5)
    async with running(Worker(client, prefix, Provider(out), interactive=[work], batch=[batch], concurrency=1)):
        await until_committed(client, out, 5)


async def test_a_topic_that_may_not_start_waits_and_the_other_goes_on(client, prefix, topics):
    work, batch, out = topics
    await fill(client, work, 20)
    await fill(client, batch, 20)
    provider, allowed = Provider(out), {batch}
    worker = Worker(
        client, prefix, provider, interactive=[work], batch=[batch], may_start=lambda topic: topic in allowed
    )
    async with running(worker):
        await until_committed(client, out, 20)
        assert provider.made == {batch: 20}
        allowed.add(work)
        await until_committed(client, out, 40)


async def test_what_is_passed_over_takes_no_slot_and_does_not_come_back(client, prefix, topics):
    work, batch, out = topics
    await fill(client, work, 400)
    provider, asked = Provider(out), Counter()

    def passes(record, takes_s):
        asked[int(record.key)] += 1
        return int(record.key) % 100 != 99  # all of them in one partition

    worker = Worker(client, prefix, provider, interactive=[work], batch=[batch], passes=passes, concurrency=1)
    async with running(worker):
        await until_committed(client, out, 4)
        tps = [TopicPartition(work, number) for number in range(4)]
        async with asyncio.timeout(30):
            while [(await committed(client, prefix, tps))[tp].offset for tp in tps] != [100] * 4:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.1)
    assert asked == dict.fromkeys(range(400), 1)
    assert sorted(int(record.key) for record in await read_committed(client, out)) == [99, 199, 299, 399]
    async with running(Worker(client, prefix, provider, interactive=[work], batch=[batch], passes=passes)) as worker:
        await until(lambda: worker.liveness()["assigned"] == 8)
        await asyncio.sleep(0.5)
    assert asked.total() == 400


async def test_a_record_is_weighed_with_what_a_quick_call_takes_unless_nothing_is_in_hand(client, prefix, topics):
    work, batch, out = topics
    provider, told = Provider(out), []
    worker = Worker(
        client,
        prefix,
        provider,
        interactive=[work],
        batch=[batch],
        passes=lambda record, takes_s: told.append(takes_s),
        concurrency=4,
    )
    async with running(worker):
        await fill(client, work, 100)
        await until_committed(client, out, 100)
        await until(lambda: not worker.liveness()["in_hand"]["interactive"])
        await fill(client, work, 1)
        await until(lambda: len(told) == 101)
    assert told[0] == told[-1] == 0
    assert max(told) >= 0.002


async def test_after_a_quiet_time_a_call_starts_and_liveness_tells(client, prefix, topics):
    work, batch, out = topics
    async with running(Worker(client, prefix, Provider(out), interactive=[work], batch=[batch])) as worker:
        await until(lambda: worker.liveness()["assigned"] == 8)
        assert worker.liveness()["last_start_age_s"] is None
        await asyncio.sleep(1.5)
        for round_ in range(1, 3):
            await fill(client, work, 8)
            await until_committed(client, out, 8 * round_)
        told = orjson.loads(orjson.dumps(worker.liveness()))
        assert told["last_end_age_s"] is not None
        assert told["in_hand"] == {"interactive": 0, "batch": 0}


async def test_a_call_that_raises_ends_the_worker_with_its_error(client, prefix, topics):
    work, _, _ = topics
    await fill(client, work, 1)

    async def call(record):
        raise SystemError("broken")

    with pytest.raises(SystemError, match="broken"):
        async with asyncio.timeout(30):
            await Worker(client, prefix, call, interactive=[work]).run()


async def test_more_slots_than_the_metadata_can_name_are_refused(client, prefix):
    with pytest.raises(ValueError, match="concurrency 401"):
        Worker(client, prefix, Provider(""), interactive=["x"], concurrency=401)
