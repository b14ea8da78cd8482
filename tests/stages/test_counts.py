"""Long prompts whose exact count matters are counted beside the lane: nobody waits for them, nothing is lost, what is decided is replayed."""

from __future__ import annotations

import orjson
import pytest

from router.contract.codec import decode
from router.contract.ids import request_id
from router.contract.records import Origin
from router.core import tokens
from router.core.records import Order
from router.core.tokens import TokenCount
from router.history.replay import Snapshots, Verdict, replay
from router.stages import route_counts
from router.stages.route import build
from router.stages.route_counts import AHEAD, AHEAD_CHARS, MAX_CHARS_OF_TENANT, MAX_OF_TENANT, Counts, exactly
from router.stages.route_intake import COUNTED_AT_ONCE, by_length
from tests.stages.test_route import CONFIG, NAMES, World
from tests.stages.test_tenants import Limited

#: Small's window; large has more.
WINDOW = 20_000
#: Words that are a token each, and a frame of 7.
LONG = " word" * 19_000
LONG_TOKENS = 19_007


class Long(World):
    """``held``: what is to be counted waits, as if each count took for ever."""

    def __init__(self, *, held=False, config=CONFIG):
        super().__init__(config.replace("context_window = 1000", f"context_window = {WINDOW}"))
        if held:
            self.hold()

    def hold(self):
        self.aside, self.log._asides[:] = list(self.log._asides), []

    def release(self):
        self.log._asides[:] = self.aside
        return self.run()

    def restart(self):
        """Another process: its lanes begin with their tables."""
        self.route, self.batch = build(self.context)
        for stage in (self.route, self.batch):
            self.log.restart(stage)
        return self.run()

    def decided(self):
        return [
            (one.request_id, one.attempt, one.features and one.features["prompt_tokens"]) for one in self.decisions()
        ]

    def waiting(self, lane="route"):
        rows = [self.log.rows(getattr(self, lane), partition) for partition in range(4)]
        return [key for one in rows for key, _ in one.items() if key[:1] == route_counts.WAITS]


def rid(custom_id, tenant="default"):
    return request_id(tenant, custom_id)


def test_others_of_its_batch_go_on_while_a_long_prompt_waits_for_its_count_and_none_is_lost():
    world = Long(held=True)
    world.ask("before")
    world.ask("long", text=LONG)
    world.ask("after")
    world.run()
    assert [found[0] for found in world.decided()] == [rid("before"), rid("after")]
    assert len(world.waiting()) == 1
    world.release()
    assert world.decided()[2:] == [(rid("long"), 1, LONG_TOKENS)]
    assert world.waiting() == []
    decision = world.decisions()[2]
    assert decision.origin == Origin(topic="llm.requests", partition=decision.origin.partition, offset=1)
    assert not decision.features["tokens_estimated"]
    assert len(world.work("small")) + len(world.work("large")) == 3


def test_what_is_decided_of_a_counted_prompt_is_replayed_to_the_byte():
    world = Long()
    world.ask("long", text=LONG, router={"deadline_ms": 9_000}, headers=[("traceparent", b"00-1-2-01")])
    world.run()
    (record,) = world.log.records(NAMES.of("decisions"))
    snapshots = Snapshots({one.key.decode(): one.value for one in world.log.records(NAMES.of("snapshots"))})
    assert replay(record.value, snapshots).verdict == Verdict.IDENTICAL
    (slip,) = world.slips()
    assert slip.deadline_at_ms == slip.at_ms + 9_000
    assert dict(record.headers)["traceparent"] == b"00-1-2-01"


@pytest.mark.parametrize("over", [0, 1])
def test_the_window_is_held_to_the_token(over):
    """A pin leaves small alone: what does not fit is refused."""
    world = Long()
    world.control("pool:auto", "pin", model="small")
    world.log.advance(1)
    answer = 500
    world.ask("r", text=" word" * (WINDOW - 7 - answer + over), body={"max_tokens": answer})
    world.run()
    (decision,) = world.decisions()
    assert (decision.error and decision.error.code) == ("context_length_exceeded" if over else None)
    assert len(world.work("small")) == 1 - over


