"""One attempt at one of a model's endpoints, and what its answer teaches about the endpoint. The same for every provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from router.work.endpoints import Endpoint, Endpoints, Place
from router.work.provider import Answer, ErrorCode, failed


async def attempt(endpoints: Endpoints, guess_tokens: int, call: Callable[[Place], Awaitable[Answer]]) -> Answer:
    """The answer of ``call`` at a free endpoint, with its name and the call's latency; ``rate_limited`` when none is free.

    ``guess_tokens``: what the call will take of ``tokens_per_minute``, corrected by its usage.
    """
    endpoint = endpoints.pick()
    if endpoint is None:
        wait_ms = int(endpoints.free_in_s() * 1000) + 1
        return failed("rate_limited", ErrorCode.RATE_LIMITED, "every endpoint is cooling", retry_after_ms=wait_ms)
    begun_s = endpoints.clock_s()
    endpoint.begin(guess_tokens, begun_s)
    try:
        answer = await call(endpoint.place)
    finally:
        endpoint.end()
    ended_s = endpoints.clock_s()
    if answer.usage is not None:
        spent_tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
        endpoint.spend(spent_tokens - guess_tokens, ended_s)
    _learn(endpoint, answer, ended_s)
    return replace(answer, endpoint=endpoint.place.name, latency_ms=max(0, round((ended_s - begun_s) * 1000)))


def _learn(endpoint: Endpoint, answer: Answer, now_s: float) -> None:
    """What an answer says of its endpoint; a request that is at fault says nothing."""
    code = answer.error.code if answer.error else ""
    if answer.status == "rate_limited":
        endpoint.cool(answer.error.retry_after_ms if answer.error else None, now_s)
    elif code in {ErrorCode.CONNECTION_ERROR, ErrorCode.UNAUTHORIZED} or code.startswith("http_5"):
        endpoint.failed(now_s)
    elif answer.status in {"ok", "refused"}:
        endpoint.succeeded()
