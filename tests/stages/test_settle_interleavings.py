"""Whatever order decisions, outcomes, duplicates, redeliveries, time and restarts come in: one result, each price once.

The stage runs on a unit of its own: its two sources are read in any order, each in its own. A model that knows only
the contract watches what leaves.
"""

from dataclasses import dataclass, field, replace

import orjson
from aiokafka import ConsumerRecord
from faust.types import TP
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.config import loads
from router.contract.ids import request_id
from router.contract.records import Origin
from router.contract.topics import Names
from router.core.slip import Keyring, Slip, sign
from router.kafka.client import Client
from router.kafka.transport import Batch
from router.kafka.unit import Unit
from router.stages.context import Context
from router.stages.settle import build
from router.stages.settle_further import DIRECT_ATTEMPTS
from router.stages.settle_rows import KIND, OPEN

CONFIG = loads(
    """
    [settle]
    dedupe_window_s = 90
    [models.small]
    input_usd_per_mtok = 0.1
    output_usd_per_mtok = 0.4
    [models.mid]
    input_usd_per_mtok = 1
    output_usd_per_mtok = 4
    [models.odd]
    unpriced = true
    [pools.auto]
    models = ["small", "mid", "odd"]
    max_attempts = 4
    """
)
RING = Keyring((b"k" * 32,))
CONTEXT = Context(config=CONFIG, client=Client("127.0.0.1:1"), keyring=RING, partitions=1)
NAMES = Names()
WINDOW_MS = 90_000
DECISIONS, OUTCOMES = "llm.decisions", "llm.outcomes"
CUSTOM_IDS = ("r-1", "r-2")
CODES = ("http_503", "banned", "invalid_request")
STATUSES = ("ok", "error", "timeout", "rate_limited", "refused", "truncated")


@dataclass
class Life:
    """What must be remembered of a request within its window."""

    winner: Origin | None = None
    results: int = 0
    orders: int = 0
    ended: set[int] = field(default_factory=set)
    priced: set[tuple[int, str]] = field(default_factory=set)
    expires_ms: int | None = None


class Sink:
    """Takes what a turn commits."""

    def __init__(self):
        self.partition = 0
        self.partitions = dict.fromkeys(NAMES.all(["small"]), 1) | {"changelog": 1}
        self.outputs = {}

    async def commit(self, outputs, offsets):
        self.outputs = outputs
        return {}


def committed(unit):
    try:
        unit.commit({}).send(None)
    except StopIteration:
        return
    raise AssertionError("a commit into memory waits for nothing")


