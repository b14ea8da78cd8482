"""The real HTTP path against hostile servers: whatever they do, one answer comes back, and only a whole one is ok."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import asynccontextmanager, suppress

import orjson
import pytest
from aiohttp import web

from router.contract.errors import ConfigError
from router.contract.topics import MAX_ANSWER_BYTES
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, full_url, key_from, new_session

OK = {
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}
SECRET = "sk-live-1234567890"


def json_response(found, **more):
    return web.Response(body=orjson.dumps(found), content_type="application/json", **more)


@asynccontextmanager
async def server_that(handler):
    """An aiohttp server on loopback that does ``handler`` for every request; yields its base URL without ``/v1``."""
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def provider_at(*base_urls: str, **place):
    """An ``OpenAIHttp`` whose endpoints are called ``e0``, ``e1`` and so on."""
    async with new_session() as session:
        yield OpenAIHttp([Place(name=f"e{i}", base_url=url, **place) for i, url in enumerate(base_urls)], session)


async def answer_of(handler, work, budget_s=5.0):
    async with server_that(handler) as base, provider_at(base, key=SECRET) as provider:
        return await provider.call(work, budget_s=budget_s, headers={})


async def raw_answer_of(work, *pieces: bytes, budget_s=5.0):
    """The answer to bytes written as they are, then the end of the connection."""

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with provider_at(f"http://127.0.0.1:{port}") as provider:
            return await provider.call(work, budget_s=budget_s, headers={})


async def test_the_request_goes_out_with_the_providers_model_key_and_idempotency_key(new_work):
    seen = {}

    async def handler(request):
        seen.update(path=request.path, headers=dict(request.headers), body=await request.json())
        return json_response(OK)

    work = new_work(body={"model": "auto", "messages": [], "stream": True, "stream_options": {}, "seed": 4}, attempt=3)
    async with server_that(handler) as base, provider_at(base + "/v1", key=SECRET) as provider:
        answer = await provider.call(work, budget_s=5, headers={"traceparent": "00-1-2-01"})
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"] == {"model": "small-2026", "messages": [], "seed": 4}
    assert seen["headers"]["Authorization"] == f"Bearer {SECRET}"
    assert seen["headers"]["Idempotency-Key"] == f"{work.request_id}-3"
    assert seen["headers"]["traceparent"] == "00-1-2-01"
    assert (answer.status, answer.endpoint, answer.served_model, answer.body) == ("ok", "e0", "m-1", OK)
    assert answer.latency_ms >= 0


async def test_one_connection_serves_many_calls(work):
    peers = set()

    async def handler(request):
        peers.add(request.transport.get_extra_info("peername"))
        return json_response(OK)

    async with server_that(handler) as base, provider_at(base) as provider:
        for _ in range(5):
            assert (await provider.call(work, budget_s=5, headers={})).status == "ok"
    assert len(peers) == 1


async def test_a_deadline_that_has_passed_makes_no_call(work):
    async def handler(request):
        raise AssertionError

    answer = await answer_of(handler, work, budget_s=0)
    assert (answer.status, answer.error.code, answer.endpoint) == ("timeout", "timeout", None)


async def test_a_server_that_hangs_is_a_timeout(work):
    async def handler(request):
        await asyncio.sleep(60)

    answer = await answer_of(handler, work, budget_s=0.2)
    assert (answer.status, answer.error.code, answer.endpoint) == ("timeout", "timeout", "e0")


async def test_a_slow_drip_does_not_outlive_the_deadline(work):
    async def handler(request):
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    assert (await answer_of(handler, work, budget_s=0.2)).status == "timeout"


async def test_an_answer_cut_in_the_middle_is_never_ok(work):
    whole = orjson.dumps(OK)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
    for cut in (0, 10, len(whole) - 1):
        answer = await raw_answer_of(work, head, whole[:cut])
        assert (answer.status, answer.error.code) == ("error", "connection_error")


async def test_a_chunked_answer_without_its_last_chunk_is_never_ok(work):
    whole = orjson.dumps(OK)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await raw_answer_of(work, head, b"%x\r\n%s\r\n" % (len(whole), whole))
    assert (answer.status, answer.error.code) == ("error", "connection_error")


@pytest.mark.parametrize(
    "pieces",
    [(b"",), (b"nonsense\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,), (b"HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\n",),
     (b"HTTP/9.9 999 \xff\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",)],
)  # fmt: skip
async def test_what_is_no_http_is_an_error(work, pieces):
    answer = await raw_answer_of(work, *pieces)
    assert answer.status == "error"
    assert answer.error.code in {"connection_error", "malformed_answer"}


async def test_nobody_listening_is_a_connection_error(work):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with provider_at(f"http://127.0.0.1:{taken.getsockname()[1]}") as provider:
            answer = await provider.call(work, budget_s=5, headers={})
    assert (answer.status, answer.error.code) == ("error", "connection_error")


async def test_redirects_are_not_followed(work):
    visited = []

    async def handler(request):
        visited.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    answer = await answer_of(handler, work)
    assert (answer.error.code, visited) == ("http_307", ["/v1/chat/completions"])


async def test_an_answer_of_exactly_the_limit_is_read_and_a_longer_one_is_not(work):
    empty = len(orjson.dumps({**OK, "pad": ""}))

    def handler(extra):
        async def handle(request):
            return json_response({**OK, "pad": "x" * (MAX_ANSWER_BYTES - empty + extra)})

        return handle

    assert (await answer_of(handler(0), work)).status == "ok"
    answer = await answer_of(handler(1), work)
    assert (answer.status, answer.error.code) == ("error", "answer_too_large")


async def test_reading_stops_at_the_limit(work):
    sent = 0

    async def handler(request):
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while sent < 200 * 2**20:
                await response.write(b" " * 2**20)
                sent += 2**20
        return response

    assert (await answer_of(handler, work)).error.code == "answer_too_large"
    assert sent < 50 * 2**20


async def test_a_gzip_bomb_is_too_large_and_plain_gzip_is_read(work):
    def handler(packed):
        async def handle(request):
            return web.Response(body=packed, content_type="application/json", headers={"Content-Encoding": "gzip"})

        return handle

    assert (await answer_of(handler(gzip.compress(bytes(100 * 2**20))), work)).error.code == "answer_too_large"
    assert (await answer_of(handler(gzip.compress(orjson.dumps(OK))), work)).status == "ok"
    assert (await answer_of(handler(b"no gzip"), work)).error.code == "malformed_answer"


async def test_a_wrong_usage_does_not_spoil_the_answer(work):
    async def handler(request):
        return json_response({**OK, "usage": {"prompt_tokens": "three", "completion_tokens": -1}, "model": 7})

    answer = await answer_of(handler, work)
    assert (answer.status, answer.usage, answer.served_model) == ("ok", None, None)


async def test_a_key_that_the_server_echoes_does_not_come_back(work):
    async def handler(request):
        said = request.headers["Authorization"]
        return json_response({"error": {"message": said, "code": said, "type": said}}, status=401)

    answer = await answer_of(handler, work)
    assert answer.error.code == "unauthorized"
    assert SECRET not in repr(answer)


async def test_a_429_cools_its_endpoint_and_the_other_one_serves_on(work):
    async def limited(request):
        return web.Response(status=429, headers={"Retry-After": "7"})

    async def fine(request):
        return json_response(OK)

    async with server_that(limited) as first, server_that(fine) as second, provider_at(first, second) as provider:
        answers = [await provider.call(work, budget_s=5, headers={}) for _ in range(30)]
        assert [a.status for a in answers].count("rate_limited") == 1
        assert {a.endpoint for a in answers if a.status == "ok"} == {"e1"}
        assert provider.state()["e0"]["cooling_s"] > 5
        assert provider.free_in_s() == 0


async def test_no_call_starts_while_every_endpoint_cools(work):
    calls = 0

    async def limited(request):
        nonlocal calls
        calls += 1
        return web.Response(status=429, headers={"Retry-After": "7"})

    async with server_that(limited) as base, provider_at(base) as provider:
        first, second = [await provider.call(work, budget_s=5, headers={}) for _ in range(2)]
    assert (first.status, first.endpoint, first.error.retry_after_ms) == ("rate_limited", "e0", 7000)
    assert (second.status, second.endpoint) == ("rate_limited", None)
    assert 6000 < second.error.retry_after_ms <= 7001
    assert calls == 1


async def test_an_outstanding_call_is_given_back_when_it_is_cancelled(work):
    async def handler(request):
        await asyncio.sleep(60)

    async with server_that(handler) as base, provider_at(base) as provider:
        call = asyncio.create_task(provider.call(work, budget_s=60, headers={}))
        while not provider.state()["e0"]["outstanding"]:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert provider.state()["e0"]["outstanding"] == 0


@pytest.mark.parametrize("url", ["/", "//evil.example/v1/chat/completions", "/v1/../admin", "/v1/files"])
async def test_a_request_reaches_no_other_path_of_the_provider(url, new_work):
    async def handler(request):
        raise AssertionError

    assert (await answer_of(handler, new_work(url=url))).error.code == "invalid_request"


async def test_a_body_too_deep_to_be_written_is_an_invalid_request(new_work):
    deep = []
    for _ in range(400):
        deep = [deep]

    async def handler(request):
        raise AssertionError

    assert (await answer_of(handler, new_work(body={"messages": deep}))).error.code == "invalid_request"


@pytest.mark.parametrize(
    ("base", "full"),
    [("http://h:1", "http://h:1/v1/chat/completions"), ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
     ("https://h/api", "https://h/api/v1/chat/completions"), ("https://h/openai/v1", "https://h/openai/v1/chat/completions"),
     ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"), ("https://h/api/paas/v4", "https://h/api/paas/v4/chat/completions"),
     ("https://h/v1?api-version=2", "https://h/v1/chat/completions?api-version=2")],
)  # fmt: skip
def test_base_urls_with_and_without_a_version(base, full):
    assert str(full_url(base, "/v1/chat/completions")) == full


def test_a_missing_or_odd_key_names_its_variable_and_not_its_value():
    assert key_from(None, "models.a", {}) is None
    assert key_from("K", "models.a", {"K": " sk-1\n"}) == "sk-1"
    for value in (None, "", "sk-1\r\nHost: evil", "schlüssel"):
        with pytest.raises(ConfigError, match=r"models\.a\.api_key_env: .* K ") as caught:
            key_from("K", "models.a", {} if value is None else {"K": value})
        assert not value or value not in str(caught.value)


async def test_a_base_url_that_is_no_address_is_a_config_error():
    async with new_session() as session:
        with pytest.raises(ConfigError, match="base_url"):
            OpenAIHttp([Place(name="a", base_url="http://h:99999999/")], session)