def test_a_crash_loses_a_count_and_no_request():
    world = Long(held=True)
    for number in range(3):
        world.ask(f"long-{number}", text=LONG, key=bytes([number]))
    world.run()
    assert world.decided() == []
    world.restart()
    assert sorted(world.decided()) == sorted((rid(f"long-{number}"), 1, LONG_TOKENS) for number in range(3))
    world.release()  # what the dead process would have found concerns nobody any more
    assert len(world.decided()) == 3
    assert world.waiting() == []


def test_a_duplicate_of_one_that_waits_is_dropped():
    world = Long(held=True)
    world.ask("long", text=LONG)
    world.ask("long", text=LONG)
    world.run()
    assert len(world.waiting()) == 1
    world.release()
    assert len(world.decided()) == 1


def test_a_further_attempt_is_counted_too_and_stays_one():
    world = Long()
    asked = world.ask("r-1", text=LONG)
    world.order(asked)
    world.run()
    assert sorted(world.decided()) == [(rid("r-1"), attempt, LONG_TOKENS) for attempt in (1, 2)]
    retried = next(one for one in world.decisions() if one.attempt == 2)
    assert retried.reason == "retry"
    assert retried.features["first"]["model"] == "small"


def test_one_whose_body_is_gone_meanwhile_ends_as_such():
    world = Long(held=True)
    asked = world.ask("long", text=LONG)
    world.run()
    records = world.log.partition((asked.topic, asked.partition))
    records[asked.offset] = None
    world.release()
    assert world.errors() == [(0, "internal_error")]


def test_a_tenant_that_sends_too_many_is_refused_and_others_are_not(monkeypatch):
    monkeypatch.setattr(route_counts, "MAX_OF_TENANT", 2)
    world = Long(held=True)
    for number in range(4):
        world.ask(f"long-{number}", text=LONG, router={"tenant": "hostile"})
    world.ask("long", text=LONG, router={"tenant": "other"})
    world.run()
    refused = [(one.request_id, one.error.code) for one in world.decisions()]
    assert refused == [(rid(f"long-{number}", "hostile"), "overloaded") for number in (2, 3)]
    world.release()
    assert len(world.decided()) == 5
    assert world.decided()[-1] == (rid("long-1", "hostile"), 1, LONG_TOKENS), "tenants take turns"


def test_batch_requests_are_never_refused_but_left_unread_while_many_wait(monkeypatch):
    monkeypatch.setattr("router.stages.route.MAX_WAITING", 3)
    monkeypatch.setattr(route_counts, "MAX_OF_TENANT", 1)
    world = Long(held=True, config=CONFIG.replace("max_inflight = 10", "max_inflight = 1000"))
    world.log.batch_records = 1
    for number in range(8):
        world.ask(f"long-{number}", text=LONG, lane="batch")
        world.run()
    assert (len(world.waiting("batch")), world.decided()) == (3, [])
    world.release()
    assert sorted(world.decided()) == sorted((rid(f"long-{number}"), 1, LONG_TOKENS) for number in range(8))


def test_tokens_of_a_long_prompt_are_taken_from_the_tenants_limit_to_the_token():
    world = Limited("[tenants.acme]\ntokens_per_minute = 50000")
    messages = [{"role": "user", "content": LONG}]
    for _ in range(3):
        world.ask(body={"messages": messages}, at=0)
    world.go(3)
    assert world.codes() == {"ok": 2, "rate_limited": 1}
    assert [one["features"]["prompt_tokens"] for one in world.decided()] == [LONG_TOKENS] * 2
    assert {kind: one.used for kind, one in world.states()["acme"].items()} == {"tokens": 2 * LONG_TOKENS}


# --- which ones, and whose turn it is ---


def test_short_prompts_are_counted_at_once_whatever_long_ones_come_with_them():
    assert by_length({0: COUNTED_AT_ONCE, 1: 40, 2: 30}, COUNTED_AT_ONCE) == [2, 1]
    world = Long(held=True)
    limited = {"max_cost_nano_usd": 10**12}
    world.ask("long", text=LONG, router=limited)
    world.ask("short", text=" word" * 2_000, router=limited)
    world.run()
    assert len(world.waiting()) == 1
    assert world.decided() == [(rid("short"), 1, 2_007)]


def orders(count, tenant, first=0):
    return [
        Order(
            request_id=rid(f"{tenant}-{number}"),
            attempt=1,
            reason="routed",
            lane="interactive",
            origin=Origin(topic="llm.requests", partition=0, offset=first + number),
            at_ms=0,
            deadline_at_ms=60_000,
            first=None,
        )
        for number in range(count)
    ]


