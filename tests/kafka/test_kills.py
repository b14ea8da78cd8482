"""Processes that are killed, paused past their session and stopped while records flow: nothing lost, nothing twice."""

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from router.kafka.admin import TopicSpec, create_topics
from tests.kafka.support import fill, read_committed, until_committed
from tests.kafka.victims import ACCOUNTS, CONCURRENCY, SESSION_S

PROGRAM = Path(__file__).with_name("victims.py")


class Crew:
    """Keeps ``size`` processes running: replaces each one that ends, whatever ended it."""

    def __init__(self, *arguments, size=2):
        self.exits = Counter()
        self._command = [sys.executable, str(PROGRAM), *map(str, arguments)]
        self._members = {}
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in range(size)]

    async def _keep(self, slot):
        while True:
            self._members[slot] = await asyncio.create_subprocess_exec(
                *self._command, stderr=asyncio.subprocess.DEVNULL
            )
            self.exits[await self._members[slot].wait()] += 1

    async def disturb(self, kind, slot):
        member = self._members[slot]
        if member.returncode is not None:
            return
        if kind == "pause":
            member.send_signal(signal.SIGSTOP)
            await asyncio.sleep(SESSION_S * 1.7)
            with contextlib.suppress(ProcessLookupError):
                member.send_signal(signal.SIGCONT)
        else:
            member.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)

    async def dismiss(self):
        for keeper in self._keepers:
            keeper.cancel()
        for member in self._members.values():
            with contextlib.suppress(ProcessLookupError):
                member.send_signal(signal.SIGTERM)
        for member in self._members.values():
            try:
                await asyncio.wait_for(member.wait(), 15)
            except TimeoutError:
                member.kill()
                await member.wait()


async def feed(client, topics, count, rate):
    """Records 0..count-1 at a steady rate, in turn over topics and partitions."""
    async with AIOKafkaProducer(linger_ms=5, **client.aiokafka()) as producer:
        began_s = time.monotonic()
        for number in range(count):
            if number % 100 == 0:
                await asyncio.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            text = b"%d" % number
            await producer.send(topics[number // 4 % len(topics)], text, key=text, partition=number % 4)
        await producer.flush()


@pytest.fixture
async def crew_of(client, prefix, tmp_path):
    crews = []

    def hire(kind, size=2):
        crews.append(Crew(kind, client.bootstrap, prefix, tmp_path, size=size))
        return crews[-1]

    yield hire
    for crew in crews:
        await crew.dismiss()


async def test_two_stages_one_acting_by_time_stay_exact(client, prefix, crew_of):
    dice, count = random.Random(1), 12_000
    requests, results, receipts = (f"{prefix}.{name}" for name in ("requests", "results", "receipts"))
    await create_topics(client, dict.fromkeys((requests, results, receipts), TopicSpec()))
    crew = crew_of("stages")
    feeding = asyncio.create_task(feed(client, [requests], count, rate=900))  # for as long as they are disturbed
    await asyncio.sleep(3)
    for kind in ("kill", "kill", "pause", "kill", "leave", "kill"):
        await crew.disturb(kind, dice.randrange(2))
        await asyncio.sleep(dice.uniform(0.3, 2.0))
    await feeding
    await until_committed(client, receipts, count)
    await asyncio.sleep(1)  # for what might come twice
    for topic in (results, receipts):
        keys = Counter(record.key for record in await read_committed(client, topic))
        assert keys == Counter({b"%d" % number: 1 for number in range(count)}), topic
    rows = {}
    for record in await read_committed(client, f"{prefix}-settle-rows-changelog"):
        rows[record.partition, record.key] = int(record.value)
    sums = Counter()
    for (_, account), amount in rows.items():
        sums[int(account)] += amount
    assert sums == Counter({a: sum(range(a, count, ACCOUNTS)) for a in range(ACCOUNTS)})
    due = {record.key: record.value for record in await read_committed(client, f"{prefix}-receipt-rows-changelog")}
    assert set(due.values()) == {None}
    assert crew.exits[-signal.SIGKILL] >= 3


async def test_workers_of_long_calls_stay_exact_and_repeat_no_more_than_they_had_in_hand(
    client, prefix, tmp_path, crew_of
):
    dice, count, kills = random.Random(2), 5000, 3
    topics = [f"{prefix}.work", f"{prefix}.work.batch"]
    await create_topics(client, dict.fromkeys((*topics, f"{prefix}.outcomes"), TopicSpec()))
    crew = crew_of("calls")
    feeding = asyncio.create_task(feed(client, topics, count, rate=400))
    for kind in ("kill", "kill", "leave", "kill"):
        await asyncio.sleep(dice.uniform(1.2, 1.8) * SESSION_S)
        await crew.disturb(kind, dice.randrange(2))
    await feeding
    await until_committed(client, f"{prefix}.outcomes", count)
    await asyncio.sleep(1)
    keys = Counter(record.key for record in await read_committed(client, f"{prefix}.outcomes"))
    assert keys == Counter({b"%d" % number: 1 for number in range(count)})
    notes = Counter(line.split()[0] for line in (tmp_path / "journal").read_text().splitlines())
    assert notes["started"] - count - notes["cancelled"] <= CONCURRENCY * kills


async def test_a_record_that_kills_its_process_is_given_up_and_the_partition_goes_on(client, prefix, crew_of):
    await create_topics(client, dict.fromkeys((f"{prefix}.requests", f"{prefix}.results"), TopicSpec()))
    await fill(client, f"{prefix}.requests", 80)
    crew = crew_of("poisoned", size=1)
    found = await until_committed(client, f"{prefix}.results", 80)
    assert Counter(record.key for record in found) == Counter({b"%d" % number: 1 for number in range(80)})
    assert [record.key for record in found if record.value == b"given up"] == [b"13"]
    assert crew.exits == {-signal.SIGKILL: crew.exits.total()}
    assert crew.exits.total() in {3, 4}
