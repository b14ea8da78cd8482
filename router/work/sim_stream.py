"""The simulator's answer as a stream of chunks, as OpenAI's API has them, and all that may go wrong with one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from router.work.behaviour import Behaviour

CHARS_PER_TOKEN: Final = 4
#: A longer answer comes in larger pieces.
MOST_CHUNKS: Final = 256
ERROR: Final = {"error": {"message": "simulated error", "type": "server_error", "code": "simulated", "param": None}}

Json = dict[str, Any]


class Call(Protocol):
    """What a stream needs of a call."""

    @property
    def body(self) -> Json: ...
    @property
    def behaviour(self) -> Behaviour: ...
    def draw(self, what: str) -> float: ...


async def streamed(request: web.Request, call: Call, whole: Json, kind: str | None) -> web.StreamResponse:
    """``whole``, the answer without ``stream``, piece by piece; ``kind`` of error as in ``behaviour``."""
    chunks = list(_chunks(whole, "content_filter" if kind == "refused" else None))
    first_s = call.behaviour.first_token_ms / 1000
    rest_s = max(0.0, call.behaviour.latency_s(call.draw("latency")) - first_s) / len(chunks)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await asyncio.sleep(first_s)
    for number, chunk in enumerate(chunks):
        if kind is not None and kind != "refused" and number >= len(chunks) / 2:
            return await _break(request, response, call, kind)
        await asyncio.sleep(rest_s)
        await response.write(_event(chunk))
    options = call.body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        await response.write(_event({**_head(whole), "choices": [], "usage": whole["usage"]}))
    await response.write(b"data: [DONE]\n\n")
    return response


async def _break(request: web.Request, response: web.StreamResponse, call: Call, kind: str) -> web.StreamResponse:
    if kind == "stall":
        await asyncio.sleep(call.behaviour.hang_s)
    elif kind == "error_event":
        await response.write(_event(ERROR))
    elif kind == "malformed":
        await response.write(b'data: {"choices": [\n\n')
    elif kind == "truncated":
        return response
    if request.transport is not None:
        request.transport.abort()
    return response


def _chunks(whole: Json, reason: str | None) -> Iterator[Json]:
    choice, head = whole["choices"][0], _head(whole)
    text = choice["message"]["content"]
    told = (choice.get("logprobs") or {}).get("content")
    tokens = -(-len(text) // CHARS_PER_TOKEN)
    size = max(1, -(-tokens // MOST_CHUNKS))
    for at in range(0, tokens, size):
        delta: Json = {"content": text[at * CHARS_PER_TOKEN : (at + size) * CHARS_PER_TOKEN]}
        if at == 0:
            delta["role"] = "assistant"
        logprobs = None if told is None else {"content": told[at : at + size]}
        yield {**head, "choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}]}
    end: Json = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason or choice["finish_reason"]}
    yield {**head, "choices": [end]}


def _head(whole: Json) -> Json:
    kept = {name: value for name, value in whole.items() if name not in {"choices", "usage"}}
    return {**kept, "object": "chat.completion.chunk", "usage": None}


def _event(chunk: Json) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
