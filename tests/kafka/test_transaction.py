"""A rebalance begins where the last turn ended, also in a partition that stays where it is."""

import asyncio
from collections import Counter

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from router.kafka.admin import TopicSpec, create_topics
from router.kafka.lane import Stage
from router.kafka.stage_app import new_stage_app
from router.kafka.table import DictRows
from tests.kafka.support import fill, running, until, until_committed

TURNS = 20


async def test_the_last_commit_of_a_kept_partition_counts_when_offsets_are_read_anew(client, prefix, tmp_path):
    source, out = f"{prefix}.in", f"{prefix}.out"
    await create_topics(client, dict.fromkeys((source, out), TopicSpec()))
    stage = Stage(name=prefix, sources=(source,), outputs=frozenset({out}), handle=lambda batch, unit: None)
    assigned = {TP(source, number) for number in range(4)}
    async with (
        running(stage, client, tmp_path) as app,
        AIOKafkaConsumer(group_id=prefix, enable_auto_commit=False, **client.aiokafka()) as asking,
    ):
        await asyncio.gather(*(lane.close() for lane in app.lanes.values()))  # as a rebalance does
        app.lanes.clear()
        transactions, found = app.consumer.transactions, []
        for turn in range(1, TURNS + 1):
            # Many partitions to write markers to: Kafka is not done with them when the commit returns.
            outputs = {(out, number): [(b"key", b"value", [])] for number in range(4)}
            await transactions.writers[0].commit(outputs, {(source, 0): turn})
            await transactions.on_rebalance(assigned, set(), set())
            found.append(await asking.committed(TopicPartition(source, 0)))
    assert found == list(range(1, TURNS + 1))


async def test_a_recovery_that_the_next_rebalance_has_overtaken_loses_nothing(client, prefix, tmp_path):
    source, out = f"{prefix}.in", f"{prefix}.out"
    await create_topics(client, dict.fromkeys((source, out), TopicSpec()))
    await fill(client, source, 400)

    def copy(batch, unit):
        for record in batch.records:
            unit.put(record.key, record.value)
            unit.emit(out, record.key, record.value)

    stage = Stage(name=prefix, sources=(source,), outputs=frozenset({out}), handle=copy, rows=DictRows)
    first, second = (
        new_stage_app(stage, client, partitions=4, data_dir=tmp_path / name, session_timeout_s=3.0) for name in "ab"
    )
    overtaken, starting = asyncio.Event(), []
    seek, own = first.consumer.seek_to_committed, first.consumer.transactions.on_rebalance

    async def seek_slowly():
        """The first time, until the next rebalance has begun; then long enough for a fetch that should not be."""
        found = await seek()
        if overtaken.is_set():
            await asyncio.sleep(1.0)
        else:
            before = first.rebalancing_count
            starting.append(asyncio.create_task(second.start()))
            await until(lambda: first.rebalancing_count > before)
            overtaken.set()
        return found

    async def own_slowly(*partitions):
        """Leaves the recovery that was overtaken the time to end."""
        await own(*partitions)
        if overtaken.is_set():
            await asyncio.sleep(1.0)

    first.consumer.seek_to_committed, first.consumer.transactions.on_rebalance = seek_slowly, own_slowly
    await first.start()
    try:
        found = await until_committed(client, out, 400)
        await until(lambda: len(first.lanes) + len(second.lanes) == 4)
    finally:
        await asyncio.gather(*starting)
        await first.stop()
        await second.stop()
    assert Counter(record.key for record in found) == Counter({b"%d" % number: 1 for number in range(400)})
