"""What lanes promise, each promise alone: a clock stepped by hand and a writer that only notes what it shall commit."""

import asyncio
import itertools
import threading
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from router.kafka import lane as lane_module
from router.kafka.horizon import Ends
from router.kafka.lane import LANE_BATCHES, MAX_TURN_S, SMALL_BYTES, TURN_BYTES, TURN_S, Lane, Stage
from router.kafka.marks import Marks
from router.kafka.rest import rest_of_loop
from router.kafka.table import DictRows
from router.kafka.transport import Batch
from tests.kafka.support import until

SOURCE = TP("in", 0)


class NotingWriter:
    """Stands where the transactional producer does; a commit takes ``commit_s``."""

    def __init__(self, commit_s=0.005):
        self.partition = 0
        self.partitions = {"out": 1}
        self.commits = []
        self._commit_s = commit_s

    async def commit(self, outputs, offsets):
        await asyncio.sleep(self._commit_s)
        if any(not isinstance(value, bytes) for records in outputs.values() for _, value, _ in records):
            raise TypeError("no bytes")
        self.commits.append(({where: [*records] for where, records in outputs.items()}, dict(offsets)))
        return {}


@dataclass
class Delivery:
    """Stands where Faust's event does."""

    value: Batch
    acked: bool = False

    def ack(self):
        self.acked = True


def delivery(first, count, after=0):
    records = [
        ConsumerRecord("in", 0, offset, 0, 0, b"%d" % offset, b"", None, 0, 0, ())
        for offset in range(first, first + count)
    ]
    return Delivery(Batch(SOURCE, records, first + count + after))


def stage(handle=lambda batch, unit: None, **optional):
    return Stage(name="test", sources=("in",), outputs=frozenset({"out"}), handle=handle, **optional)


def lane_of(parts, writer, clock=lambda: 0, crashes=None, **more):
    async def crash(error):
        if crashes is None:
            pytest.fail(f"the lane crashed: {error!r}")
        crashes.append(error)

    return Lane(parts, writer, clock=clock, crash=crash, **more)


