"""A rebalance begins where the last turn ended, also in a partition that stays where it is."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from router.kafka.admin import TopicSpec, create_topics
from router.kafka.lane import Stage
from tests.kafka.support import running

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
        transactions, found = app.consumer.transactions, []
        for turn in range(1, TURNS + 1):
            # Many partitions to write markers to: Kafka is not done with them when the commit returns.
            outputs = {(out, number): [(b"key", b"value", [])] for number in range(4)}
            await transactions.writers[0].commit(outputs, {(source, 0): turn})
            await transactions.on_rebalance(assigned, set(), set())
            found.append(await asking.committed(TopicPartition(source, 0)))
    assert found == list(range(1, TURNS + 1))