class Interleavings(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        (self.stage,) = build(CONTEXT)
        self.now_ms = 1_700_000_000_000
        self.logs = {DECISIONS: [], OUTCOMES: []}
        self.read = {DECISIONS: 0, OUTCOMES: 0}
        self.changelog = []
        self.sink = Sink()
        self.rows = self.stage.rows()
        self.index = self.stage.index(self.rows)
        self.work: list[Slip] = []
        self.lives: dict[str, Life] = {}
        self.offset = 0

    # What the world does

    @rule(
        custom_id=st.sampled_from(CUSTOM_IDS),
        lane=st.sampled_from(["interactive", "batch"]),
        deadline_ms=st.sampled_from([50, 5_000, 60_000]),
        model=st.sampled_from(["small", "mid", "odd"]),
        direct=st.booleans(),
    )
    def route_decides(self, custom_id, lane, deadline_ms, model, direct):
        slip = self.new_slip(custom_id, lane, deadline_ms)
        self.dispatch(
            replace(
                slip,
                attempt=1,
                model=model,
                reason="routed",
                pool=None if direct else "auto",
                cohort="direct" if direct else "pilot",
                propensity=1.0,
                policy_version="p:1",
                first_model=model,
            )
        )

    @rule(custom_id=st.sampled_from(CUSTOM_IDS), lane=st.sampled_from(["interactive", "batch"]))
    def route_refuses(self, custom_id, lane):
        self.decide(self.new_slip(custom_id, lane, 1_000), {"code": "budget_exceeded", "message": "m"})

    @precondition(lambda self: self.work)
    @rule(data=st.data(), status=st.sampled_from(STATUSES), code=st.sampled_from(CODES))
    def worker_answers(self, data, status, code):
        """Also again, also with another status: workers in other languages may be at least once."""
        slip = data.draw(st.sampled_from(self.work))
        outcome = {
            "request_id": slip.request_id,
            "attempt": slip.attempt,
            "model": slip.model,
            "status": status,
            "slip": sign(slip, RING),
            "body": {"served": slip.model, "attempt": slip.attempt} if status == "ok" else None,
            "endpoint": "e",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
            "error": None if status == "ok" else {"code": code, "message": "", "retry_after_ms": 40},
        }
        self.produce(OUTCOMES, slip, orjson.dumps(outcome), [], slip)

    @precondition(lambda self: self.work)
    @rule(data=st.data())
    def decision_comes_again(self, data):
        self.decide(data.draw(st.sampled_from(self.work)), None)

    @rule(ms=st.sampled_from([1, 200, 3_000, 60_000, 200_000]))
    def time_passes(self, ms):
        self.now_ms += ms

    # What settle does

    @rule(topic=st.sampled_from([DECISIONS, OUTCOMES]), most=st.integers(1, 4))
    def settle_reads(self, topic, most):
        begin = self.read[topic]
        for record, slip in self.logs[topic][begin : begin + most]:
            self.read[topic] += 1
            life = self.life_of(slip.request_id)
            before = life.results
            opens = not slip.of_order and (topic == DECISIONS or record.timestamp < slip.deadline_at_ms)
            if life.winner is None and opens:
                life.winner, life.expires_ms = slip.origin, None
            self.turn(lambda unit, record=record: self.stage.handle(self.batch(record), unit))
            self.watch_record(life, record, slip, before)

    @rule()
    def settle_ticks(self):
        self.turn(lambda unit: self.stage.tick(self.now_ms, unit))

    @rule(compacted=st.booleans())
    def settle_restarts(self, compacted):
        """From the changelog, as it was written or as Kafka's log cleaner leaves it."""
        rows = self.stage.rows()
        last = {key: number for number, (key, _) in enumerate(self.changelog)}
        for number, (key, value) in enumerate(self.changelog):
            if not compacted or last[key] == number:
                rows.absorb(key, value)
        assert dict(rows.items()) == dict(self.rows.items())
        assert (rows.kept, rows.floor_s) == (self.rows.kept, self.rows.floor_s)
        self.rows, self.index = rows, self.stage.index(rows)

    @invariant()
    def book_is_the_table(self):
        assert {OPEN + id16 for id16 in self.index.open} == {key for key, _ in self.rows.items() if key[:1] == OPEN}

    def teardown(self):
        """Whatever is open ends when its time has come."""
        while any(self.read[topic] < len(self.logs[topic]) for topic in self.logs):
            for topic in self.logs:
                self.settle_reads(topic, 100)
        self.now_ms += 100_000
        self.settle_ticks()
        assert not self.index.open
        assert all(life.results == 1 for life in self.lives.values() if life.winner is not None)
        self.now_ms += 10_000_000
        for _ in range(50):
            self.settle_ticks()
        left = {key: value for key, value in dict(self.changelog).items() if value is not None}
        assert {key[:1] for key in left} <= {KIND}, "an expired id leaves nothing in the changelog"
        assert self.rows.kept == 0

    # The model

    def watch_record(self, life, record, slip, before):
        is_outcome = record.topic == OUTCOMES
        in_time = record.timestamp < slip.deadline_at_ms
        outputs = self.outputs_of(slip.request_id)
        assert set(outputs) <= {"results", "usage", "redispatch", "redispatch.batch"}
        if not is_outcome:
            assert "usage" not in outputs
            assert "results" not in outputs or slip.origin == life.winner
            return
        pair = slip.attempt, slip.model
        assert len(outputs.get("usage", [])) == (pair not in life.priced), "each unique outcome is priced once"
        life.priced.add(pair)
        if life.winner is None and life.expires_ms is None:
            life.expires_ms = self.expiry(slip)
        outcome = orjson.loads(record.value)
        counts = life.winner == slip.origin and in_time and slip.attempt not in life.ended
        if before == 0 and counts and outcome["status"] == "ok":
            (result,) = outputs["results"]
            assert result["response"]["body"] == outcome["body"], "an ok outcome in time is the result"
            assert result["router"]["model"] == slip.model
        else:
            assert all(result["response"] is None for result in outputs.get("results", []))
        assert "results" not in outputs or counts, "neither a late outcome nor one of another origin settles"
        if life.winner == slip.origin and in_time:
            life.ended.add(slip.attempt)

    def life_of(self, id_):
        life = self.lives.get(id_)
        if life is None or (life.expires_ms is not None and self.read_to_ms() >= life.expires_ms):
            life = self.lives[id_] = Life()
        return life

    def watch_outputs(self):
        for (topic, _), records in self.sink.outputs.items():
            for key, value, headers in records:
                if topic in {"llm.redispatch", "llm.redispatch.batch"}:
                    self.watch_order(orjson.loads(value))
                elif topic == "llm.results":
                    self.watch_result(key, orjson.loads(value), headers)

    def watch_result(self, key, result, headers):
        life = self.lives[result["id"]]
        life.results += 1
        assert life.results == 1, "one result"
        assert dict(headers)["id"] == result["id"].encode()
        attempts = result["router"]["attempts"]
        assert (result["response"] is None) == (result["error"] is not None)
        dispatched = {(slip.attempt, slip.model) for slip in self.work if slip.origin == life.winner}
        made = [(attempt["attempt"], attempt["model"]) for attempt in attempts]
        assert set(made) <= dispatched, "attempts of the winning origin alone"
        assert len({attempt for attempt, _ in made}) == len(made)
        costs = [attempt["cost_nano_usd"] for attempt in attempts if attempt["endpoint"] is not None]
        total = None if None in costs else sum(costs)
        assert (result["router"]["cost_nano_usd"], result["router"]["cost_unknown"]) == (total, total is None)
        slip = next(slip for log in self.logs.values() for _, slip in log if slip.request_id == result["id"])
        assert result["custom_id"] == slip.custom_id
        deadline_ms = max(
            slip.deadline_at_ms for log in self.logs.values() for _, slip in log if slip.origin == self.origin_of(key)
        )
        life.expires_ms = self.expiry_at(deadline_ms)

    def watch_order(self, order):
        life = self.lives[order["request_id"]]
        assert life.results == 0, "no order after the result"
        life.orders += 1
        assert life.orders < 4 + 3, "four attempts that were made, and one a model that was banned"
        slip = next(slip for slip in self.work if slip.origin == Origin(**order["origin"]))
        assert slip.origin == life.winner
        model = order["prefer"] or min({"small", "mid", "odd"} - set(order["exclude"]))
        assert order["prefer"] is not None or slip.pool is not None, "a direct request never falls back"
        if self.offset % 4:
            self.dispatch(replace(slip, attempt=order["attempt"], model=model, reason=order["reason"], of_order=True))
        else:
            refused = replace(slip, attempt=0, model=None, reason=None, of_order=True)
            self.decide(refused, {"code": "no_model_available", "message": "m"})

    # How it is done

    def new_slip(self, custom_id, lane, deadline_ms):
        self.offset += 1
        topic = "llm.requests" + (".batch" if lane == "batch" else "")
        return Slip(
            request_id=request_id("default", custom_id),
            attempt=0,
            model=None,
            reason=None,
            origin=Origin(topic=topic, partition=0, offset=self.offset),
            at_ms=self.now_ms,
            deadline_at_ms=self.now_ms + deadline_ms,
            key=b"%d" % self.offset,
            tenant="default",
            custom_id=custom_id,
            metadata=None,
            lane=lane,
        )

    def origin_of(self, key):
        return next(slip.origin for log in self.logs.values() for _, slip in log if slip.origin.offset == int(key))

    def expiry(self, slip):
        return self.expiry_at(slip.deadline_at_ms)

    def expiry_at(self, deadline_ms):
        return -(-max(deadline_ms + WINDOW_MS, self.now_ms + WINDOW_MS) // 1000) * 1000

    def dispatch(self, slip):
        self.work.append(slip)
        self.decide(slip, None)

    def decide(self, slip, error):
        value = orjson.dumps({"request_id": slip.request_id, "attempt": slip.attempt, "error": error})
        self.produce(DECISIONS, slip, value, [("slip", sign(slip, RING).encode())], slip)

    def produce(self, topic, slip, value, headers, of):
        log = self.logs[topic]
        record = ConsumerRecord(
            topic, 0, len(log), self.now_ms, 1, of.request_id.encode(), value, None, 0, len(value), tuple(headers)
        )
        log.append((record, slip))

    def batch(self, record):
        return Batch(TP(record.topic, 0), [record], record.offset + 1)

    def read_to_ms(self):
        unread = [log[self.read[topic]][0].timestamp for topic, log in self.logs.items() if self.read[topic] < len(log)]
        return min([self.now_ms, *(at_ms - 1 for at_ms in unread)])

    def turn(self, work):
        unit = Unit(self.sink, self.rows, "changelog", self.index)
        unit.now_ms, unit.read_to_ms = self.now_ms, self.read_to_ms()
        work(unit)
        committed(unit)
        self.changelog += [(key, value) for key, value, _ in self.sink.outputs.pop(("changelog", 0), [])]
        self.rows.apply(unit.changes)
        self.watch_outputs()

    def outputs_of(self, id_):
        found: dict[str, list[dict]] = {}
        for (topic, _), records in self.sink.outputs.items():
            for _, value, _ in records:
                content = orjson.loads(value)
                if id_ in {content.get("id"), content.get("request_id")}:
                    found.setdefault(topic.removeprefix("llm."), []).append(content)
        return found


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, report_multiple_bugs=False
)
assert DIRECT_ATTEMPTS == 4
