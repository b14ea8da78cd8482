"""Settle on the in-memory log: what goes in by the contract, what comes out by the contract."""

from dataclasses import fields, replace
from types import SimpleNamespace

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode
from router.contract.ids import request_id
from router.contract.records import DeadLetter, Origin, Result
from router.contract.topics import MAX_ANSWER_BYTES
from router.core.records import Load, Order, PricedAttempt
from router.core.slip import Keyring, Slip, sign
from router.core.token import open_token
from router.kafka.client import Client
from router.kafka.stage import Standing
from router.stages import settle
from router.stages.context import Context
from router.stages.settle import BEHIND, MOST_OPEN, build
from router.stages.settle_rows import OPEN
from router.testing import MemoryLog

CONFIG = """
[settle]
dedupe_window_s = 7200
dedupe_max_ids = {max_ids}
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
price_version = "2026-11-01"
[models.large]
input_usd_per_mtok = 1
output_usd_per_mtok = 4
[models.odd]
unpriced = true
[pools.auto]
models = ["small", "odd", "large"]
"""
RING = Keyring((b"k" * 32,))
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}
WINDOW_MS = 7_200_000


class World:
    """Route and workers, as settle sees them."""

    def __init__(self, max_ids=1000):
        context = Context(
            config=loads(CONFIG.format(max_ids=max_ids)), client=Client("127.0.0.1:1"), keyring=RING, partitions=4
        )
        (self.stage,) = build(context)
        self.log = MemoryLog(self.stage)
        self.produced = 0

    def slip(self, custom_id="r-1", **more):
        self.produced += 1
        now_ms = self.log.clock()
        values = {
            "request_id": request_id("acme", custom_id),
            "attempt": 1,
            "model": "small",
            "reason": "routed",
            "origin": Origin(topic="llm.requests", partition=3, offset=self.produced),
            "at_ms": now_ms,
            "deadline_at_ms": now_ms + 60_000,
            "key": b"\x00\xffkey",
            "tenant": "acme",
            "custom_id": custom_id,
            "metadata": {"any": "thing"},
            "lane": "interactive",
            "pool": "auto",
            "stratum": "math/hard",
            "cohort": "pilot",
            "propensity": 0.93,
            "policy_version": "thompson:1287",
            "first_model": "small",
            "baseline": "large",
        }
        return Slip(**values | more)

    def decide(self, slip, error=None, headers=()):
        value = orjson.dumps({"request_id": slip.request_id, "attempt": slip.attempt, "error": error})
        self.log.produce(
            "llm.decisions", slip.request_id.encode(), value, headers=[("slip", sign(slip, RING).encode()), *headers]
        )
        self.log.run()

    def refuse(self, slip, code):
        self.decide(replace(slip, attempt=0, model=None, reason=None), {"code": code, "message": "why"})

    def answer(self, slip, status="ok", /, *, partition=None, headers=(), **more):
        values = {
            "request_id": slip.request_id,
            "attempt": slip.attempt,
            "model": slip.model,
            "status": status,
            "slip": sign(slip, RING),
            "usage": {"prompt_tokens": 100, "completion_tokens": 10},
            "endpoint": "eu-1",
            "served_model": "small-2026-05",
            "latency_ms": 820,
            "body": ANSWER if status == "ok" else None,
            "error": None if status == "ok" else {"code": "http_503", "message": "no"},
        }
        value = orjson.dumps(values | more)
        self.log.produce("llm.outcomes", slip.request_id.encode(), value, partition=partition, headers=headers)
        self.log.run()

    def read(self, topic, kind):
        return [decode(kind, record.value) for record in self.log.records(topic)]

    @property
    def results(self):
        return self.read("llm.results", Result)

    @property
    def orders(self):
        return self.read("llm.redispatch", Order) + self.read("llm.redispatch.batch", Order)

    @property
    def usage(self):
        return self.read("llm.usage", PricedAttempt)

    @property
    def reasons(self):
        return [letter.reason.code for letter in self.read("llm.dead-letter", DeadLetter)]

    @property
    def loads(self):
        return self.read("llm.load", Load)


@pytest.fixture
def world():
    return World()


