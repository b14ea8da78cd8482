"""Any OpenAI-compatible server over HTTP: one attempt of one work record, within its time, at a free endpoint.

- Time: the whole call, connecting included, ends within the budget; what then runs is a ``timeout``.
- The body is the request's own with the provider's name of the model. Answers travel in one record, so ``stream`` is
  taken out; where tokens have times of their own (``Patience``) the worker asks for a stream itself (``streamed``). ``Idempotency-Key`` is ``<request id>-<attempt>``: a call made again after a crash carries the same one.
- Redirects are not followed: a key must not travel to another host. No cookies. Connections are reused.
- Reading stops at ``MAX_ANSWER_BYTES``, counted after decompression.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from random import Random
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from router.contract.errors import ConfigError
from router.contract.records import Work
from router.contract.topics import MAX_ANSWER_BYTES
from router.contract.urls import COMPLETIONS
from router.work.answers import URLS, read_answer
from router.work.balanced import attempt
from router.work.confidence import asked_with
from router.work.endpoints import Endpoints, Place
from router.work.inflate import ACCEPTED, Inflater, TooLarge
from router.work.provider import Answer, ErrorCode, failed
from router.work.streamed import MEDIA, Patience, Stream, asked, is_stream

#: A server that is there accepts a connection within this; a missing one should not hold a slot for a minute.
CONNECT_S: Final = 10.0

_VERSION = re.compile(r"/v\d+[a-z0-9]*(/|$)")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def new_session() -> aiohttp.ClientSession:
    """The session that all models of a process share: no cookies, no limit (workers bound the calls in hand)."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"Accept": "application/json", "Accept-Encoding": ACCEPTED, "User-Agent": "pointsman"},
    )


def full_url(base_url: str, url: str) -> URL:
    """Where ``url`` (``/v1/...``) of a request lies on a server; ``ConfigError`` for a base that is no address.

    A ``base_url`` that names a version already (``.../v1``, ``.../v1beta/openai``) replaces the request's ``/v1``.

    >>> str(full_url("http://127.0.0.1:8000", "/v1/chat/completions"))
    'http://127.0.0.1:8000/v1/chat/completions'
    >>> str(full_url("https://api.example.com/openai/v1/", "/v1/embeddings"))
    'https://api.example.com/openai/v1/embeddings'
    """
    try:
        base = URL(base_url)
    except ValueError as error:
        raise ConfigError(f"base_url {base_url}: {error}") from error
    path = base.path.rstrip("/")
    return base.with_path(path + (url.removeprefix("/v1") if _VERSION.search(path + "/") else url), keep_query=True)


def key_from(name: str | None, where: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key in the variable ``name``; ``None`` for no name. ``ConfigError`` names a variable that is missing or odd."""
    if name is None:
        return None
    key = environment.get(name, "").strip()
    if not key:
        raise ConfigError(f"{where}.api_key_env: the environment variable {name} is not set")
    if not _PRINTABLE.fullmatch(key):
        raise ConfigError(f"{where}.api_key_env: the value of {name} must be printable ASCII without spaces")
    return key


class OpenAIHttp:
    """The provider of one model over its places.

    Args:
        places: at least one, with distinct names.
        session: from ``new_session``; the caller closes it.
        clock_s: monotonic seconds, for cooling and latency. ``now_ms``: wall clock, for ``Retry-After`` dates.
        dice: draws between endpoints. ``patience``: time limits of completions' tokens.
    """

    def __init__(
        self,
        places: Sequence[Place],
        session: aiohttp.ClientSession,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        dice: Random | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._session = session
        self._patience, self._clock_s = patience or Patience(), clock_s
        self._now_ms = now_ms
        self._endpoints = Endpoints(places, clock_s, dice or Random())  # noqa: S311 - balances load, guards nothing
        self._urls = {p.name: {url: full_url(p.base_url, url) for url in URLS} for p in places}
        self._auth = {p.name: {"Authorization": f"Bearer {p.key}"} if p.key else {} for p in places}

    def free_in_s(self) -> float:
        return self._endpoints.free_in_s()

    def state(self) -> dict[str, dict[str, Any]]:
        return self._endpoints.state()

    async def call(self, work: Work, *, budget_s: float, headers: dict[str, str]) -> Answer:
        if budget_s <= 0:
            return failed("timeout", ErrorCode.TIMEOUT, "the deadline had passed before the call")
        if work.url not in URLS:
            return failed("error", ErrorCode.INVALID_REQUEST, "a provider serves no such url")
        try:
            sent = outgoing(work)
            streams = self._patience.streams and work.url in COMPLETIONS
            body = orjson.dumps(asked(sent) if streams else sent)
        except TypeError:  # nested deeper than can be written
            return failed("error", ErrorCode.INVALID_REQUEST, "the request body cannot be written as JSON")
        headers = {
            **headers,
            "Content-Type": "application/json",
            "Idempotency-Key": f"{work.request_id}-{work.attempt}",
        }
        if streams:
            headers["Accept"] = f"{MEDIA}, application/json"

        async def call(place: Place) -> Answer:
            stream = Stream(work, self._patience, self._clock_s) if streams else None
            answer = await self._post(place, work.url, headers, body, budget_s, stream)
            return answer if stream is None else await stream.closed(answer)

        return await attempt(self._endpoints, len(body) // 4, call)

    async def _post(  # noqa: PLR0917 - one call, spelt out
        self, place: Place, url: str, headers: dict[str, str], body: bytes, budget_s: float, stream: Stream | None
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=budget_s, sock_connect=CONNECT_S)
        try:
            async with (
                nullcontext() if stream is None else stream.limit,
                self._session.post(
                    self._urls[place.name][url],
                    data=body,
                    headers=headers | self._auth[place.name],
                    timeout=timeout,
                    allow_redirects=False,
                ) as response,
            ):
                if stream is not None:
                    if is_stream(response):
                        return await stream.read(response)
                    stream.limit.reschedule(None)  # it answers whole: with its headers the answer is there
                inflater = Inflater(response.headers.get("Content-Encoding", ""), MAX_ANSWER_BYTES)
                async for chunk in response.content.iter_any():
                    inflater.feed(chunk)
                return read_answer(url, response.status, response.headers, inflater.finish(), now_ms=self._now_ms())
        except (TooLarge, zlib.error, aiohttp.ClientError, TimeoutError, OSError) as error:
            return _failed(error)


def _failed(error: Exception) -> Answer:
    """What reading an answer may end with."""
    if isinstance(error, TooLarge):
        return failed("error", ErrorCode.ANSWER_TOO_LARGE, f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    if isinstance(error, zlib.error):
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the answer cannot be decompressed")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return failed("error", ErrorCode.CONNECTION_ERROR, "no connection in time")
    if isinstance(error, TimeoutError):
        return failed("timeout", ErrorCode.TIMEOUT, "no answer in time")
    return failed("error", ErrorCode.CONNECTION_ERROR, type(error).__name__)


def outgoing(work: Work) -> dict[str, Any]:
    """The body to send: the request's, with the provider's model, without streaming, and with what a check needs."""
    body = asked_with(work, {**work.body, "model": work.provider_model})
    body.pop("stream", None)
    body.pop("stream_options", None)
    return body
