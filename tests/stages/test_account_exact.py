"""stages/account under random interleavings, crashes and late records: exact sums, one final a row, silence when idle.

The lanes here take turns in any order and die at any point of a turn, which ``MemoryLog`` does not do.
"""

import itertools
import random
from collections import Counter, defaultdict
from types import SimpleNamespace

import orjson
import pytest
import xxhash
from faust.types import TP

from router.contract.codec import from_rfc3339
from router.contract.topics import Names
from router.core.counts import SUMS
from router.kafka.table import DictRows
from router.kafka.transport import Batch
from router.stages.account import Account

LANES = 3
WINDOW_MS, GRACE_MS = 60_000, 10_000
T0 = 1_700_000_040_000
NAMES = Names("llm")
USAGE, RESULTS, COUNTED, COUNTS, METRICS = (
    NAMES.of(name) for name in ("usage", "results", "feedback.counted", "counts", "metrics")
)


class Turn:
    """A ``UnitLike``: holds back what a turn does."""

    def __init__(self, world, lane):
        self.partition, self.index = lane, world.books[lane]
        self.now_ms, self.read_to_ms = world.now_ms, world.read_to(lane)
        self.changes, self.outputs = {}, []
        self._rows = world.rows[lane]

    def get(self, key):
        return self.changes.get(key, self._rows.get(key))

    def put(self, key, value):
        self.changes[key] = value

    def emit(self, topic, key, value, *, partition=None, headers=()):
        self.outputs.append((topic, self.partition if partition is None else partition, key, value, headers))

    def by_key(self, topic, key):
        return xxhash.xxh3_64_intdigest(key) % LANES


