"""One work record in, one outcome out. The provider is the real one over the simulator unless a test needs a clock."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import orjson
import pytest

from router.config import ModelConfig
from router.contract.codec import decode, encode
from router.contract.records import Checks, Outcome, Usage
from router.contract.topics import MAX_ANSWER_BYTES, Names
from router.work.bans import Bans
from router.work.behaviour import Behaviour, World
from router.work.caller import Caller, outcome_bytes
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, new_session
from router.work.provider import Answer
from router.work.sim import Simulator, serving

NAMES = Names("t")
QUICK = {"latency_ms": 1.0, "latency_sigma": 0.0}
BAN = {
    "scope": "model:small",
    "action": "ban",
    "active": True,
    "by": "kim",
    "reason": "r",
    "at": "2026-11-01T00:00:00Z",
}


def wall_ms():
    return time.time_ns() // 1_000_000


def record_of(work, lane="interactive", headers=(), value=None):
    raw = value if value is not None else encode(work)
    topic = NAMES.work("small", lane)
    return SimpleNamespace(topic=topic, partition=2, offset=9, key=b"k", value=raw, headers=headers)


@asynccontextmanager
async def caller_with(**behaviour):
    """A caller, its simulator and its bans."""
    simulator = Simulator(World(models={"small-2026": Behaviour(**QUICK | behaviour)}))
    async with serving(simulator) as base, new_session() as session:
        provider = OpenAIHttp([Place(name="eu-1", base_url=base)], session)
        bans = Bans(wall_ms)
        settings = ModelConfig.model_validate({"provider": "sim", "unpriced": True, "timeout_s": 5})
        caller = Caller("small", settings, provider, bans, names=NAMES, partitions=4, clock=wall_ms)
        yield SimpleNamespace(call=caller, simulator=simulator, bans=bans)


async def outcome_of(caller, record) -> Outcome:
    (made,) = await caller(record)
    assert made.topic == "t.outcomes"
    return decode(Outcome, made.value)


async def test_an_outcome_echoes_the_work_and_carries_the_answer(new_work):
    work = new_work(attempt=3, outcome_partition=1)
    async with caller_with() as it:
        (made,) = await it.call(record_of(work, headers=[("traceparent", b"00-abc-def-01")]))
    outcome = decode(Outcome, made.value)
    assert (made.topic, made.partition, made.key) == ("t.outcomes", 1, work.request_id.encode())
    assert made.headers == [("traceparent", b"00-abc-def-01")]
    assert (outcome.request_id, outcome.attempt, outcome.model, outcome.slip) == (work.request_id, 3, "small", "slip")
    assert (outcome.status, outcome.endpoint, outcome.served_model) == ("ok", "eu-1", "small-2026")
    assert outcome.usage.prompt_tokens > 0
    assert outcome.body["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b'{"request_id": 3}', b"\xff"])
async def test_unreadable_work_goes_to_the_dead_letter(value):
    async with caller_with() as it:
        (made,) = await it.call(record_of(None, value=value))
    letter = orjson.loads(made.value)
    assert (made.topic, made.partition, made.key) == ("t.dead-letter", 2, b"k")
    assert (letter["reason"]["code"], letter["stage"], letter["offset"]) == ("invalid_work", "worker", 9)


@pytest.mark.parametrize("wrong", [{"outcome_partition": 4}, {"model": "large"}])
async def test_work_for_a_partition_or_model_that_is_not_here_goes_to_the_dead_letter(wrong, new_work):
    async with caller_with() as it:
        (made,) = await it.call(record_of(new_work(**wrong)))
        assert it.simulator.calls.summary()["calls"] == 0
    assert orjson.loads(made.value)["reason"]["code"] == "invalid_work"


async def test_a_null_value_leaves_nothing():
    async with caller_with() as it:
        assert await it.call(SimpleNamespace(value=None)) == ()


async def test_work_read_after_its_deadline_is_a_timeout_without_a_call(new_work):
    async with caller_with() as it:
        outcome = await outcome_of(it.call, record_of(new_work(deadline_at_ms=wall_ms() - 1)))
        assert it.simulator.calls.summary()["calls"] == 0
    assert (outcome.status, outcome.error.code, outcome.endpoint) == ("timeout", "timeout", None)


@pytest.mark.parametrize(
    ("waited_ms", "left_ms", "takes_s", "late"),
    [
        (2000, -1, 0.0, True),
        (2000, 300, 0.2, False),
        (2000, 150, 0.2, True),
        (50, -1, 0.2, False),  # it has hardly waited: its call tells
        (2000, 60_000, 0.2, False),
    ],
)
async def test_work_that_waited_is_too_late_when_a_quick_call_would_end_after_its_deadline(
    new_work, waited_ms, left_ms, takes_s, late
):
    async with caller_with() as it:
        now_ms = wall_ms()
        record = record_of(new_work(deadline_at_ms=now_ms + left_ms))
        record.timestamp = now_ms - waited_ms
        assert it.call.too_late(record, takes_s) is late


@pytest.mark.parametrize("value", [None, b"", b"{", b'{"request_id": 3}'])
async def test_unreadable_work_is_never_too_late(value):
    async with caller_with() as it:
        record = SimpleNamespace(topic="t.work.small", value=value, timestamp=0, headers=())
        assert it.call.too_late(record, 1e9) is False


async def test_a_call_ends_at_the_deadline(new_work):
    async with caller_with(errors={"hang": 1.0}) as it:
        outcome = await outcome_of(it.call, record_of(new_work(deadline_at_ms=wall_ms() + 200)))
    assert (outcome.status, outcome.endpoint) == ("timeout", "eu-1")


async def test_work_of_a_banned_model_comes_back_unmade(work):
    async with caller_with() as it:
        it.bans.apply(SimpleNamespace(key=b"model:small/ban", value=orjson.dumps(BAN)))
        outcome = await outcome_of(it.call, record_of(work))
        assert it.simulator.calls.summary()["calls"] == 0
    assert (outcome.status, outcome.error.code) == ("error", "banned")


async def test_a_running_call_finishes_although_its_model_is_banned(work):
    async with caller_with(latency_ms=300.0) as it:
        running = asyncio.create_task(outcome_of(it.call, record_of(work)))
        while not it.simulator.calls.summary()["calls"]:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
        it.bans.apply(SimpleNamespace(key=b"model:small/ban", value=orjson.dumps(BAN)))
        assert (await running).status == "ok"


async def test_while_all_cool_interactive_work_comes_back_and_batch_stays_in_its_topic(new_work):
    async with caller_with(errors={"429": 1.0}, retry_after_s=60.0) as it:
        first = await outcome_of(it.call, record_of(new_work(1)))
        second = await outcome_of(it.call, record_of(new_work(2)))
        assert (first.status, first.endpoint, first.error.retry_after_ms) == ("rate_limited", "eu-1", 60_000)
        assert (second.status, second.endpoint) == ("rate_limited", None)
        assert 50_000 < second.error.retry_after_ms <= 60_001
        assert it.simulator.calls.summary()["calls"] == 1
        assert it.call.may_start(NAMES.work("small"))
        assert not it.call.may_start(NAMES.work("small", "batch"))


async def test_a_short_cooling_is_waited_for(new_work):
    async with caller_with(errors={"429": 1.0}, retry_after_s=0.3) as it:
        assert (await outcome_of(it.call, record_of(new_work(1)))).status == "rate_limited"
        it.simulator.world = it.simulator.world.changed({"models": {"small-2026": {"errors": {"429": 0}}}})
        interactive = outcome_of(it.call, record_of(new_work(2)))
        batch = outcome_of(it.call, record_of(new_work(3), "batch"))
        assert [outcome.status for outcome in await asyncio.gather(interactive, batch)] == ["ok", "ok"]


async def test_batch_work_in_hand_waits_for_a_long_cooling_until_its_deadline(new_work):
    async with caller_with(errors={"429": 1.0}, retry_after_s=60.0) as it:
        await outcome_of(it.call, record_of(new_work(1)))
        outcome = await outcome_of(it.call, record_of(new_work(2, deadline_at_ms=wall_ms() + 300), "batch"))
        assert it.simulator.calls.summary()["calls"] == 1
    assert (outcome.status, outcome.endpoint) == ("timeout", None)


async def test_a_provider_that_breaks_in_a_way_nobody_foresaw_still_leaves_an_outcome(work):
    class Broken:
        def free_in_s(self):
            return 0.0

        async def call(self, work, *, budget_s, headers):
            raise ZeroDivisionError

    settings = ModelConfig.model_validate({"provider": "sim", "unpriced": True})
    caller = Caller("small", settings, Broken(), Bans(wall_ms), names=NAMES, partitions=4, clock=wall_ms)
    outcome = await outcome_of(caller, record_of(work))
    assert (outcome.status, outcome.error.code, outcome.error.message) == (
        "error",
        "internal_error",
        "ZeroDivisionError",
    )
    assert caller.in_hand == 0


def test_an_answer_too_deep_to_be_written_is_malformed(work):
    deep = []
    for _ in range(400):
        deep = [deep]
    outcome = decode(Outcome, outcome_bytes(work, Answer(status="ok", body={"x": deep}, usage=Usage(prompt_tokens=1))))
    assert (outcome.status, outcome.error.code, outcome.body, outcome.usage.prompt_tokens) == (
        "error", "malformed_answer", None, 1,
    )  # fmt: skip


def test_an_answer_that_grows_when_written_is_too_large(work):
    body = orjson.loads(b'{"x": [' + b"1e15," * 300_000 + b"1]}")
    value = outcome_bytes(work, Answer(status="ok", body=body))
    assert len(value) < MAX_ANSWER_BYTES
    assert decode(Outcome, value).error.code == "answer_too_large"


async def test_a_checked_answer_has_a_confidence_and_nothing_that_was_not_asked_for(new_work):
    checks = Checks(logprobs=True, refusal=True)
    async with caller_with(quality={"default": 1.0}) as it:
        plain = await outcome_of(it.call, record_of(new_work()))
        sure = await outcome_of(it.call, record_of(new_work(checks=checks)))
        asked = await outcome_of(it.call, record_of(new_work(checks=checks, body={"messages": [], "logprobs": True})))
    assert plain.confidence is None
    assert 0.0 < sure.confidence < 1.0
    assert sure.body["choices"][0]["logprobs"] is None
    assert asked.body["choices"][0]["logprobs"]["content"]


async def test_work_of_a_later_major_version_is_a_dead_letter(work):
    async with caller_with() as caller:
        (made,) = await caller.call(record_of(work, headers=[("schema", b"2")]))
        assert made.topic == NAMES.of("dead-letter")
        assert orjson.loads(made.value)["reason"]["code"] == "unsupported_schema"
        (made,) = await caller.call(record_of(work, headers=[("schema", b"1.2")]))
        assert made.topic == NAMES.of("outcomes")