def burn(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def test_a_tick_that_emits_nothing_commits_nothing_and_time_never_runs_backwards():
    now, seen, writer = [1000], [], NotingWriter()

    def tick(now_ms, unit):
        assert unit.now_ms == now_ms
        seen.append(now_ms)
        if now_ms >= 2000:
            unit.emit("out", b"due", b"")

    lane = lane_of(stage(tick=tick), writer, lambda: now[0])
    await until(lambda: len(seen) >= 3)
    assert not writer.commits
    now[0] = 2000
    await until(lambda: writer.commits)
    assert not writer.commits[0][1], "a commit without offsets"
    now[0] = 500
    count = len(seen)
    await until(lambda: len(seen) >= count + 3)
    assert set(seen[-2:]) == {2000}
    await lane.close()


async def test_ticks_come_between_batches_under_load():
    order = []
    parts = stage(
        lambda batch, unit: (burn(50e-6 * len(batch.records)), order.append("batch")),
        tick=lambda *_: order.append("tick"),
    )
    lane, whole = lane_of(parts, NotingWriter()), [delivery(first, 2000) for first in range(0, 20_000, 2000)]
    for one in whole:
        await lane.put(one)
    await until(lambda: whole[-1].acked)
    await lane.close()
    assert max(len([*run]) for kind, run in itertools.groupby(order) if kind == "batch") < order.count("batch") / 4


async def test_a_turn_ends_after_its_time_and_leaves_a_whole_offset():
    writer, whole = NotingWriter(), delivery(0, 500)
    lane = lane_of(stage(lambda batch, unit: burn(0.001 * len(batch.records))), writer)
    await lane.put(whole)
    await until(lambda: whole.acked)
    await lane.close()
    offsets = [0, *(offsets[SOURCE] for _, offsets in writer.commits)]
    sizes = [later - sooner for sooner, later in itertools.pairwise(offsets)]
    assert offsets[-1] == 500
    assert all(sizes)
    # The first pieces are sized by a guess of the pace.
    assert max(sizes[5:-1]) * 0.001 <= TURN_S * 1.5


async def test_turns_grow_while_commits_are_slow_and_shrink_again(monkeypatch):
    now_s, commit_s = [0.0], [0.5]

    class SlowWriter(NotingWriter):
        async def commit(self, outputs, offsets):
            now_s[0] += commit_s[0]
            commit_s[0] = 0.5 if len(self.commits) < 5 else 0.0
            return await super().commit(outputs, offsets)

    def handle(batch, unit):
        now_s[0] += 0.001 * len(batch.records)

    clock = SimpleNamespace(perf_counter=lambda: now_s[0], monotonic=lambda: now_s[0])
    monkeypatch.setattr(lane_module, "time", clock)
    writer, whole = SlowWriter(commit_s=0), delivery(0, 1500)
    lane = lane_of(stage(handle), writer)
    lane._record_s = 0.001
    await lane.put(whole)
    await until(lambda: whole.acked)
    await lane.close()
    offsets = [0, *(offsets[SOURCE] for _, offsets in writer.commits)]
    took_s = [(later - sooner) * 0.001 for sooner, later in itertools.pairwise(offsets)]
    assert took_s[0] == pytest.approx(TURN_S, abs=0.006)
    assert took_s[4] == pytest.approx(MAX_TURN_S, abs=0.006)
    assert max(took_s) <= MAX_TURN_S + 0.006
    assert took_s[-2] == pytest.approx(TURN_S, abs=0.006), "commits that take no time any more"


async def test_a_lane_tells_for_how_long_it_will_begin_nothing(monkeypatch):
    now_s, may_end = [0.0], asyncio.Event()

    class HeldWriter(NotingWriter):
        async def commit(self, outputs, offsets):
            if self.commits:
                await may_end.wait()
            now_s[0] += 0.4
            return await super().commit(outputs, offsets)

    clock = SimpleNamespace(perf_counter=lambda: now_s[0], monotonic=lambda: now_s[0])
    monkeypatch.setattr(lane_module, "time", clock)
    writer = HeldWriter(commit_s=0)
    lane = lane_of(stage(), writer)
    first, second = delivery(0, 1), delivery(1, 1)
    await lane.put(first)
    await until(lambda: first.acked)
    assert lane.busy_s(given=False) == 0, "at rest"
    assert lane.busy_s(given=True) == pytest.approx(0.2), "half of what the first commit took"
    await lane.put(second)
    await until(lambda: lane._committing_s is not None)
    now_s[0] += 0.15
    assert lane.busy_s(given=False) == pytest.approx(0.05), "it commits"
    now_s[0] += 1
    assert lane.busy_s(given=False) == 0, "it should have ended"
    may_end.set()
    await until(lambda: second.acked)
    await lane.close()


async def test_a_turn_ends_after_its_bytes_so_that_memory_stays_bounded():
    writer, whole, large = NotingWriter(), delivery(0, 20), bytes(TURN_BYTES // 4 + 1)

    def handle(batch, unit):
        burn(0.003 * len(batch.records))  # pieces stay small
        for _ in batch.records:
            unit.emit("out", b"k", large)

    lane = lane_of(stage(handle), writer)
    lane._record_s = 1.0  # pieces of one record
    await lane.put(whole)
    await until(lambda: whole.acked)
    await lane.close()
    offsets = [0, *(offsets[SOURCE] for _, offsets in writer.commits)]
    assert max(later - sooner for sooner, later in itertools.pairwise(offsets)) <= 4


async def test_preparing_runs_beside_the_commit_and_reaches_the_handler():
    got, committing, beside = [], [False], []

    class Slow(NotingWriter):
        async def commit(self, outputs, offsets):
            committing[0] = True
            ends = await super().commit(outputs, offsets)
            committing[0] = False
            return ends

    async def prefetch(batch):
        return [record.offset for record in batch.records]

    def prepare(batch):
        time.sleep(0.020)
        beside.append(committing[0])
        return [2 * offset for offset in batch.fetched]

    parts = stage(lambda batch, unit: got.extend(batch.prepared), prefetch=prefetch, prepare=prepare)
    lane, whole = lane_of(parts, Slow(0.040)), [delivery(number * 10, 10) for number in range(8)]
    for one in whole:
        await lane.put(one)
    await until(lambda: whole[-1].acked)
    await lane.close()
    assert got == [2 * offset for offset in range(80)]
    assert any(beside)


async def test_a_closed_lane_leaves_what_waits_to_the_next_owner():
    writer = NotingWriter(0.050)
    lane, whole = lane_of(stage(lambda batch, unit: burn(0.030)), writer), [delivery(n, 1) for n in range(LANE_BATCHES)]
    for one in whole:
        await lane.put(one)
    await until(lambda: not lane.waiting or lane.waiting < LANE_BATCHES)
    await lane.close()
    assert all(one.acked for one in whole)
    assert writer.commits[-1][1][SOURCE] < LANE_BATCHES


async def test_while_it_is_not_ready_batches_wait_and_ticks_go_on():
    ready, handled, ticks, one = [False], [], [], delivery(0, 3)
    parts = stage(
        lambda batch, unit: handled.append(len(batch.records)), tick=lambda *_: ticks.append(1), ready=lambda: ready[0]
    )
    lane = lane_of(parts, NotingWriter())
    await lane.put(one)
    await until(lambda: len(ticks) > 3)
    assert not handled
    ready[0] = True
    await until(lambda: one.acked)
    assert sum(handled) == 3
    await lane.close()


async def test_readiness_is_noticed_without_ticks():
    ready, one = [False], delivery(0, 1)
    lane = lane_of(stage(ready=lambda: ready[0]), NotingWriter())
    await lane.put(one)
    await asyncio.sleep(0.05)
    ready[0] = True
    await until(lambda: one.acked)
    await lane.close()


async def test_an_advance_without_records_is_no_reason_to_commit_at_once_but_moves_the_horizon():
    ends, writer, one = [None], NotingWriter(), delivery(0, 1)
    lane = lane_of(stage(tick=lambda *_: None), writer, ends=lambda: ends[0])
    await lane.put(one)
    await until(lambda: one.acked)
    ends[0] = Ends(5000, {SOURCE: 3})
    await lane.put(delivery(1, 0, after=1))
    await asyncio.sleep(0.1)
    assert lane.horizon.read_to_ms == 0
    await lane.put(delivery(2, 0, after=1))
    await until(lambda: lane.horizon.read_to_ms == 5000)
    assert len(writer.commits) == 1
    await until(lambda: len(writer.commits) == 2)
    assert writer.commits[1][1] == {SOURCE: 3}
    await lane.close()


async def test_what_a_turn_has_handled_is_within_its_horizon():
    seen, one = [], delivery(0, 2)
    parts = stage(tick=lambda now_ms, unit: seen.append(unit.read_to_ms))
    lane = lane_of(parts, NotingWriter(), ends=lambda: Ends(7000, {SOURCE: 2}))
    await until(lambda: seen)
    assert seen[-1] == 0
    await lane.put(one)
    await until(lambda: 7000 in seen)
    await lane.close()


class Panic(BaseException):
    """What pyo3 raises when native code panics is no ``Exception`` either."""


@pytest.mark.parametrize("where", ["handle", "prepare", "tick"])
@pytest.mark.parametrize("error", [ValueError, Panic])
async def test_any_error_ends_the_lane_and_is_told(where, error):
    def fail(*_):
        raise error

    crashes, one = [], delivery(0, 1)
    lane = lane_of(stage(**{where: fail}), NotingWriter(), crashes=crashes)
    await lane.put(one)
    await until(lambda: crashes and one.acked)
    assert isinstance(crashes[0], error)
    await lane.close()


class Store:
    """One partition's rows."""

    def __init__(self):
        self.partitions = {0: DictRows()}

    def apply(self, partition, changes, offset):
        self.partitions[partition].apply(changes)


async def lives_of(parts, path, batch, *, most):
    """As many lanes as it takes until ``batch`` is handled, each in a new process; how many died."""
    writer = NotingWriter(0)
    for deaths in range(most):
        crashes, rest = [], Delivery(batch)
        begin = max((offsets[SOURCE] for _, offsets in writer.commits), default=0)
        rest.value = Batch(SOURCE, [r for r in batch.records if r.offset >= begin], batch.next_offset)
        lane = lane_of(parts, writer, crashes=crashes, mark=Marks(path, 1).of(0), store=Store(), changelog="log")
        await lane.put(rest)
        await until(lambda one=rest: one.acked)
        if not crashes:
            await lane.close()
            return deaths, writer
        await lane.close()
    raise AssertionError(f"still dying after {most} lives")


@pytest.mark.parametrize("count", [1, 7, 400])
@pytest.mark.parametrize("where", ["handle", "prepare", "commit"])
async def test_a_record_that_kills_again_and_again_is_found_and_given_up(tmp_path, count, where):
    bad, given_up, handled = count // 2, [], set()

    def handle(batch, unit):
        if where == "handle" and any(record.offset == bad for record in batch.records):
            raise Panic
        for record in batch.records:
            handled.add(record.offset)
            unit.put(record.key, 7 if where == "commit" and record.offset == bad else b"done")

    def prepare(batch):
        if where == "prepare" and any(record.offset == bad for record in batch.records):
            raise Panic
        return batch.records

    def culprit(record, unit):
        given_up.append(record.offset)
        unit.emit("out", record.key, b"given up")

    parts = stage(handle, prepare=prepare, culprit=culprit, rows=DictRows)
    deaths, writer = await lives_of(parts, tmp_path / "marks", delivery(0, count).value, most=6)
    assert given_up == [bad]
    assert handled - {bad} == set(range(count)) - {bad}
    assert deaths in {3, 4}
    assert max(offsets[SOURCE] for _, offsets in writer.commits) == count
    # Suspicion ends with the commit behind the range: the next death counts from one.
    assert not Marks(tmp_path / "marks", 1).of(0).suspicious


async def test_a_stage_that_lingers_lets_batches_share_a_commit():
    handled, writer = [], NotingWriter(commit_s=0)

    def handle(batch, unit):
        handled.extend(batch.records)
        unit.emit("out", b"k", b"v")

    lane = lane_of(stage(handle, linger_s=30.0), writer)
    first, second = delivery(0, 2), delivery(2, 3)
    await lane.put(first)
    await until(lambda: len(handled) == 2)
    await lane.put(second)
    await until(lambda: len(handled) == 5)
    assert not writer.commits
    assert not first.acked
    await lane.close()
    ((outputs, offsets),) = writer.commits
    assert len(outputs["out", 0]) == 2
    assert offsets == {("in", 0): 5}
    assert first.acked
    assert second.acked


async def test_batches_share_a_commit_while_the_writer_would_be_turned_down_urgent_or_not():
    handled, writer, pauses = [], NotingWriter(commit_s=0), [0.0]

    def handle(batch, unit):
        handled.extend(batch.records)
        unit.emit("out", b"k", b"v")

    lane = lane_of(stage(handle, urgent=frozenset({"out"})), writer, pause_s=lambda: pauses[0])
    await lane.put(delivery(0, 1))
    await until(lambda: len(writer.commits) == 1)
    pauses[0] = 30.0
    await lane.put(delivery(1, 1))
    await lane.put(delivery(2, 1))
    await until(lambda: len(handled) == 3)
    assert len(writer.commits) == 1
    pauses[0] = 0.0
    await lane.put(delivery(3, 1))
    await until(lambda: writer.commits[-1][1] == {("in", 0): 4})
    assert len(writer.commits[1][0]["out", 0]) >= 2
    await lane.close()


async def test_a_turn_that_lingers_ends_when_it_has_worked_for_long():
    writer = NotingWriter(commit_s=0)
    lane = lane_of(stage(lambda batch, unit: burn(TURN_S), linger_s=30.0), writer)
    await lane.put(delivery(0, 1))
    await until(lambda: writer.commits)
    await lane.close()
    assert [offsets for _, offsets in writer.commits] == [{("in", 0): 1}]


async def test_what_somebody_waits_for_goes_out_at_once_with_all_that_lingered():
    handled, writer = [], NotingWriter(commit_s=0)

    def handle(batch, unit):
        handled.extend(batch.records)
        unit.emit("out" if len(handled) > 1 else "quiet", b"k", b"v")

    writer.partitions["quiet"] = 1
    lane = lane_of(stage(handle, linger_s=30.0, urgent=frozenset({"out"})), writer)
    await lane.put(delivery(0, 1))
    await until(lambda: handled)
    assert not writer.commits
    await lane.put(delivery(1, 1))
    await until(lambda: writer.commits)
    ((outputs, offsets),) = writer.commits
    assert outputs.keys() == {("quiet", 0), ("out", 0)}
    assert offsets == {("in", 0): 2}
    await lane.close()


async def test_a_tick_that_has_more_to_do_is_called_again_at_once():
    left, writer = [200], NotingWriter(0.001)

    def tick(_now_ms, unit):
        if left[0]:
            left[0] -= 1
            unit.emit("out", b"k", b"v")
        return left[0] > 0

    lane = lane_of(stage(tick=tick), writer)
    await until(lambda: left == [0])
    await lane.close()
    assert len(writer.commits) < 100  # several in a turn: none waits for its time


async def test_a_few_small_records_are_prepared_on_the_loop_many_in_a_thread():
    where = []

    def prepare(batch):
        where.append(threading.current_thread() is threading.main_thread())
        return [None] * len(batch.records)

    few, many = delivery(0, 2), delivery(2, SMALL_BYTES // 2)
    many.value = replace(many.value, records=[replace(one, value=b"12345") for one in many.value.records])
    lane = lane_of(stage(prepare=prepare), NotingWriter())
    for one in (few, many):
        await lane.put(one)
        await until(lambda one=one: one.acked)
    await lane.close()
    assert where == [True, False]


@pytest.fixture
def at_rest_at_once(monkeypatch):
    monkeypatch.setattr(lane_module, "REST_AFTER_S", 0.0)


async def test_at_rest_ticks_go_on_until_something_comes_of_one_and_batches_wake_the_lane(at_rest_at_once):
    due, ticked, seen, writer = [False], [], [], NotingWriter()

    def tick(now_ms, unit):
        ticked.append(now_ms)
        if due[0]:
            unit.emit("out", b"due", b"")
        due[0] = False

    parts = stage(lambda batch, unit: seen.extend(batch.records), tick=tick)
    lane = lane_of(parts, writer, ends=lambda: Ends(7, {SOURCE: 0}))
    await until(lambda: len(ticked) >= 5)
    assert not writer.commits
    due[0] = True
    await until(lambda: len(writer.commits) == 1)
    await lane.put(delivery(0, 3))
    await until(lambda: len(writer.commits) == 2)
    assert len(seen) == 3
    count = len(ticked)
    await until(lambda: len(ticked) >= count + 3)
    await lane.close()


async def test_lanes_at_rest_share_one_timer_and_none_is_left_after_them(at_rest_at_once):
    ticked = set()
    lanes = [lane_of(stage(tick=lambda _now, _unit, n=n: ticked.add(n)), NotingWriter()) for n in range(8)]
    rest = rest_of_loop()
    await until(lambda: len(rest._resting) == 8)
    ticked.clear()
    await until(lambda: len(ticked) == 8)
    await asyncio.gather(*(lane.close() for lane in lanes))
    assert not rest._resting
    assert rest._alarm is None


async def test_a_tick_that_fails_at_rest_ends_its_own_lane_only(at_rest_at_once):
    fails, ticked, crashes = [False], [], []

    def tick(now_ms, unit):
        if fails[0]:
            raise KeyError("of a tick")

    bad = lane_of(stage(tick=tick), NotingWriter(), crashes=crashes)
    good = lane_of(stage(tick=lambda now_ms, unit: ticked.append(now_ms)), NotingWriter())
    await until(lambda: len(rest_of_loop()._resting) == 2)
    fails[0] = True
    await until(lambda: crashes)
    assert isinstance(crashes[0], KeyError)
    count = len(ticked)
    await until(lambda: len(ticked) >= count + 3)
    await bad.close()
    await good.close()


async def test_a_tick_at_rest_that_has_more_to_do_gets_up(at_rest_at_once):
    left = [0]

    def tick(now_ms, unit):
        left[0] = max(0, left[0] - 1)
        return left[0] > 0

    lane = lane_of(stage(tick=tick), NotingWriter())
    await until(lambda: rest_of_loop()._resting)
    left[0] = 1_000  # at rest it would take a minute and a half
    await until(lambda: not left[0], patience_s=20)
    await lane.close()
