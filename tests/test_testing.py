"""The in-memory log keeps the promises of the real one."""

import heapq

import pytest

from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.kafka.follow import Follower
from router.kafka.lane import Stage
from router.kafka.table import DictRows
from router.testing import FakeClock, MemoryLog

NOWHERE = Client("127.0.0.1:1")


def total(batch, unit):
    for record in batch.records:
        unit.put(record.key, b"%d" % (int(unit.get(record.key) or 0) + int(record.value)))
        unit.emit("out", record.key, unit.get(record.key))


SUMS = Stage(name="sums", sources=("in",), outputs=frozenset({"out"}), handle=total, rows=DictRows)


def test_outputs_come_in_order_in_the_lanes_own_partition():
    log = MemoryLog(SUMS)
    for number in range(5):
        log.produce("in", b"k", b"%d" % number, partition=3)
    log.run()
    assert [record.value for record in log.records("out", 3)] == [b"0", b"1", b"3", b"6", b"10"]
    assert not log.records("out", 0)


def test_a_restart_recovers_rows_from_the_compacted_changelog_and_repeats_nothing():
    log = MemoryLog(SUMS, batch_records=1)
    for _ in range(3):
        log.produce("in", b"k", b"2")
        log.run()
    log.restart(SUMS)
    log.produce("in", b"k", b"2")
    log.run()
    assert [record.value for record in log.records("out")] == [b"2", b"4", b"6", b"8"]


def test_a_turn_that_raises_leaves_nothing_behind():
    def fail_midway(batch, unit):
        total(batch, unit)
        raise ValueError

    log = MemoryLog(Stage(name="sums", sources=("in",), outputs=frozenset({"out"}), handle=fail_midway, rows=DictRows))
    log.produce("in", b"k", b"2")
    with pytest.raises(ValueError):  # noqa: PT011 - ours, from above
        log.run()
    assert not log.records("out")
    log.restart(SUMS)
    log.run()
    assert [record.value for record in log.records("out")] == [b"2"]


def test_ticks_see_the_clock_and_the_index_survives_a_restart():
    def remember(batch, unit):
        for record in batch.records:
            heapq.heappush(unit.index, (record.timestamp + 100, record.key))
            unit.put(record.key, b"%d" % (record.timestamp + 100))

    def give(now_ms, unit):
        while unit.index and unit.index[0][0] <= now_ms:
            _, key = heapq.heappop(unit.index)
            unit.put(key, None)
            unit.emit("due", key, b"%d" % now_ms)

    def soonest_first(rows):
        return sorted((int(due_ms), key) for key, due_ms in rows.items())

    stage = Stage(
        name="later",
        sources=("in",),
        outputs=frozenset({"due"}),
        handle=remember,
        tick=give,
        rows=DictRows,
        index=soonest_first,
    )
    log = MemoryLog(stage, clock=FakeClock(1000))
    log.produce("in", b"k", b"")
    log.run()
    log.advance(99)
    log.restart(stage)
    log.run()
    assert not log.records("due")
    log.advance(1)
    assert [(record.key, record.value) for record in log.records("due")] == [(b"k", b"1100")]


def test_what_is_not_read_holds_the_horizon_back():
    seen, gates = [], {"ready": True, "open": True}
    stage = Stage(
        name="watch",
        sources=("in",),
        handle=lambda batch, unit: None,
        tick=lambda now_ms, unit: seen.append((unit.partition, unit.read_to_ms)),
        ready=lambda: gates["ready"],
        readable=lambda tp: gates["open"],
    )
    log = MemoryLog(stage, partitions=1, clock=FakeClock(1000))
    log.run()
    assert seen[-1] == (0, 1000)
    for gate in gates:
        gates[gate] = False
        log.advance(10)
        log.produce("in", b"k", b"")
        log.advance(10)
        before = log.clock() - 10
        assert seen[-1] == (0, before)
        gates[gate] = True
        log.run()
        assert seen[-1] == (0, log.clock())


async def test_prefetch_and_prepare_reach_the_handler_also_inside_a_running_loop():
    got = []

    async def prefetch(batch):
        return [record.offset for record in batch.records]

    stage = Stage(
        name="ahead",
        sources=("in",),
        handle=lambda batch, unit: got.extend(batch.prepared),
        prefetch=prefetch,
        prepare=lambda batch: [2 * offset for offset in batch.fetched],
    )
    log = MemoryLog(stage, partitions=1)
    for _ in range(3):
        log.produce("in", b"k", b"")
    log.run()
    assert got == [0, 2, 4]


def test_stages_feed_each_other_followers_and_body_readers():
    known = {}
    follower = Follower(NOWHERE, ["facts"], lambda record: known.update({record.key: record.value}))
    reader = BodyReader(NOWHERE, ["in"])

    async def bodies(batch):
        return await reader.fetch([("in", record.partition, int(record.value)) for record in batch.records])

    def answer(batch, unit):
        for record, body in zip(batch.records, batch.fetched, strict=True):
            unit.emit("answers", record.key, known[b"greeting"] + body.value if body else None)

    ask = Stage(
        name="ask",
        sources=("in",),
        outputs=frozenset({"orders"}),
        handle=lambda batch, unit: [unit.emit("orders", r.key, b"%d" % r.offset) for r in batch.records],
    )
    order = Stage(
        name="answer",
        sources=("orders",),
        outputs=frozenset({"answers"}),
        handle=answer,
        prefetch=bodies,
        ready=follower.fresh,
        resources=(follower, reader),
    )
    log = MemoryLog(ask, order)
    log.produce("facts", b"greeting", b"hello ")
    log.produce("in", b"k", b"world")
    log.run()
    assert [record.value for record in log.records("answers")] == [b"hello world"]


def test_a_culprit_is_given_up_and_what_follows_is_handled():
    def handle(batch, unit):
        for record in batch.records:
            if record.value == b"bad":
                raise SystemError
            unit.emit("out", record.key, record.value)

    stage = Stage(
        name="careful",
        sources=("in",),
        outputs=frozenset({"out"}),
        handle=handle,
        culprit=lambda record, unit: unit.emit("out", record.key, b"given up"),
    )
    log = MemoryLog(stage, partitions=1, batch_records=1)
    bad, _ = log.produce("in", b"1", b"bad"), log.produce("in", b"2", b"good")
    with pytest.raises(SystemError):
        log.run()
    log.give_up("careful", bad)
    log.run()
    assert [record.value for record in log.records("out")] == [b"given up", b"good"]


def test_an_output_that_the_stage_did_not_name_is_refused():
    stage = Stage(name="sly", sources=("in",), handle=lambda batch, unit: unit.emit("secret", b"", b""))
    log = MemoryLog(stage)
    log.produce("in", b"k", b"")
    with pytest.raises(KeyError, match="secret"):
        log.run()