class World:
    def __init__(self, seed, max_rows=2_000):
        self.rng = random.Random(seed)
        self.now_ms = T0
        config = SimpleNamespace(
            account=SimpleNamespace(window_s=WINDOW_MS // 1000, grace_s=GRACE_MS / 1000, max_rows=max_rows),
            tenants={"acme": None},
        )
        self.account = Account(SimpleNamespace(config=config, names=NAMES, partitions=LANES))
        self.sources = self.account.stage().sources
        self.log = defaultdict(list)
        self.next = Counter()
        self.rows = [DictRows() for _ in range(LANES)]
        self.books = [self.account.index(rows) for rows in self.rows]
        self.slow = Counter()

    def produce(self, topic, lane, key, value, *, timestamp=None, headers=()):
        records = self.log[topic, lane]
        stamp = self.now_ms if timestamp is None else timestamp
        record = SimpleNamespace(
            topic=topic,
            partition=lane,
            offset=len(records),
            timestamp=stamp,
            key=key,
            value=value,
            headers=headers,
            appended_ms=self.now_ms,
        )
        records.append(record)

    def read_to(self, lane):
        """All that was appended by then has been handled."""
        waiting = [
            self.log[source, lane][self.next[source, lane]].appended_ms - 1
            for source in self.sources
            if self.next[source, lane] < len(self.log[source, lane])
        ]
        return min([*waiting, self.now_ms]) - self.slow[lane]

    def turn(self, lane):
        """Some pieces and ticks, committed; or not, and the lane opens anew."""
        unit, positions = Turn(self, lane), {}
        for _ in range(self.rng.randint(1, 4)):
            source = self.rng.choice(self.sources)
            at = positions.get((source, lane), self.next[source, lane])
            piece = self.log[source, lane][at : at + self.rng.randint(1, 20)]
            if piece:
                self.account.handle(Batch(TP(source, lane), piece, at + len(piece)), unit)
                positions[source, lane] = at + len(piece)
            if self.rng.random() < 0.5:
                self.account.tick(self.now_ms, unit)
        if self.rng.random() < 0.1:
            self.books[lane] = self.account.index(self.rows[lane])
            return
        self.commit(unit, positions)

    def tick(self, lane):
        unit = Turn(self, lane)
        self.account.tick(self.now_ms, unit)
        self.commit(unit, {})

    def commit(self, unit, positions):
        self.rows[unit.partition].apply(unit.changes)
        self.next.update({key: at - self.next[key] for key, at in positions.items()})
        for topic, lane, key, value, headers in unit.outputs:
            self.produce(topic, lane, key, value, headers=headers)

    def drain(self, ms):
        """Time passes, all lanes work, none dies."""
        self.slow.clear()
        end = self.now_ms + ms
        while self.now_ms < end:
            self.now_ms += 5_000
            for lane in self.rng.sample(range(LANES), LANES):
                for source in self.sources:
                    unit, at = Turn(self, lane), self.next[source, lane]
                    if piece := self.log[source, lane][at:]:
                        self.account.handle(Batch(TP(source, lane), piece, at + len(piece)), unit)
                        self.commit(unit, {(source, lane): at + len(piece)})
                self.tick(lane)

    def metrics(self):
        return [
            (orjson.loads(record.value), record.appended_ms)
            for lane in range(LANES)
            for record in self.log[METRICS, lane]
        ]

    def written(self):
        return sum(len(records) for records in self.log.values())


def usage(rng, now_ms):
    reason = rng.choice(["routed", "routed", "retry", "fallback", "hedge", "escalate", "shadow"])
    return {
        "tenant": rng.choice(["acme", "default", "stranger", "nobody"]),
        "pool": rng.choice(["auto", None]),
        "model": rng.choice(["small", "large"]),
        "stratum": rng.choice(["math/hard", "math/easy", None]),
        "cohort": "shadow" if reason == "shadow" else "pilot",
        "lane": rng.choice(["interactive", "batch"]),
        "reason": reason,
        "at_ms": now_ms - rng.choice([0, 0, 100, 5_000, 70_000, 300_000]),
        "prompt_tokens": rng.randint(0, 10_000),
        "completion_tokens": rng.randint(0, 10_000),
        "cached_tokens": rng.randint(0, 100),
        "cost_nano_usd": rng.choice([None, rng.randint(0, 10**9)]),
        "baseline_cost_nano_usd": rng.randint(0, 10**9),
        "status": rng.choice(["ok", "ok", "error"]),
        "late": rng.random() < 0.1,
    }


def result(rng):
    model = rng.choice(["small", "large", None])
    return {
        "error": None if model else {"code": rng.choice(["deadline_exceeded", "rate_limited"]), "message": ""},
        "router": {
            "tenant": rng.choice(["acme", "stranger"]),
            "pool": "auto",
            "model": model,
            "stratum": None if model is None else "math/hard",
            "cohort": None if model is None else "pilot",
            "latency_ms": rng.randint(0, 10_000),
        },
    }


def counted(rng, now_ms):
    return usage(rng, now_ms) | {
        "kind": rng.choice(["thumbs", "review"]),
        "value": rng.choice([0.0, 0.25, 1.0]),
        "repeat": rng.random() < 0.2,
    }


def feed(world, n, expected):
    """Records of all three kinds into random lanes; what they amount to is added to ``expected``.

    ``expected["in time", window]``: records that lay there when the window's grace ended.
    """
    rng = world.rng

    def note(at_ms):
        start_ms = at_ms - at_ms % WINDOW_MS
        if at_ms <= world.now_ms <= start_ms + WINDOW_MS + GRACE_MS:
            expected["in time", start_ms] += 1

    for _ in range(n):
        lane, what = rng.randrange(LANES), rng.random()
        if what < 0.5:
            value = usage(rng, world.now_ms)
            shadow, unknown = value["reason"] == "shadow", value["cost_nano_usd"] is None
            expected["shadows" if shadow else "attempts"] += 1
            expected["shadows_ok"] += shadow and value["status"] == "ok" and not value["late"]
            names = {"retry": "retries", "fallback": "fallbacks", "hedge": "hedges", "escalate": "escalations"}
            if value["reason"] in names:
                expected[names[value["reason"]]] += 1
            for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "baseline_cost_nano_usd"):
                expected[name] += value[name]
            expected["cost_unknown"] += unknown
            expected["cost_nano_usd"] += value["cost_nano_usd"] or 0
            world.produce(USAGE, lane, b"k", orjson.dumps(value))
            note(value["at_ms"])
        elif what < 0.9:
            value = result(rng)
            expected["requests"] += 1
            expected["ok" if value["error"] is None else value["error"]["code"]] += 1
            late_ms = rng.choice([0, 0, 40_000, -3_600_000])
            note(world.now_ms - late_ms)
            world.produce(
                RESULTS, lane, b"k", orjson.dumps(value), timestamp=world.now_ms - late_ms, headers=[("lane", b"batch")]
            )
        else:
            value = counted(rng, world.now_ms)
            expected[value["kind"], "repeats" if value["repeat"] else "n"] += 1
            world.produce(COUNTED, lane, b"k", orjson.dumps(value))
            note(value["at_ms"])


