"""Stages on a real broker: ticks, gates, tables, time, codecs, failures."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from router.contract.errors import PointsmanError
from router.kafka import transport
from router.kafka.admin import TopicSpec, create_topics, group_lags
from router.kafka.client import Client
from router.kafka.lane import Stage
from router.kafka.run import run_apps
from router.kafka.stage_app import new_stage_app
from router.kafka.table import DictRows
from tests.kafka.support import fill, read_committed, running, until, until_committed


@pytest.fixture
async def topics(client, prefix):
    """Two sources and an output."""
    names = (f"{prefix}.a", f"{prefix}.b", f"{prefix}.out")
    await create_topics(client, dict.fromkeys(names, TopicSpec()))
    return names


def copy_to(out):
    def copy(batch, unit):
        for record in batch.records:
            unit.emit(out, record.key, record.value)

    return copy


async def test_every_partition_ticks_without_records_and_after_a_restart(client, prefix, topics, tmp_path):
    a, b, out = topics
    ticked = set()
    stage = Stage(
        name=prefix,
        sources=(a, b),
        outputs=frozenset({out}),
        handle=copy_to(out),
        tick=lambda now_ms, unit: ticked.add(unit.partition),
    )
    for _ in range(2):
        ticked.clear()
        async with running(stage, client, tmp_path):
            await until(lambda: ticked == {0, 1, 2, 3})


async def test_a_closed_gate_stops_one_source_only_and_loses_nothing(client, prefix, topics, tmp_path):
    a, b, _out = topics
    is_open, seen = [False], {a: 0, b: 0}

    def handle(batch, unit):
        seen[batch.tp.topic] += len(batch.records)

    stage = Stage(name=prefix, sources=(a, b), handle=handle, readable=lambda tp: tp.topic != b or is_open[0])
    async with running(stage, client, tmp_path):
        await fill(client, a, 200)
        await fill(client, b, 200)
        await until(lambda: seen[a] == 200)
        assert seen[b] <= 4  # what a running fetch brings still comes
        is_open[0] = True
        await until(lambda: seen == {a: 200, b: 200})


async def test_rows_come_back_after_a_restart_and_no_record_is_handled_twice(client, prefix, topics, tmp_path):
    a, _, out = topics
    found = []

    def handle(batch, unit):
        for record in batch.records:
            count = int(unit.get(b"count") or 0) + 1
            unit.put(b"count", b"%d" % count)
            unit.emit(out, record.key, b"%d" % count)

    stage = Stage(
        name=prefix,
        sources=(a,),
        outputs=frozenset({out}),
        handle=handle,
        rows=DictRows,
        index=lambda rows: found.append(dict(rows.items())),
    )
    for round_ in range(1, 3):
        async with running(stage, client, tmp_path):
            await fill(client, a, 40)
            made = await until_committed(client, out, 40 * round_)
        assert sorted(int(record.value) for record in made) == sorted([*range(1, 10 * round_ + 1)] * 4)
    assert found[-4:] == [{b"count": b"10"}] * 4


async def test_an_open_transaction_holds_the_horizon_back_and_empty_sources_do_not(client, prefix, topics, tmp_path):
    a, b, _ = topics
    horizon = {}
    stage = Stage(
        name=prefix,
        sources=(a, b),
        handle=lambda batch, unit: None,
        tick=lambda now_ms, unit: horizon.update({unit.partition: unit.read_to_ms}),
    )
    async with running(stage, client, tmp_path) as app:
        await until(lambda: len(horizon) == 4 and all(horizon.values()))
        began_ms = app.clock()
        await until(lambda: all(at_ms > began_ms for at_ms in horizon.values()))
        async with AIOKafkaProducer(transactional_id=f"{prefix}-open", **client.aiokafka()) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(a, b"hidden", partition=2)
            sent_ms = app.clock()
            await until(lambda: all(horizon[number] > sent_ms + 300 for number in (0, 1, 3)))
            assert horizon[2] <= sent_ms
            await producer.abort_transaction()
            aborted_ms = app.clock()  # nothing but a marker and an aborted record lie before the end now
            await until(lambda: horizon[2] > aborted_ms)
            await producer.begin_transaction()
            await producer.send_and_wait(b, b"shown", partition=2)
            await producer.commit_transaction()
            committed_ms = app.clock()
            await until(lambda: horizon[2] > committed_ms)
        lags = await group_lags(client, prefix, [a, b])
        assert not any(lags.values())


async def test_the_horizon_goes_on_where_partitions_move_and_come_back(client, prefix, topics, tmp_path):
    a, b, out = topics
    seen = [{}, {}]

    def stage(number):
        return Stage(
            name=prefix,
            sources=(a, b),
            outputs=frozenset({out}),
            handle=copy_to(out),
            tick=lambda now_ms, unit: seen[number].update({unit.partition: unit.read_to_ms}),
            rows=DictRows,
        )

    async with running(stage(0), client, tmp_path) as first:
        await fill(client, a, 100)
        await until(lambda: len(seen[0]) == 4 and all(seen[0].values()))
        async with running(stage(1), client, tmp_path, lanes=2) as second:
            await until(lambda: len(first.lanes) == 2)
            joined_ms = first.clock()
            moved, kept = [*second.lanes], [*first.lanes]
            await until(lambda: all(seen[1].get(one, 0) > joined_ms for one in moved))
            await until(lambda: all(seen[0][one] > joined_ms for one in kept))
        await until(lambda: len(first.lanes) == 4)
        left_ms = first.clock()
        await until(lambda: all(at_ms > left_ms for at_ms in seen[0].values()))
    assert len(await read_committed(client, out)) == 100


async def test_a_topic_is_held_while_the_lane_says_so_and_the_others_are_read(client, prefix, topics, tmp_path):
    a, b, _out = topics
    held, asked, seen = [True], {}, {a: 0, b: 0}

    def handle(batch, unit):
        seen[batch.tp.topic] += len(batch.records)

    def holds(topic, standing):
        asked.setdefault(topic, standing)
        return topic == b and held[0]

    stage = Stage(name=prefix, sources=(a, b), handle=handle, holds=holds, index=lambda rows: "the lane's own")
    await fill(client, a, 100)
    await fill(client, b, 100)
    async with running(stage, client, tmp_path):
        await until(lambda: seen[a] == 100 and asked.keys() == {a, b})
        assert seen[b] == 0
        held[0] = False
        await until(lambda: seen[b] == 100)
    assert {one.index for one in asked.values()} == {"the lane's own"}
    assert {frozenset(one.lag) for one in asked.values()} == {frozenset((a, b))}


async def test_a_stopped_flow_ends_the_look_of_an_idle_stage(client, prefix, topics, tmp_path, monkeypatch):
    """A rebalance would otherwise wait for it: recovery fetches changelogs, of which that look knows nothing."""
    a, _, out = topics
    of_an_hour, getmany = 3600.0, transport.BatchConsumer.getmany
    monkeypatch.setattr(transport, "IDLE_AFTER_S", 0.0)
    monkeypatch.setattr(transport, "IDLE_LOOK_S", of_an_hour)
    monkeypatch.setattr(transport.BatchConsumer, "getmany", lambda self, timeout: getmany(self, of_an_hour))
    stage = Stage(name=prefix, sources=(a,), outputs=frozenset({out}), handle=copy_to(out))
    async with running(stage, client, tmp_path) as app:
        thread = app.consumer._thread
        await until(lambda: thread._looking is not None and not thread._looking.done())
        app.consumer.stop_flow()
        await until(thread._looking.done)
        app.consumer.resume_flow()
        await fill(client, a, 100)
        await until_committed(client, out, 100)


async def test_a_stage_that_is_not_ready_holds_its_horizon_back(client, prefix, topics, tmp_path):
    a, _, _ = topics
    horizon, ready = {}, [True]
    stage = Stage(
        name=prefix,
        sources=(a,),
        handle=lambda batch, unit: None,
        tick=lambda now_ms, unit: horizon.update({unit.partition: unit.read_to_ms}),
        ready=lambda: ready[0],
    )
    async with running(stage, client, tmp_path) as app:
        await until(lambda: len(horizon) == 4 and all(horizon.values()))
        ready[0] = False
        await fill(client, a, 1)
        sent_ms = app.clock()
        await until(lambda: horizon[1] > sent_ms)
        assert horizon[0] <= sent_ms
        ready[0] = True
        await until(lambda: horizon[0] > sent_ms)


#: As Kafka numbers them in the attributes of a batch.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def codec_of_the_first_batch(broker, topic):
    (log, *_) = [one for one in broker._folder.data.glob(f"**/{topic}-*/{0:020}.log") if one.stat().st_size]
    return CODECS[log.read_bytes()[22] & 0b111]  # of 61 bytes in front of the records


@pytest.mark.parametrize("codec", CODECS[1:])
async def test_every_codec_is_read_and_written(broker, prefix, topics, tmp_path, codec):
    a, _, out = topics
    client = Client(broker.bootstrap)
    stage = Stage(name=prefix, sources=(a,), outputs=frozenset({out}), handle=copy_to(out))
    async with AIOKafkaProducer(compression_type=codec, **client.aiokafka()) as producer:
        for number in range(100):
            await producer.send(a, b"text " * 50, key=b"%d" % number)
        await producer.flush()
    async with running(stage, replace(client, codec=lambda _: codec), tmp_path):
        made = await until_committed(client, out, 100)
    assert {record.value for record in made} == {b"text " * 50}
    assert codec_of_the_first_batch(broker, out) == codec


async def test_one_transaction_writes_each_topic_with_its_own_codec(client, prefix, topics, broker, tmp_path):
    a, b, out = topics
    codecs = {b: "zstd", out: "none"}

    def handle(batch, unit):
        for record in batch.records:
            for topic in codecs:
                unit.emit(topic, record.key, b"text " * 50)

    stage = Stage(name=prefix, sources=(a,), outputs=frozenset(codecs), handle=handle)
    async with running(stage, replace(client, codec=codecs.__getitem__), tmp_path):
        await fill(client, a, 100)
        for topic in codecs:
            await until_committed(client, topic, 100)
    assert {topic: codec_of_the_first_batch(broker, topic) for topic in codecs} == codecs


async def test_headers_and_large_records_pass(client, prefix, tmp_path):
    large = TopicSpec(max_bytes=4 * 1024 * 1024)
    await create_topics(client, {f"{prefix}.in": large, f"{prefix}.out": large})

    def handle(batch, unit):
        for record in batch.records:
            unit.emit(f"{prefix}.out", record.key, record.value, headers=list(record.headers))

    stage = Stage(name=prefix, sources=(f"{prefix}.in",), outputs=frozenset({f"{prefix}.out"}), handle=handle)
    async with AIOKafkaProducer(max_request_size=5 * 1024 * 1024, **client.aiokafka()) as producer:
        for number in range(3):
            await producer.send(
                f"{prefix}.in", bytes(4 * 1024 * 1024), key=b"%d" % number, headers=[("id", b"7")], partition=0
            )
        await producer.flush()
    async with running(stage, client, tmp_path):
        made = await until_committed(client, f"{prefix}.out", 3)
    assert [(len(record.value), record.headers) for record in made] == [(4 * 1024 * 1024, (("id", b"7"),))] * 3


async def test_a_record_that_comes_while_all_is_idle_is_delivered(client, prefix, topics, tmp_path):
    a, _, out = topics
    stage = Stage(name=prefix, sources=(a,), outputs=frozenset({out}), handle=copy_to(out), rows=DictRows)
    async with running(stage, client, tmp_path) as app:
        for round_ in range(1, 4):
            await asyncio.sleep(1.2)
            await fill(client, a, 4)
            await until_committed(client, out, 4 * round_)
        await until(lambda: app.liveness()["done"]["records"] == 12)
        done = app.liveness()["done"]
        assert done["partitions"] == 12, "one record and its partition a transaction"
        assert done["transactions"] == 12, "those without anything in them do not count"
        assert done["commit_seconds"] > 0


async def test_liveness_is_json_and_says_what_is_left(client, prefix, topics, tmp_path):
    a, b, _ = topics
    ready = [False]
    stage = Stage(name=prefix, sources=(a, b), handle=lambda batch, unit: None, ready=lambda: ready[0])
    async with running(stage, client, tmp_path) as app:
        await fill(client, a, 40)
        part = f"{a}/3"
        await until(lambda: app.liveness()["partitions"][part]["lag"] == 10)
        assert not app.liveness()["ready"]
        ready[0] = True
        await until(lambda: app.liveness()["partitions"][part]["lag"] == 0)
        await until(lambda: app.liveness()["done"]["records"] == 40)
        told = orjson.loads(orjson.dumps(app.liveness()))
        assert told["ready"]
        assert told["partitions"][part]["position"] == 10
        assert len(told["partitions"]) == 8


class Follows:
    """A resource that notes when it lives."""

    topics = ()

    def __init__(self):
        self.notes = []

    async def start(self):
        self.notes.append("started")

    async def stop(self):
        self.notes.append("stopped")


async def test_several_stages_share_a_process_and_end_together_in_order(client, prefix, topics, tmp_path):
    a, b, out = topics
    resource, until_told, started = Follows(), asyncio.Event(), asyncio.Event()
    stages = [
        Stage(name=f"{prefix}-1", sources=(a,), outputs=frozenset({b}), handle=copy_to(b), resources=(resource,)),
        Stage(name=f"{prefix}-2", sources=(b,), outputs=frozenset({out}), handle=copy_to(out)),
    ]
    apps = [new_stage_app(stage, client, partitions=4, data_dir=tmp_path) for stage in stages]
    running_ = asyncio.create_task(run_apps(apps, until_told, started=started))
    await started.wait()
    await fill(client, a, 100)
    assert len(await until_committed(client, out, 100)) == 100
    assert resource.notes == ["started"]
    until_told.set()
    await running_
    assert resource.notes == ["started", "stopped"]
    assert not any((await group_lags(client, f"{prefix}-1", [a])).values())


async def test_one_stage_that_fails_ends_all_with_its_error(client, prefix, topics, tmp_path):
    a, b, _ = topics

    def fail(batch, unit):
        raise SystemError("broken")

    stages = [
        Stage(name=f"{prefix}-good", sources=(a,), handle=lambda batch, unit: None),
        Stage(name=f"{prefix}-bad", sources=(b,), handle=fail),
    ]
    apps = [new_stage_app(stage, client, partitions=4, data_dir=tmp_path) for stage in stages]
    await fill(client, b, 1)
    with pytest.raises(SystemError, match="broken"):
        async with asyncio.timeout(30):
            await run_apps(apps, asyncio.Event())
    assert not await read_committed(client, f"{prefix}.out")


async def test_a_stage_with_a_table_ends_rather_than_work_without_its_changelog(client, prefix, topics, tmp_path):
    a, b, _out = topics
    stage = Stage(name=prefix, sources=(a, b), handle=lambda batch, unit: None, rows=DictRows)
    app = new_stage_app(stage, client, partitions=4, data_dir=tmp_path)
    app.assignor.assigned_actives = set  # as a leader deals it out that has not heard of the changelog
    await app.start()
    try:
        await until(app.failed.is_set)
        assert app.lanes == {}
    finally:
        await app.stop()


async def starting(stage, client, data_dir, **how):
    """Start an app and stop it again; raises what the start raises."""
    app = new_stage_app(stage, client, **{"partitions": 4, "data_dir": data_dir} | how)
    try:
        await app.start()
    finally:
        await app.stop()


async def test_a_changelog_gets_its_copies_and_keeps_its_partitions(client, prefix, topics, tmp_path):
    a, b, _out = topics
    stage = Stage(name=prefix, sources=(a, b), handle=lambda batch, unit: None, rows=DictRows)
    with pytest.raises(PointsmanError, match="InvalidReplicationFactor"):  # there is one broker
        await starting(stage, client, tmp_path, replication=2)
    await starting(stage, client, tmp_path)
    with pytest.raises(PointsmanError, match="4 partitions, not 3"):
        await starting(stage, client, tmp_path, partitions=3)


async def test_a_static_member_that_starts_again_has_its_rows(client, prefix, topics, tmp_path):
    a, b, out = topics

    def keep(batch, unit):
        for record in batch.records:
            unit.put(record.key, record.value)
            unit.emit(out, record.key, record.value)

    stage = Stage(name=prefix, sources=(a, b), outputs=frozenset({out}), handle=keep, rows=DictRows)
    await fill(client, a, 400)
    for _ in range(2):
        app = new_stage_app(stage, client, partitions=4, data_dir=tmp_path, instance_id=f"{prefix}-0")
        await app.start()
        try:
            await until_committed(client, out, 400)
            await until(lambda app=app: sum(len(rows) for rows in app.table.data.partitions.values()) == 400)
        finally:
            await app.stop()


async def test_a_stage_that_gets_a_table_while_kafka_keeps_its_old_assignment_starts_all_the_same(
    client, prefix, topics, tmp_path
):
    a, b, out = topics
    without = Stage(name=prefix, sources=(a, b), outputs=frozenset({out}), handle=copy_to(out))
    for stage in (without, replace(without, rows=DictRows)):
        app = new_stage_app(stage, client, partitions=4, data_dir=tmp_path, instance_id=f"{prefix}-0")
        await app.start()
        try:
            await until(lambda app=app: sorted(app.lanes) == [0, 1, 2, 3])
        finally:
            await app.stop()
