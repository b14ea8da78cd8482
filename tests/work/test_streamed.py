"""Streams over real HTTP: what a slow, silent, cut or mad one becomes. The simulator's, and some written byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import orjson
import pytest
from aiohttp import web

from router.config import loads
from router.contract.codec import decode, encode
from router.contract.records import Checks, Outcome
from router.contract.topics import Names
from router.core.prompt import read_body
from router.work.bans import Bans
from router.work.behaviour import Behaviour, World
from router.work.caller import Caller
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, new_session
from router.work.sim import Simulator, serving
from router.work.streamed import Patience
from router.work.worker import new_provider

#: For streams that have begun; a busy machine may take its time to begin one.
IDLE = Patience(first_token_s=30.0, idle_s=0.5)
LONG = Patience(first_token_s=30.0, idle_s=30.0)


def clock() -> int:
    return time.time_ns() // 1_000_000


def simulator(**behaviour):
    quick = {
        "latency_ms": 20.0,
        "latency_sigma": 0.0,
        "completion_tokens": 20.0,
        "completion_sigma": 0.0,
        "hang_s": 30.0,
    }
    return Simulator(World(models={"small-2026": Behaviour(**quick | behaviour)}))


async def answer_of(served, work, patience=LONG, budget_s=10.0):
    async with serving(served) as base, new_session() as session:
        provider = OpenAIHttp([Place(name="eu-1", base_url=base)], session, patience=patience)
        return await provider.call(work, budget_s=budget_s, headers={})


@asynccontextmanager
async def writing(*pieces: bytes, headers=None, then="end", patience=None):
    """A provider whose server answers every call with these pieces; then the end, silence or an abort. Also what it was asked."""
    seen = []

    async def handler(request):
        seen.append(await request.json())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if then == "silence":
            await asyncio.sleep(30)
        if then == "abort":
            await asyncio.sleep(0.05)
            request.transport.abort()
        return response

    app = web.Application()
    app.router.add_post("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with new_session() as session:
        base = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield (
            OpenAIHttp(
                [Place(name="eu-1", base_url=base)], session, patience=patience or (IDLE if then == "silence" else LONG)
            ),
            seen,
        )
    await runner.cleanup()


def event(chunk) -> bytes:
    return b"data: " + (chunk if isinstance(chunk, bytes) else orjson.dumps(chunk)) + b"\n\n"


def piece(text=None, reason=None, index=0, **more):
    return event(
        {"model": "m-1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}], **more}
    )


USAGE = event({"model": "m-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})
DONE = event(b"[DONE]")


async def said_to(work, *pieces: bytes, budget_s=5.0, **how):
    async with writing(*pieces, **how) as (provider, _):
        return await provider.call(work, budget_s=budget_s, headers={})


@pytest.mark.parametrize("more", [{}, {"logprobs": True}, {"max_tokens": 5}])
async def test_a_streamed_answer_is_the_one_that_would_have_come_whole(more, new_work):
    work = new_work()
    work.body.update(more)
    whole = await answer_of(simulator(), work, Patience())
    streamed = await answer_of(simulator(), work)
    assert (streamed.status, streamed.usage, streamed.served_model) == ("ok", whole.usage, whole.served_model)
    assert {**streamed.body, "created": 0} == {**whole.body, "created": 0}
    assert whole.first_token_ms is None
    assert 0 < streamed.first_token_ms <= streamed.latency_ms


async def test_without_times_of_its_own_no_stream_is_asked_for_and_with_them_usage_is(new_work):
    work = new_work(body={"messages": [], "stream": False, "stream_options": {"x": 1}})
    async with writing(piece("a"), piece(reason="stop"), USAGE, DONE) as (provider, seen):
        assert (await provider.call(work, budget_s=5, headers={})).status == "ok"
    assert seen == [
        {"messages": [], "model": "small-2026", "stream": True, "stream_options": {"include_usage": True}},
    ]


async def test_a_first_token_that_is_late_is_a_timeout_and_the_call_is_closed_toward_the_provider(work):
    served = simulator(first_token_ms=30_000.0)
    answer = await answer_of(served, work, Patience(first_token_s=1.0))
    assert (answer.status, answer.error.code, answer.usage) == ("timeout", "first_token_timeout", None)
    assert answer.first_token_ms is None
    assert served.calls.summary()["models"]["small-2026"]["ended"] == {"cut": 1}


async def test_a_server_that_does_not_even_answer_is_late_too(work):
    answer = await answer_of(simulator(errors={"hang": 1.0}), work, Patience(first_token_s=0.2))
    assert (answer.status, answer.error.code) == ("timeout", "first_token_timeout")


async def test_a_stream_that_stalls_is_a_timeout_with_an_estimate_of_what_it_cost(work):
    served = simulator(errors={"stall": 1.0})
    answer = await answer_of(served, work, Patience(idle_s=1.0))
    assert (answer.status, answer.error.code, answer.body) == ("timeout", "idle_timeout", None)
    assert answer.first_token_ms > 0
    assert answer.usage.estimated
    assert answer.usage.prompt_tokens == read_body(work.body).tokens().tokens
    assert 5 <= answer.usage.completion_tokens <= 20
    assert served.calls.summary()["models"]["small-2026"]["ended"] == {"cut": 1}


async def test_keepalives_and_empty_chunks_are_no_tokens(work):
    for nothing in (b": keepalive\n\n", piece(""), event({"choices": []})):
        answer = await said_to(work, *[nothing] * 3, then="silence", patience=Patience(first_token_s=0.5))
        assert answer.error.code == "first_token_timeout"
        assert (await said_to(work, piece("a"), *[nothing] * 3, then="silence")).error.code == "idle_timeout"


async def test_a_slow_answer_whose_tokens_keep_coming_is_not_cut(work):
    answer = await answer_of(simulator(latency_ms=1500.0), work, Patience(first_token_s=1.0, idle_s=1.0))
    assert answer.status == "ok"


async def test_the_deadline_ends_a_stream_and_the_providers_usage_counts(work):
    running = piece("a", usage={"prompt_tokens": 9, "completion_tokens": 1})
    answer = await said_to(work, running, then="silence", budget_s=1.0, patience=LONG)
    assert (answer.status, answer.error.code) == ("timeout", "timeout")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.estimated) == (9, 1, False)


@pytest.mark.parametrize("kind", ["cut", "truncated"])
async def test_a_stream_without_a_finish_reason_is_truncated_and_has_what_came(kind, work):
    whole = await answer_of(simulator(), work, Patience())
    answer = await answer_of(simulator(errors={kind: 1.0}), work)
    text = answer.body["choices"][0]["message"]["content"]
    assert (answer.status, answer.error.code) == ("truncated", "truncated")
    assert text
    assert whole.body["choices"][0]["message"]["content"].startswith(text)
    assert answer.served_model == "small-2026"
    assert answer.usage.estimated


async def test_a_stream_that_breaks_before_its_first_token_is_a_broken_connection(work):
    answer = await said_to(work, b": hello\n\n", then="abort")
    assert (answer.status, answer.error.code, answer.usage) == ("error", "connection_error", None)


@pytest.mark.parametrize("then", ["end", "abort", "silence"])
async def test_an_answer_is_whole_once_its_choices_have_finished_whatever_comes_then(then, work):
    answer = await said_to(work, piece("a"), piece(reason="stop"), then=then)
    assert (answer.status, answer.body["choices"][0]["message"]["content"]) == ("ok", "a")
    assert answer.usage.estimated


async def test_all_choices_that_were_asked_for_must_have_finished(new_work):
    work = new_work()
    work.body["n"] = 2
    one = [piece("a", index=0), piece(reason="stop", index=0)]
    assert (await said_to(work, *one)).status == "truncated"
    both = [*one, piece("b", index=1), piece(reason="length", index=1)]
    answer = await said_to(work, *both, USAGE, DONE)
    assert (answer.status, len(answer.body["choices"])) == ("ok", 2)
    assert answer.usage.completion_tokens == 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        ({"message": "sk-live-1 boom", "code": "server_error"}, "error", "provider_error"),
        ({"message": "slow down", "type": "rate_limit_error"}, "rate_limited", "rate_limited"),
        ({"message": "slow down", "code": 429}, "rate_limited", "rate_limited"),
        ("boom", "error", "provider_error"),
    ],
)
async def test_an_error_in_midstream_is_an_error(error, status, code, work):
    answer = await said_to(work, piece("a"), event({"error": error}), piece("b"), piece(reason="stop"), DONE)
    assert (answer.status, answer.error.code, answer.body) == (status, code, None)
    assert "sk-live" not in answer.error.message
    assert answer.usage.estimated


@pytest.mark.parametrize(
    "text", [b'event: error\ndata: {"message": "boom"}\n\n', b'data: {"object": "error", "code": 400}\n\n']
)
async def test_other_servers_say_error_in_other_words(text, work):
    answer = await said_to(work, piece("a"), text, piece(reason="stop"), DONE)
    assert (answer.status, answer.error.code) == ("error", "provider_error")


async def test_the_simulators_error_event_is_an_error(work):
    answer = await answer_of(simulator(errors={"error_event": 1.0}), work)
    assert (answer.status, answer.error.code) == ("error", "provider_error")
    answer = await answer_of(simulator(errors={"error_event": 1.0}), work, Patience())
    assert (answer.status, answer.error.code) == ("error", "provider_error")


@pytest.mark.parametrize("bad", [b"{", b"[]", b"3", b'{"choices": 3}', b'{"choices": [{"delta": 1}]}', b"\xff"])
async def test_what_is_no_chunk_is_malformed(bad, work):
    answer = await said_to(work, piece("a"), event(bad), DONE)
    assert (answer.status, answer.error.code) == ("error", "malformed_answer")


async def test_a_filtered_answer_is_refused_and_billed(work):
    answer = await answer_of(simulator(errors={"refused": 1.0}), work)
    assert (answer.status, answer.error.code, answer.usage.estimated) == ("refused", "content_filter", False)


async def test_a_server_that_answers_whole_is_read_as_ever(work):
    body = {
        "model": "m",
        "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1},
    }
    answer = await said_to(work, orjson.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status, answer.body) == ("ok", body)


async def test_an_error_before_the_stream_is_what_it_is_without_one(work):
    answer = await answer_of(simulator(errors={"429": 1.0}, retry_after_s=2.0), work)
    assert (answer.status, answer.error.retry_after_ms) == ("rate_limited", 2000)


async def test_a_compressed_stream_is_read_and_a_bomb_is_not(work):
    text = b"".join([piece("a"), piece("b"), piece(reason="stop"), USAGE, DONE])
    answer = await said_to(work, gzip.compress(text), headers={"Content-Encoding": "gzip"})
    assert answer.body["choices"][0]["message"]["content"] == "ab"
    bomb = gzip.compress(piece("x" * 1000) * 3000)
    answer = await said_to(work, bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.error.code) == ("error", "answer_too_large")


async def test_one_connection_serves_many_streams(new_work):
    served = simulator()
    async with serving(served) as base, new_session() as session:
        provider = OpenAIHttp([Place(name="eu-1", base_url=base)], session, patience=LONG)
        for number in range(5):
            assert (await provider.call(new_work(number), budget_s=5, headers={})).status == "ok"
        connections = [one for pool in session.connector._conns.values() for one in pool]  # nothing else tells
        assert len(connections) == 1


async def test_embeddings_are_never_streamed(new_work):
    work = new_work(url="/v1/embeddings", body={"model": "e", "input": ["a"]})
    assert (await answer_of(simulator(), work, Patience(first_token_s=5))).status == "ok"


async def test_the_settings_of_a_model_reach_its_provider_and_the_outcome_tells_the_first_token(new_work):
    async with serving(simulator()) as base, new_session() as session:
        config = loads(
            f"""
            [models.small]
            provider = "sim"
            unpriced = true
            first_token_timeout_s = 20
            endpoints = [{{name = "eu-1", base_url = "{base}", concurrency = 3, weight = 0.5}}]
            [pools.auto]
            models = ["small"]
            """
        )
        provider = new_provider(SimpleNamespace(config=config, clock=clock), "small", session)
        names, bans = Names("t"), Bans(clock)
        caller = Caller("small", config.models["small"], provider, bans, names=names, partitions=4, clock=clock)
        value = encode(new_work(checks=Checks(logprobs=True)))
        (made,) = await caller(SimpleNamespace(topic=names.work("small"), partition=0, value=value, headers=()))
    outcome = decode(Outcome, made.value)
    assert (outcome.status, outcome.endpoint) == ("ok", "eu-1")
    assert outcome.first_token_ms > 0
    assert 0 < outcome.confidence < 1
    assert provider.state()["eu-1"]["weight"] == 0.5