def test_answer_becomes_the_result_of_the_contract(world):
    slip = world.slip()
    world.decide(slip, headers=[("traceparent", b"00-1-2-01"), ("other", b"x")])
    world.log.advance(830)
    world.answer(slip)
    (record,) = world.log.records("llm.results")
    assert record.key == slip.key
    assert record.partition == world.log.records("llm.decisions")[0].partition
    assert dict(record.headers) == {
        "id": slip.request_id.encode(),
        "lane": b"interactive",
        "traceparent": b"00-1-2-01",
    }
    result = orjson.loads(record.value)
    token = result["router"].pop("feedback_token")
    cost_nano_usd = 100 * 100 + 10 * 400
    assert result == {
        "id": slip.request_id,
        "custom_id": "r-1",
        "response": {"status_code": 200, "request_id": slip.request_id, "body": ANSWER},
        "error": None,
        "router": {
            "tenant": "acme",
            "pool": "auto",
            "model": "small",
            "stratum": "math/hard",
            "cohort": "pilot",
            "propensity": 0.93,
            "policy_version": "thompson:1287",
            "cost_nano_usd": cost_nano_usd,
            "cost_unknown": False,
            "latency_ms": 830,
            "metadata": {"any": "thing"},
            "attempts": [
                {
                    "attempt": 1,
                    "model": "small",
                    "endpoint": "eu-1",
                    "served_model": "small-2026-05",
                    "status": "ok",
                    "reason": "routed",
                    "latency_ms": 820,
                    "cost_nano_usd": cost_nano_usd,
                    "price_version": "2026-11-01",
                    "confidence": None,
                }
            ],
        },
    }
    facts = open_token(token, RING, world.log.clock())
    assert (facts.request_id, facts.model, facts.answered_by_attempt) == (slip.request_id, "small", 1)


def test_usage_tells_the_price_and_what_the_baseline_would_have_cost(world):
    slip = world.slip()
    world.answer(slip)
    (usage,) = world.usage
    assert (usage.cost_nano_usd, usage.baseline_cost_nano_usd) == (14_000, 140_000)
    assert (usage.at_ms, usage.late, usage.reason) == (world.log.clock(), False, "routed")
    assert (usage.baseline, usage.baseline_output_nano_usd_per_token) == ("large", 4_000)
    assert usage.served_model == "small-2026-05"
    assert orjson.loads(world.log.records("llm.usage")[0].value).keys() == {
        field.name for field in fields(PricedAttempt)
    }


def test_refusal_becomes_the_result(world):
    world.refuse(world.slip(pool=None, cohort=None, propensity=None), "budget_exceeded")
    (result,) = world.results
    assert result.error.code == "budget_exceeded"
    assert result.router.attempts == []
    assert (result.router.cost_nano_usd, result.router.cost_unknown) == (0, False)


def test_failure_is_ordered_anew_where_the_request_lies(world):
    slip = world.slip()
    world.decide(slip, headers=[("traceparent", b"00-1-2-01")])
    world.answer(slip, "error")
    assert world.orders == []
    world.log.advance(1_000)
    (record,) = world.log.records("llm.redispatch")
    assert (record.partition, record.key) == (3, slip.request_id.encode())
    assert dict(record.headers) == {"traceparent": b"00-1-2-01"}
    (order,) = world.orders
    assert (order.attempt, order.reason, order.prefer, order.last_error) == (2, "retry", "small", "provider_error")
    world.log.advance(10_000)
    assert len(world.orders) == 1


def test_fallback_is_ordered_in_the_same_turn_and_in_the_lane_of_the_request(world):
    slip = world.slip(lane="batch")
    world.decide(slip)
    world.answer(slip, "rate_limited")
    assert [order.exclude for order in world.read("llm.redispatch.batch", Order)] == [("small",)]


def test_all_attempts_and_their_costs_are_in_the_result(world):
    slip = world.slip()
    world.answer(slip, "rate_limited")
    second = replace(slip, attempt=2, model="large", reason="fallback")
    world.decide(second)
    world.answer(second)
    (result,) = world.results
    assert result.router.model == "large"
    assert result.router.cost_nano_usd == 14_000 + 140_000
    assert [(each.model, each.status, each.cost_nano_usd) for each in result.router.attempts] == [
        ("small", "rate_limited", 14_000),
        ("large", "ok", 140_000),
    ]


def test_unknown_price_is_never_zero(world):
    slip = world.slip(model="odd")
    world.answer(slip)
    (result,) = world.results
    assert (result.router.cost_nano_usd, result.router.cost_unknown) == (None, True)
    assert world.usage[0].cost_nano_usd is None


def test_null_usage_counts_as_no_tokens(world):
    world.answer(world.slip(), usage=None)
    assert world.results[0].router.cost_nano_usd == 0


def test_deadline_fires_with_no_worker_alive(world):
    world.decide(world.slip())
    world.log.advance(59_999)
    assert world.results == []
    world.log.advance(1)
    (result,) = world.results
    assert result.error.code == "deadline_exceeded"
    assert [(each.status, each.cost_nano_usd) for each in result.router.attempts] == [("timeout", None)]
    assert (result.router.cost_nano_usd, result.router.model, result.router.feedback_token) == (0, None, None)