def totals(finals):
    found = Counter()
    for window in finals:
        for name in SUMS:
            found[name] += window[name]
        found.update(window["errors"])
        for kind, feedback in window["feedback"].items():
            found[kind, "n"] += feedback["n"]
            found[kind, "repeats"] += feedback["repeats"]
    return found


def records_in(window):
    fed_back = sum(feedback["n"] + feedback["repeats"] for feedback in window["feedback"].values())
    return window["requests"] + window["attempts"] + window["shadows"] + fed_back


def dimensions(window):
    return tuple(window[name] for name in ("window_start", "tenant", "pool", "model", "stratum", "cohort", "lane"))


def check(world, expected):
    published = world.metrics()
    finals = [window for window, _ in published if window["final"]]
    in_time = {key[1]: expected.pop(key) for key in list(expected) if key[0] == "in time"}
    assert +totals(finals) == +expected
    held = Counter()
    for window in finals:
        held[from_rfc3339(window["window_start"])] += records_in(window)
    assert all(held[start_ms] >= n for start_ms, n in in_time.items())
    assert set(Counter(map(dimensions, finals)).values()) <= {1}
    for window, at_ms in published:
        start_ms = from_rfc3339(window["window_start"])
        assert start_ms % WINDOW_MS == 0
        assert window["final"] <= (at_ms >= start_ms + WINDOW_MS + GRACE_MS)
    by_row = defaultdict(list)
    for window, at_ms in published:
        by_row[dimensions(window)].append((at_ms, window["final"]))
    for seen in by_row.values():
        assert [final for _, final in seen[:-1]] == [False] * (len(seen) - 1)
        updates = [at_ms for at_ms, final in seen if not final]
        assert all(later - earlier >= 1_000 for earlier, later in itertools.pairwise(updates))
    left = {key[:1] for rows in world.rows for key in rows}
    assert left <= {b"a", b"l"}


@pytest.mark.parametrize("seed", range(12))
def test_finals_sum_to_the_inputs_whatever_happens_to_the_lanes(seed):
    world, expected = World(seed), Counter()
    rng = world.rng
    for _ in range(120):
        feed(world, rng.randint(0, 25), expected)
        for _ in range(rng.randint(0, 6)):
            world.turn(rng.randrange(LANES))
        world.now_ms += rng.choice([30, 300, 2_000, 20_000, 100_000])
        if rng.random() < 0.05:
            world.slow[rng.randrange(LANES)] = rng.choice([0, 30_000, 200_000])
    world.drain(2 * 3_600_000)
    check(world, expected)


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_bounded_and_nothing_is_left_uncounted(seed):
    world, expected = World(seed, max_rows=40), Counter()
    for _ in range(30):
        feed(world, 60, expected)
        for lane in range(LANES):
            world.turn(lane)
        world.now_ms += 10_000
        assert all(len(rows) <= 38 + 20 for books in world.books for rows in books.admission.windows.values())
    world.drain(2 * 3_600_000)
    check(world, expected)
    assert any(window["stratum"] == "other" for window, _ in world.metrics())


def test_an_idle_installation_writes_nothing():
    world = World(1)
    world.drain(3_600_000)
    assert world.written() == 0
    feed(world, 10, Counter())
    world.drain(2 * 3_600_000)
    before = world.written()
    world.drain(3_600_000)
    assert world.written() == before


def test_a_window_with_traffic_in_one_lane_is_closed_by_one_announcement_of_each_lane():
    world = World(1)
    world.produce(USAGE, 0, b"k", orjson.dumps(usage(world.rng, world.now_ms) | {"at_ms": world.now_ms}))
    world.drain(1_800_000)
    closed = [
        orjson.loads(record.value) for lane in range(LANES) for record in world.log[COUNTS, lane] if record.key is None
    ]
    assert len(closed) == LANES * LANES
    assert {tuple(each) for each in closed} == {("closed", lane, T0 + WINDOW_MS) for lane in range(LANES)}
