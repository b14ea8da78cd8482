"""One attempt at one of a model's endpoints, and what its answer teaches about the endpoint. The same for every provider."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from router.work.endpoints import Endpoint, Endpoints, Place
from router.work.provider import Answer, ErrorCode, failed

#: A call that was given less than so many times what calls usually take, or less than so many seconds, says nothing by not ending.
LONG, MIN_LONG_S = 3.0, 1.0
_FAULTS: Final = frozenset(
    {
        ErrorCode.CONNECTION_ERROR,
        ErrorCode.UNAUTHORIZED,
        ErrorCode.MALFORMED_ANSWER,
        ErrorCode.PROVIDER_ERROR,
        ErrorCode.INSUFFICIENT_QUOTA,
    }
)


async def attempt(endpoints: Endpoints, guess_tokens: int, call: Callable[[Place], Awaitable[Answer]]) -> Answer:
    """The answer of ``call`` at a free endpoint, with its name and the call's latency; ``rate_limited`` when none is free.

    A 429 while another endpoint is free has the code ``endpoint_rate_limited``: the model may be asked again at once.

    ``guess_tokens``: what the call will take of ``tokens_per_minute``, corrected by its usage.
    """
    endpoint = endpoints.pick()
    if endpoint is None:
        wait_ms = int(endpoints.free_in_s() * 1000) + 1
        return failed("rate_limited", ErrorCode.RATE_LIMITED, "no endpoint is free", retry_after_ms=wait_ms)
    begun_s = endpoints.clock_s()
    probe = endpoint.begin(guess_tokens, begun_s)
    try:
        answer = await call(endpoint.place)
        ended_s = endpoints.clock_s()
        _learn(endpoint, answer, ended_s, took_s=max(0.0, ended_s - begun_s), probe=probe)
    finally:
        endpoint.end(probe=probe)
    if answer.usage is not None:
        spent_tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
        endpoint.spend(spent_tokens - guess_tokens, ended_s)
    endpoints.judge(endpoint)
    if answer.status == "rate_limited" and answer.error is not None and endpoints.free_in_s() == 0:
        answer = replace(answer, error=replace(answer.error, code=ErrorCode.ENDPOINT_RATE_LIMITED))
    return replace(answer, endpoint=endpoint.place.name, latency_ms=max(0, round((ended_s - begun_s) * 1000)))


def _learn(endpoint: Endpoint, answer: Answer, now_s: float, *, took_s: float, probe: bool) -> None:
    """What an answer says of its endpoint; a request that is at fault says nothing."""
    code = answer.error.code if answer.error else ""
    if answer.status == "rate_limited":
        endpoint.cool(answer.error.retry_after_ms if answer.error else None, now_s)
    elif code == ErrorCode.TIMEOUT:
        if took_s >= _long_s(endpoint):
            endpoint.failed(now_s, probe=probe)
    elif answer.status in {"timeout", "truncated"} or code in _FAULTS or code.startswith("http_5"):
        endpoint.failed(now_s, probe=probe)
    elif answer.status in {"ok", "refused"}:
        endpoint.succeeded(took_s, now_s, probe=probe)


def _long_s(endpoint: Endpoint) -> float:
    """From how many seconds on a call without an answer is the endpoint's fault, and not that of a near deadline."""
    usual_s = endpoint.tally.latency_s
    return MIN_LONG_S if usual_s is None else max(MIN_LONG_S, LONG * usual_s)