@pytest.mark.parametrize(("due_s", "turns"), [(0.0, 2), (60.0, 1)])
def test_deadlines_at_once_fire_by_time_and_never_few_at_a_time(world, monkeypatch, due_s, turns):
    monkeypatch.setattr(settle, "DUE_S", due_s)
    for number in range(4 * 500):
        slip = world.slip(f"r-{number}")
        headers = [("slip", sign(slip, RING).encode())]
        world.log.produce("llm.decisions", slip.request_id.encode(), b"{}", headers=headers)
    world.log.run()
    world.log.advance(60_000)
    assert len({result.id for result in world.results}) == 4 * 500
    written = [record for record in world.log.records("llm-settle-rows-changelog") if record.key[:1] == b"s"]
    assert len(written) == 4 * turns, "the ids that a turn of a partition settles are one record"


def test_every_one_of_tens_of_thousands_open_ends_by_its_deadline(world):
    """Enough for each heap of a partition to be made anew several times."""
    deadlines = {}
    for number in range(40_000):
        slip = world.slip(f"r-{number}", deadline_at_ms=world.log.clock() + 60_000 + number % 977)
        deadlines[slip.request_id] = slip.deadline_at_ms
        headers = [("slip", sign(slip, RING).encode())]
        world.log.produce("llm.decisions", slip.request_id.encode(), b"{}", headers=headers)
    world.log.run()
    world.log.advance(62_000, step_ms=100)
    results = world.log.records("llm.results")
    assert len(results) == 40_000
    assert {dict(record.headers)["id"].decode() for record in results} == deadlines.keys()
    late = [record.timestamp - deadlines[dict(record.headers)["id"].decode()] for record in results]
    assert min(late) >= 0
    assert max(late) <= 200
    assert {load.overdue for load in world.loads} == {0}


def test_late_answer_is_priced_once_and_changes_nothing(world):
    slip = world.slip()
    world.decide(slip)
    world.log.advance(60_000)
    world.answer(slip)
    world.answer(slip)
    assert len(world.results) == 1
    assert [usage.late for usage in world.usage] == [True]


def test_late_answer_that_settle_reads_first_is_priced_once_and_its_request_still_ends(world):
    slip = world.slip()
    world.log.clock.advance(60_000)
    world.answer(slip)
    world.answer(slip)
    assert world.results == []
    world.decide(slip)
    world.log.advance(1)
    assert [result.error.code for result in world.results] == ["deadline_exceeded"]
    assert len(world.usage) == 1


def test_answer_in_time_wins_however_late_settle_reads_it(world):
    slip = world.slip()
    world.decide(slip)
    world.log.clock.advance(50_000)
    key = slip.request_id.encode()
    value = {"request_id": slip.request_id, "attempt": 1, "model": "small", "status": "ok", "body": ANSWER}
    world.log.produce("llm.outcomes", key, orjson.dumps(value | {"slip": sign(slip, RING)}))
    world.log.clock.advance(600_000)
    world.log.run()
    assert [result.error for result in world.results] == [None]


def test_request_that_settles_in_the_turn_that_opens_it_leaves_no_row_in_the_changelog(world):
    slip = world.slip()
    world.log.produce("llm.decisions", slip.request_id.encode(), b"{}", headers=[("slip", sign(slip, RING).encode())])
    world.answer(slip)
    other = world.slip("r-2")
    world.decide(other)
    world.answer(other)
    assert len(world.results) == 2
    rows = [record for record in world.log.records("llm-settle-rows-changelog") if record.key[:1] == OPEN]
    assert [(record.key[1:].hex(), record.value is None) for record in rows] == [
        (other.request_id, False),
        (other.request_id, True),
    ]


def test_duplicates_stay_silent_for_the_window_also_after_a_restart(world):
    first, second = world.slip(), world.slip(lane="batch", key=None)
    world.answer(first)
    world.log.restart(world.stage)
    world.decide(second)
    world.answer(second)
    world.refuse(world.slip(), "budget_exceeded")
    world.log.advance(WINDOW_MS - 10_000)
    world.decide(world.slip())
    assert len(world.results) == 1
    assert len(world.usage) == 1
    world.log.advance(WINDOW_MS)
    world.answer(world.slip())
    assert len(world.results) == 2


def test_answer_of_a_duplicate_on_another_model_is_priced_too(world):
    world.answer(world.slip())
    duplicate = world.slip(model="large", lane="batch")
    world.answer(duplicate)
    world.answer(duplicate)
    assert [usage.model for usage in world.usage] == ["small", "large"]
    assert len(world.results) == 1


