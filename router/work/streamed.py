"""One call whose answer is asked for as a stream, so that the time to its first token and between tokens have limits of their own.

The answer travels as one record all the same: chunks are assembled (``assembled``) and judged like a body that came whole.

| the stream | outcome |
|---|---|
| brings no token in ``first_token_s`` | ``timeout``, ``first_token_timeout``; comments and empty chunks are no tokens |
| brings no further token for ``idle_s`` | ``timeout``, ``idle_timeout`` |
| ends, or breaks, and a choice has no finish reason | ``truncated`` with what there is; ``connection_error`` where no token came |
| breaks after every choice had finished | ``ok``: the answer is whole |
| brings an ``error`` | ``rate_limited`` where it says so, else ``error``, ``provider_error`` |
| brings what is no chunk | ``error``, ``malformed_answer`` |

Usage is the provider's, the last one it told, however the call ended. Where it told none and a token had come, it is counted here
and marked ``estimated``: a stream that breaks was paid for, and budgets must see it. Without a token nothing is counted.

A server that answers whole, although asked for a stream, is read as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp
import orjson

from router.contract.records import Usage, Work
from router.contract.topics import MAX_ANSWER_BYTES
from router.contract.urls import CHAT
from router.core.prompt import read_body
from router.core.tokens import count
from router.core.usage import read_usage
from router.work.answers import code_of, read_completion
from router.work.assembled import Assembly, BadChunk
from router.work.inflate import Inflater
from router.work.provider import Answer, ErrorCode, failed
from router.work.sse import Events

MEDIA: Final = "text/event-stream"
#: Of a whole stream: a chunk has some 250 bytes for one token of an answer.
MAX_STREAM_BYTES: Final = 32 * MAX_ANSWER_BYTES
#: How long the end of a stream may take once all is said; a connection that ends well is used again.
DRAIN_S: Final = 1.0
_DONE = b"[DONE]"
_LIMITED = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "insufficient_quota"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds until the first token, and from one to the next; ``None``: no limit of its own."""

    first_token_s: float | None = None
    idle_s: float | None = None

    @property
    def streams(self) -> bool:
        """Whether answers must be asked for as streams."""
        return self.first_token_s is not None or self.idle_s is not None


class Stream:
    """One call's; made when the call starts. ``limit`` must be around all of it. ``clock_s``: monotonic seconds."""

    def __init__(self, work: Work, patience: Patience, clock_s: Callable[[], float]) -> None:
        self._work, self._patience, self._clock_s = work, patience, clock_s
        self._begun_s = clock_s()
        self._first_token_ms: int | None = None
        self._said: Answer | None = None
        self._done = self._open = False
        self._assembly = Assembly(chat=work.url == CHAT, limit_bytes=MAX_ANSWER_BYTES)
        self.limit = asyncio.timeout(patience.first_token_s)

    async def read(self, response: aiohttp.ClientResponse) -> Answer:
        """The answer of an event stream; raises what reading raises, ``TooLarge`` and ``zlib.error`` included."""
        self._open = True
        inflater = Inflater(response.headers.get("Content-Encoding", ""), MAX_STREAM_BYTES)
        events, ended = Events(MAX_ANSWER_BYTES), False
        async for piece in response.content.iter_any():
            inflater.feed(piece)
            fresh = False
            for name, data in events.feed(inflater.take()):
                fresh |= not self._done and self._take(name, data)
                if self._said is not None:
                    return self._said
            if self._done and not ended:
                ended = True
                self._wait(DRAIN_S)
            elif fresh:
                self._wait(self._patience.idle_s)
        return self._answer()

    async def closed(self, answer: Answer) -> Answer:
        """The answer as it leaves, from what reading came to: with usage and the time of the first token."""
        if not self._open:
            return answer if not self.limit.expired() else self._late()
        code = answer.error.code if answer.error else None
        if code in {ErrorCode.CONNECTION_ERROR, ErrorCode.TIMEOUT}:
            broke = code == ErrorCode.CONNECTION_ERROR and self._first_token_ms is not None
            if broke or self._whole():
                answer = self._answer()
            elif self.limit.expired():
                answer = self._late()
        usage = read_usage(self._assembly.usage)
        if usage is None and self._first_token_ms is not None:
            usage = await asyncio.to_thread(estimated, self._work.body, self._assembly.text)
        return replace(answer, usage=usage, first_token_ms=self._first_token_ms)

    def _take(self, name: bytes, data: bytes) -> bool:
        """One event; true when it brought a token."""
        if data.strip() == _DONE:
            self._done = True
            return False
        try:
            chunk = orjson.loads(data)
            if isinstance(chunk, dict) and (chunk.get("error") or name == b"error" or chunk.get("object") == "error"):
                self._said = _error(chunk)
                return False
            fresh = self._assembly.add(chunk)
        except (orjson.JSONDecodeError, BadChunk):
            self._said = failed("error", ErrorCode.MALFORMED_ANSWER, "an event of the stream is no chunk of an answer")
            return False
        if fresh and self._first_token_ms is None:
            self._first_token_ms = max(1, round((self._clock_s() - self._begun_s) * 1000))
        return fresh

    def _whole(self) -> bool:
        asked = self._work.body.get("n")
        choices = asked if isinstance(asked, int) and not isinstance(asked, bool) and self._work.url == CHAT else 1
        return self._done or self._assembly.finished(choices)

    def _answer(self) -> Answer:
        body = self._assembly.body()
        if not self._whole() or not body["choices"]:
            name = body.get("model")
            said = failed("truncated", ErrorCode.TRUNCATED, "the stream ended before its answer")
            served_model = name[:256] if isinstance(name, str) and name else None
            return replace(said, body=body, served_model=served_model)
        return read_completion(body)

    def _late(self) -> Answer:
        if self._first_token_ms is None:
            return failed("timeout", ErrorCode.FIRST_TOKEN_TIMEOUT, f"no token in {self._patience.first_token_s:g} s")
        return failed("timeout", ErrorCode.IDLE_TIMEOUT, f"no further token in {self._patience.idle_s:g} s")

    def _wait(self, seconds: float | None) -> None:
        self.limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


def asked(body: dict[str, Any]) -> dict[str, Any]:
    """A body that asks for its answer as a stream, with usage at the end."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def is_stream(response: aiohttp.ClientResponse) -> bool:
    return 200 <= response.status < 300 and response.content_type == MEDIA


def estimated(body: dict[str, Any], text: str) -> Usage:
    """The tokens of a request and of what came as its answer, by a tokeniser that need not be the provider's."""
    prompt, completion = read_body(body).tokens().tokens, count(text).tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, estimated=True)


def _error(chunk: dict[str, Any]) -> Answer:
    found = chunk.get("error")
    code = code_of(chunk)
    number = found.get("code") if isinstance(found, dict) else None
    said = "an error in the stream" + (f" ({code})" if code else "")
    if code in _LIMITED or number in {429, "429"}:
        return failed("rate_limited", ErrorCode.RATE_LIMITED, said)
    return failed("error", ErrorCode.PROVIDER_ERROR, said)