class Taken:
    """In the place of ``Aside``: notes what is asked, gives what the test says."""

    def __init__(self):
        self.asked, self.answers = [], {}

    def ask(self, lane, key, place):
        self.asked.append((key, place[2]))

    def take(self, lane):
        found, self.answers = self.answers, {}
        return found


class Told:
    """What ``Counts`` needs of a unit."""

    partition = 0

    def __init__(self):
        self.rows, self.emitted = {}, []

    def put(self, key, value):
        self.rows[key] = value
        if value is None:
            del self.rows[key]

    def emit(self, topic, key, value, **how):
        self.emitted.append(decode(Order, value))


def test_tenants_take_turns_and_no_more_is_asked_than_the_next_tick_needs():
    counts, unit, counting = Counts([]), Told(), Taken()
    for order in orders(10, "a"):
        counts.wait(order, tenant="a", chars=AHEAD_CHARS // 2, headers=(), unit=unit)
    for order in orders(2, "b", first=100):
        counts.wait(order, tenant="b", chars=10, headers=(), unit=unit)
    counts.tick(counting, "topic", unit)
    assert [offset for _, offset in counting.asked] == [0, 100, 1], "a megabyte ahead, tenants in turn"
    counts.tick(counting, "topic", unit)
    assert len(counting.asked) == 3
    counting.answers = {key: TokenCount(5, estimated=True) for key, _ in counting.asked}
    counts.tick(counting, "topic", unit)
    assert [(one.origin.offset, one.counted, one.counted_inexact) for one in unit.emitted] == [
        (0, 5, True),
        (100, 5, True),
        (1, 5, True),
    ]
    assert [offset for _, offset in counting.asked[3:]] == [101, 2, 3]
    assert len(counts) == len(unit.rows) == 9


def test_short_ones_are_asked_by_number():
    counts, unit, counting = Counts([]), Told(), Taken()
    for order in orders(3 * AHEAD, "a"):
        counts.wait(order, tenant="a", chars=1, headers=(), unit=unit)
    counts.tick(counting, "topic", unit)
    assert len(counting.asked) == AHEAD


def test_what_waited_waits_again_where_the_lane_opens_anew_in_the_same_order():
    counts, unit, counting = Counts([]), Told(), Taken()
    for order in orders(4, "a"):
        counts.wait(order, tenant="a", chars=1, headers=[("traceparent", b"x")], unit=unit)
    counts.tick(counting, "topic", unit)
    again, asked = Counts(unit.rows.items()), Taken()
    again.tick(asked, "topic", unit)
    assert asked.asked == counting.asked
    asked.answers = {b"of another time": TokenCount(1)} | {key: None for key, _ in asked.asked}
    again.tick(asked, "topic", unit)
    assert unit.emitted == orders(4, "a"), "without a count: whoever reads them will see that the body is gone"
    assert (len(again), unit.rows) == (0, {})


def test_room_is_bounded_by_number_and_by_length():
    counts, unit = Counts([]), Told()
    assert counts.room("a", 10 * MAX_CHARS_OF_TENANT), "one always may"
    for order in orders(MAX_OF_TENANT, "a"):
        assert counts.room("a", 1)
        counts.wait(order, tenant="a", chars=1, headers=(), unit=unit)
    assert not counts.room("a", 1)
    counts.wait(orders(1, "b", first=9_000)[0], tenant="b", chars=MAX_CHARS_OF_TENANT - 1, headers=(), unit=unit)
    assert counts.room("b", 1)
    assert not counts.room("b", 2)


def test_whatever_the_tokeniser_does_there_is_a_count(monkeypatch):
    class Panic(BaseException):
        pass

    def panic(*_, **__):
        raise Panic

    class Record:
        value = orjson.dumps({"custom_id": "r", "body": {"messages": [{"role": "user", "content": " word" * 9}]}})

    assert exactly(Record) == TokenCount(16)
    assert exactly(None) is None
    monkeypatch.setattr(tokens, "encode", panic)
    assert exactly(Record) == TokenCount(len(Record.value), estimated=True)
    Record.value = b"no request"
    assert exactly(Record) is None
