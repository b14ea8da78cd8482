"""Several endpoints of a model over real HTTP: who is asked, and what an answer teaches."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from router.work.balanced import attempt
from router.work.behaviour import Behaviour, World
from router.work.breaker import BASE_OPEN_S, RAMP_S
from router.work.endpoints import FAILURES, Endpoints, Place
from router.work.openai_http import OpenAIHttp, new_session
from router.work.provider import Answer, failed
from router.work.sim import Simulator, serving

QUICK = {"latency_ms": 1.0, "latency_sigma": 0.0}


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def two_servers(**first):
    """A provider over two simulators, the first of which behaves as told; a clock of its own."""
    sims = [Simulator(World(models={"small-2026": Behaviour(**QUICK | more)})) for more in (first, {})]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(one)) for one in sims]
        session = await stack.enter_async_context(new_session())
        clock = Clock()
        places = [Place(name=f"e{number}", base_url=url) for number, url in enumerate(urls)]
        yield OpenAIHttp(places, session, clock_s=clock, dice=Random(7)), clock, sims


async def test_a_broken_server_is_left_alone_probed_and_asked_again_once_it_is_well(new_work):
    async with two_servers(errors={"503": 1.0}) as (provider, clock, sims):
        statuses = Counter()
        for number in range(200):
            clock.now_s += 0.1
            statuses[(await provider.call(new_work(number), budget_s=5, headers={})).status] += 1
            if provider.state()["e0"]["state"] == "open":
                break
        assert statuses["error"] == FAILURES
        assert provider.state()["e0"]["reason"] == f"{FAILURES} failures in a row"
        clock.now_s += BASE_OPEN_S
        assert (await provider.call(new_work(300), budget_s=5, headers={})).error.code == "http_503"
        assert provider.state()["e0"]["open_s"] == 2 * BASE_OPEN_S
        asked = sims[0].calls.summary()["calls"]
        for number in range(301, 311):
            assert (await provider.call(new_work(number), budget_s=5, headers={})).endpoint == "e1"
        assert sims[0].calls.summary()["calls"] == asked
        sims[0].world = sims[0].world.changed({"models": {"small-2026": {"errors": {"503": 0}}}})
        clock.now_s += 2 * BASE_OPEN_S
        assert (await provider.call(new_work(400), budget_s=5, headers={})).endpoint == "e0"
        assert provider.state()["e0"]["state"] == "closed"
        clock.now_s += RAMP_S
        said = [await provider.call(new_work(number), budget_s=5, headers={}) for number in range(401, 441)]
        assert {one.endpoint for one in said} == {"e0", "e1"}


async def test_two_broken_servers_are_both_still_known_and_one_is_asked(new_work):
    async with two_servers(errors={"503": 1.0}) as (provider, _, sims):
        sims[1].world = sims[0].world
        for number in range(60):
            assert (await provider.call(new_work(number), budget_s=5, headers={})).error.code == "http_503"
        assert sorted(said["state"] for said in provider.state().values()) == ["closed", "open"]


@pytest.mark.parametrize(("endpoints", "code"), [("ab", "endpoint_rate_limited"), ("a", "rate_limited")])
async def test_a_429_says_whether_another_endpoint_may_be_asked_at_once(endpoints, code):
    some = Endpoints([Place(name=name, base_url="") for name in endpoints], Clock(), Random(7))

    async def call(_place):
        return failed("rate_limited", "rate_limited", retry_after_ms=30_000)

    answer = await attempt(some, 0, call)
    assert (answer.status, answer.error.code, answer.error.retry_after_ms) == ("rate_limited", code, 30_000)
    if len(endpoints) > 1:
        assert (await attempt(some, 0, call)).error.code == "rate_limited", "the last one has had enough, too"


@pytest.mark.parametrize(
    ("answer", "took_s", "failures"),
    [
        (failed("error", "http_502"), 0.1, 1),
        (failed("error", "connection_error"), 0.1, 1),
        (failed("error", "malformed_answer"), 0.1, 1),
        (failed("truncated", "truncated"), 0.1, 1),
        (failed("error", "invalid_request"), 0.1, 0),
        (failed("error", "context_length_exceeded"), 0.1, 0),
        (failed("timeout", "timeout"), 0.5, 0),  # it was given too little to say anything
        (failed("timeout", "timeout"), 2.0, 0),
        (failed("timeout", "timeout"), 4.0, 1),
        (failed("rate_limited", "rate_limited"), 0.1, 0),
        (Answer(status="ok"), 0.1, 0),
    ],
)
async def test_what_counts_as_a_failure_of_the_endpoint(answer, took_s, failures):
    clock = Clock()
    one = Endpoints([Place(name="a", base_url="")], clock, Random(7))
    for _ in range(50):
        one.all[0].succeeded(1.0, clock())

    async def call(_place):
        clock.now_s += took_s
        return answer

    await attempt(one, 0, call)
    assert one.state()["a"]["failures"] == failures
    assert one.state()["a"]["outstanding"] == 0
