"""``pointsman sim``: an OpenAI-compatible server whose models are simulated (``behaviour``). Loopback only.

``POST /v1/chat/completions`` (also with ``stream``: ``sim_stream``), ``/v1/completions``, ``/v1/embeddings``,
``GET /v1/models``; any model name is served.
Each answer carries ``"sim": {"good": bool, "task_class": str}``, the truth that a real provider does not tell.

``POST /sim/behaviour`` merges a change (JSON of the same form as the TOML file) while calls run; ``GET /sim/behaviour``
shows the world; ``GET /sim/calls`` counts calls, those in hand, and *repeats*: calls whose idempotency key was seen
before. The call log is one JSON line when a call starts and one when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson
import xxhash
from aiohttp import web

from router.contract.errors import ConfigError
from router.work.behaviour import Behaviour, World, is_error, uniform
from router.work.calllog import CallLog
from router.work.endpoints import Bucket
from router.work.sim_stream import ERROR, streamed

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
CHARS_PER_TOKEN: Final = 4
_TEXT = (
    "The simulated model answers in plain words so that lengths, costs and delays look like those of a real one. "
    "Nothing here is true, nothing is learned from it, and the same question gets the same answer again. "
) * 400
_JSON: Final = "application/json"
#: Errors that are told by status and code.
_SAID: Final = {"too_long": ("400", "context_length_exceeded"), "unpaid": ("429", "insufficient_quota")}


class Simulator:
    """Serves a ``World``; ``app()`` makes the aiohttp application. ``clock_s``: seconds since the epoch."""

    def __init__(self, world: World, log_path: Path | None = None, *, clock_s: Callable[[], float] = time.time) -> None:
        self.world = world
        self.calls = CallLog(log_path, clock_s)
        self._clock_s = clock_s
        self._limits: dict[tuple[str, float], Bucket] = {}
        self._unnamed = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/sim/calls", self._summary)
        app.router.add_get("/sim/behaviour", self._show)
        app.router.add_post("/sim/behaviour", self._change)
        app.cleanup_ctx.append(self._log_flushed)
        return app

    async def _log_flushed(self, _app: web.Application) -> AsyncIterator[None]:
        flushing = asyncio.create_task(self.calls.keep_flushing())
        yield
        flushing.cancel()
        with suppress(asyncio.CancelledError):
            await flushing
        self.calls.close()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _completion)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, _embeddings)

    async def _serve(self, request: web.Request, answer: Callable[[Call], dict[str, Any]]) -> web.StreamResponse:
        body = _parse(await request.read())
        if body is None:
            return _error(400, "invalid_request_error", "the body must be a JSON object with a model")
        call = self._call(body, request.headers.get("Idempotency-Key"))
        self.calls.start(call.model, call.key)
        status = "cut"  # by the client, unless something else is said below
        try:
            response = await self._behave(request, call, answer)
            status = str(response.status)
        finally:
            self.calls.end(call.model, call.key, status)
        return response

    def _call(self, body: dict[str, Any], key: str | None) -> Call:
        if key is None:
            self._unnamed += 1
            key = f"unnamed-{self._unnamed}"
        prompt, metadata = _prompt(body), body.get("metadata")
        named = metadata.get("task_class") if isinstance(metadata, dict) else None
        task_class = named if isinstance(named, str) else self.world.task_class(prompt)
        return Call(body, key, self.world.of(body["model"]), task_class)

    async def _behave(
        self, request: web.Request, call: Call, answer: Callable[[Call], dict[str, Any]]
    ) -> web.StreamResponse:
        behaviour = call.behaviour
        kind = call.fails() or ("429" if self._over_limit(call) else behaviour.error(call.draw("error")))
        if kind == "hang":
            await asyncio.sleep(behaviour.hang_s)
        status, code = _SAID.get(kind or "", (kind or "", "simulated"))
        if status.isdecimal():
            return _error(int(status), code, "simulated error", retry_after_s=behaviour.retry_after_s)
        if call.body.get("stream") is True and request.path.endswith("/chat/completions"):
            return await streamed(request, call, answer(call), kind)
        await asyncio.sleep(behaviour.latency_s(call.draw("latency")))
        return await self._whole(request, call, answer, kind)

    async def _whole(
        self, request: web.Request, call: Call, answer: Callable[[Call], dict[str, Any]], kind: str | None
    ) -> web.StreamResponse:
        if kind == "refused":
            return _json({**answer(call), "choices": [_choice("", "content_filter")]})
        if kind == "truncated":
            return _json({**answer(call), "choices": [_choice(_TEXT[:80], None)]})
        body = orjson.dumps(answer(call))
        if kind == "malformed":
            return web.Response(body=body[: len(body) // 2], content_type=_JSON)
        if kind == "error_event":
            return _json(ERROR)
        if kind in {"cut", "stall"}:
            return await _cut(request, body, after_s=call.behaviour.hang_s if kind == "stall" else 0.0)
        return web.Response(body=body, content_type=_JSON)

    def _over_limit(self, call: Call) -> bool:
        per_s = call.behaviour.requests_per_s
        if not per_s:
            return False
        now_s = self._clock_s()
        bucket = self._limits.get((call.model, per_s))
        if bucket is None:
            bucket = self._limits[call.model, per_s] = Bucket(per_s * 60, now_s, burst_s=1.0)
        if bucket.free_at_s() > now_s:
            return True
        bucket.take(1, now_s)
        return False

    async def _models(self, _request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "sim"} for name in sorted(self.world.models)]
        return _json({"object": "list", "data": data})

    async def _summary(self, _request: web.Request) -> web.Response:
        return _json(self.calls.summary())

    async def _show(self, _request: web.Request) -> web.Response:
        return _json(asdict(self.world))

    async def _change(self, request: web.Request) -> web.Response:
        if request.remote not in {"127.0.0.1", "::1"}:
            return _error(403, "forbidden", "only from this machine")
        try:
            self.world = self.world.changed(orjson.loads(await request.read()))
        except (ConfigError, orjson.JSONDecodeError) as error:
            return _error(400, "invalid_request_error", str(error))
        return _json(asdict(self.world))


class Call:
    """One call: what it asks, and its draws."""

    __slots__ = ("behaviour", "body", "key", "model", "prompt_hash", "prompt_tokens", "task_class")

    def __init__(self, body: dict[str, Any], key: str, behaviour: Behaviour, task_class: str) -> None:
        self.body, self.key, self.behaviour, self.task_class = body, key, behaviour, task_class
        self.model: str = body["model"]
        asked = orjson.dumps(body.get("messages", body.get("input", body.get("prompt"))))
        self.prompt_hash = xxhash.xxh3_128_hexdigest(asked)
        self.prompt_tokens = max(1, len(asked) // CHARS_PER_TOKEN)

    def fails(self) -> str | None:
        """How the request wants this attempt of this model to fail."""
        metadata = self.body.get("metadata")
        asked = metadata.get("fails") if isinstance(metadata, dict) else None
        kinds = asked.get(self.model) if isinstance(asked, dict) else None
        if isinstance(kinds, list):
            number = self.key.rpartition("-")[2]
            at = int(number) - 1 if number.isdecimal() and len(number) < 4 else 0
            kinds = kinds[at] if 0 <= at < len(kinds) else None
        return kinds if isinstance(kinds, str) and is_error(kinds) else None

    def draw(self, what: str) -> float:
        """Uniform in (0, 1); another for each attempt."""
        return uniform(what, self.model, self.prompt_hash, self.key)

    def good(self) -> bool:
        """Whether the answer is good: the same for each attempt of this prompt on this model."""
        return uniform("good", self.model, self.prompt_hash) < self.behaviour.p_good(self.task_class)

    def head(self, kind: str, completion_tokens: int) -> dict[str, Any]:
        return {
            "id": f"sim-{self.prompt_hash[:16]}",
            "object": kind,
            "created": int(time.time()),
            "model": self.behaviour.served_model or self.model,
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": self.prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            "sim": {"good": self.good(), "task_class": self.task_class},
        }


def _completion(call: Call) -> dict[str, Any]:
    most = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
    tokens, reason = call.behaviour.length_tokens(call.draw("length")), "stop"
    if isinstance(most, int) and 0 < most < tokens:
        tokens, reason = most, "length"
    text = _TEXT[: tokens * CHARS_PER_TOKEN] if call.behaviour.says is None else call.behaviour.says
    choice = _choice(text, reason)
    if call.body.get("logprobs"):
        choice["logprobs"] = _logprobs(text, call.behaviour.logprob(call.good(), call.draw("certainty")))
    return {**call.head("chat.completion", tokens), "choices": [choice]}


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}


def _logprobs(text: str, mean: float) -> dict[str, Any]:
    """Of tokens of four characters: half of them sure, the others twice as unsure as the mean."""
    tokens = [text[at : at + CHARS_PER_TOKEN] for at in range(0, len(text), CHARS_PER_TOKEN)]
    told = [mean if at == len(tokens) - 1 and at % 2 == 0 else 2 * mean * (at % 2) for at in range(len(tokens))]
    content = [{"token": token, "logprob": one, "top_logprobs": []} for token, one in zip(tokens, told, strict=True)]
    return {"content": content}


def _embeddings(call: Call) -> dict[str, Any]:
    found = call.body.get("input")
    count = min(len(found), 2048) if isinstance(found, list) and found else 1
    vectors = [[uniform(call.prompt_hash, str(i), str(j)) - 0.5 for j in range(8)] for i in range(count)]
    data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return {**call.head("list", 0), "data": data}


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) and isinstance(body.get("model"), str) else None


def _prompt(body: dict[str, Any]) -> str:
    """The text of the last user message, or of ``prompt`` or ``input``."""
    messages = body.get("messages")
    users = (
        [m for m in messages if isinstance(m, dict) and m.get("role") == "user"] if isinstance(messages, list) else []
    )
    content = users[-1].get("content") if users else body.get("prompt", body.get("input"))
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return " ".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


async def _cut(request: web.Request, body: bytes, *, after_s: float) -> web.StreamResponse:
    """Promise the whole body, send half, keep silent, and break the connection."""
    response = web.StreamResponse(headers={"Content-Type": _JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    await asyncio.sleep(after_s)
    if request.transport is not None:
        request.transport.abort()
    return response


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type=_JSON)


def _error(status: int, code: str, message: str, *, retry_after_s: float | None = None) -> web.Response:
    headers = {"Retry-After": f"{retry_after_s:g}"} if status in {429, 503} and retry_after_s is not None else None
    body = orjson.dumps({"error": {"message": message, "type": code, "code": code, "param": None}})
    return web.Response(status=status, body=body, content_type=_JSON, headers=headers)


@asynccontextmanager
async def serving(simulator: Simulator, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve within the block; yields the base URL. Port 0: any free one. ``OSError`` when the port is taken."""
    runner = web.AppRunner(simulator.app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