def test_answers_to_an_order_of_a_request_settled_and_forgotten_since_open_nothing(world):
    """Route was down past the deadline, and the id is forgotten when it comes back."""
    slip = world.slip()
    world.decide(slip)
    world.answer(slip, "error")
    world.log.advance(60_000)
    assert [result.error.code for result in world.results] == ["deadline_exceeded"]
    world.log.advance(2 * WINDOW_MS, step_ms=WINDOW_MS)
    late = replace(slip, of_order=True, deadline_at_ms=world.log.clock() + 1_000)
    world.refuse(late, "deadline_exceeded")
    world.decide(replace(late, attempt=2))
    world.answer(replace(late, attempt=2))
    world.log.advance(60_000)
    assert len(world.results) == 1
    assert [usage.attempt for usage in world.usage] == [1, 2]


def test_open_requests_survive_a_restart(world):
    slip = world.slip()
    world.decide(slip)
    world.answer(slip, "error")
    world.log.restart(world.stage)
    world.log.advance(1_000)
    assert len(world.orders) == 1
    world.log.restart(world.stage)
    world.log.advance(60_000)
    assert [result.error.code for result in world.results] == ["deadline_exceeded"]
    assert len(world.orders) == 1


@pytest.mark.parametrize(
    "forged",
    [{"slip": "hostile"}, {"slip": ""}, {"model": "large"}, {"attempt": 2}, {"request_id": "0" * 32}],
)
def test_outcome_that_does_not_fit_its_slip_is_a_dead_letter(world, forged):
    world.answer(world.slip(), **forged)
    assert world.reasons == ["wrong_slip"]
    assert (world.results, world.usage) == ([], [])


@pytest.mark.parametrize("value", [b"{", b"[]", b"\xff", b'{"request_id": 1}', b"{}"])
def test_unreadable_outcome_is_a_dead_letter(world, value):
    world.log.produce("llm.outcomes", b"\xff", value)
    world.log.run()
    assert world.reasons == ["invalid_outcome"]


def test_key_of_megabytes_stops_nobody(world):
    record = world.log.produce("llm.outcomes", b"k" * 4_000_000, b"{")
    world.log.run()
    world.log.give_up("llm-settle", record)
    assert world.reasons == ["invalid_outcome", "internal_error"]
    assert all(len(letter.key or b"") + len(letter.value) < 2**20 for letter in world.log.records("llm.dead-letter"))


def test_null_value_is_skipped(world):
    world.log.produce("llm.outcomes", None, None)
    world.log.produce("llm.decisions", None, None)
    world.log.run()
    assert world.reasons == []


@pytest.mark.parametrize("value", [None, b"x" * 100_000])
def test_trace_that_is_null_or_too_long_does_not_travel(world, value):
    slip = world.slip()
    world.decide(slip, headers=[("traceparent", value), ("schema", None)])
    world.answer(slip, headers=[("traceparent", value)])
    (record,) = world.log.records("llm.results")
    assert [name for name, _ in record.headers] == ["id", "lane"]
    world.answer(world.slip("r-2"), headers=[("traceparent", value)])
    assert len(world.results) == 2


def test_results_do_not_take_over_the_schema_of_a_decision(world):
    slip = world.slip()
    world.decide(slip, headers=[("schema", b"7")])
    world.answer(slip)
    assert "schema" not in dict(world.log.records("llm.results")[0].headers)


def test_decision_without_a_slip_is_a_dead_letter(world):
    world.log.produce("llm.decisions", b"k", b"{}")
    world.log.produce("llm.decisions", b"k", b"{}", headers=[("slip", b"\xff\xfe")])
    world.log.produce("llm.decisions", b"k", b"{}", headers=[("slip", None)])
    world.log.run()
    assert world.reasons == ["wrong_slip"] * 3


def test_refusal_without_an_error_is_a_dead_letter(world):
    world.decide(replace(world.slip(), attempt=0, model=None, reason=None), error="text")
    assert world.reasons == ["invalid_decision"]


@pytest.mark.parametrize("code", ["x" * 100_000, "of_a_later_release", 7, ["a"]])
def test_refusal_with_a_code_that_nobody_knows_ends_its_request_with_internal_error(world, code):
    refused = replace(world.slip(), attempt=0, model=None, reason=None)
    world.decide(refused, {"code": code, "message": "m" * 100_000})
    (result,) = world.results
    assert (result.error.code, result.error.message) == ("internal_error", "m" * 2_000)


def test_outcome_in_a_partition_that_is_not_its_own_settles_nothing(world):
    slip = world.slip()
    world.decide(slip)
    home = world.log.records("llm.decisions")[0].partition
    world.answer(slip, partition=(home + 1) % 4)
    assert world.reasons == ["invalid_outcome"]
    assert world.results == []


def test_answer_over_the_limit_falls_back(world):
    world.answer(world.slip(), body={"text": "x" * (MAX_ANSWER_BYTES + 100_000)})
    assert world.results == []
    assert [order.reason for order in world.orders] == ["fallback"]


def test_names_of_half_a_megabyte_are_cut(world):
    long = "x" * 500_000
    world.answer(world.slip(), "rate_limited", served_model=long, endpoint=long, error={"code": long, "message": long})
    world.log.advance(60_000)
    (attempt,) = world.results[0].router.attempts
    assert (attempt.served_model, attempt.endpoint) == ("x" * 256, "x" * 256)
    assert world.usage[0].error_code == "x" * 256
    assert world.reasons == []
    assert all(len(record.value or b"") < 10_000 for record in world.log.records("llm-settle-rows-changelog"))


def test_record_that_ends_the_process_again_and_again_ends_its_request(world):
    slip = world.slip()
    world.decide(slip)
    record = world.log.records("llm.decisions")[0]
    world.log.give_up("llm-settle", record)
    assert world.reasons == ["internal_error"]
    assert [result.error.code for result in world.results] == ["internal_error"]


def test_decision_that_cannot_be_handled_ends_its_request_all_the_same(world):
    slip = world.slip()
    record = world.log.produce(
        "llm.decisions", slip.request_id.encode(), b"{}", headers=[("slip", sign(slip, RING).encode())]
    )
    world.log.give_up("llm-settle", record)
    assert [result.error.code for result in world.results] == ["internal_error"]
    world.answer(slip)
    assert len(world.results) == 1


def test_load_tells_what_is_open_and_is_silent_when_nothing_is(world):
    slip = world.slip()
    world.decide(slip)
    partition = world.log.records("llm.decisions")[0].partition
    load = [load for load in world.loads if load.partition == partition][-1]
    assert (load.open, load.oldest_at_ms) == ({"interactive": 1, "batch": 0}, {"interactive": slip.at_ms})
    world.log.advance(100)
    world.answer(slip)
    load = [load for load in world.loads if load.partition == partition][-1]
    assert (load.open["interactive"], load.oldest_at_ms) == (0, {})
    world.log.advance(2_000, step_ms=100)
    said = len(world.loads)
    world.log.advance(60_000, step_ms=1_000)
    assert len(world.loads) == said


def test_only_the_newest_ids_are_kept(world):
    """``dedupe_max_ids`` is judged by the minute and the partition."""
    for number in range(600):
        world.answer(world.slip(f"r-{number}"))
    world.log.advance(120_000)
    for number in range(600, 1_800):
        world.answer(world.slip(f"r-{number}"))
    world.log.advance(60_000, step_ms=1_000)
    kept = [world.log.rows(world.stage, partition).kept for partition in range(4)]
    assert sum(kept) == 1_200
    world.log.restart(world.stage)
    assert [world.log.rows(world.stage, partition).kept for partition in range(4)] == kept


def test_memory_of_ids_is_flat_when_they_expire(world):
    for number in range(400):
        world.answer(world.slip(f"r-{number}"))
    world.log.advance(2 * WINDOW_MS)
    world.log.advance(60_000, step_ms=30)
    rows = [world.log.rows(world.stage, partition) for partition in range(4)]
    assert [(row.kept, len(row.ids)) for row in rows] == [(0, 0)] * 4
    assert {key[:1] for row in rows for key, _ in row.items()} <= {b"k"}


def test_decisions_wait_while_many_requests_are_open_and_outcomes_unread(world):
    decisions, outcomes = "llm.decisions", "llm.outcomes"

    def holds(topic, *, opened=0, taken=0, unread=0):
        index = SimpleNamespace(open=dict.fromkeys(range(opened)))
        return world.stage.holds(
            topic, Standing(index, {decisions: taken, outcomes: 0}, {decisions: 9_999, outcomes: unread})
        )

    assert holds(decisions, opened=MOST_OPEN + 1, unread=BEHIND + 1)
    assert holds(decisions, taken=MOST_OPEN + 1, unread=BEHIND + 1)
    assert not holds(outcomes, opened=MOST_OPEN + 1, unread=BEHIND + 1)
    assert not holds(decisions, opened=MOST_OPEN, unread=BEHIND + 1)
    assert not holds(decisions, opened=MOST_OPEN + 1, unread=BEHIND)
