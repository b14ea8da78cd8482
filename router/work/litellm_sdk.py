"""Providers that do not speak OpenAI's protocol, through the LiteLLM SDK (``pip install 'pointsman[litellm]'``).

``provider_model`` is LiteLLM's name, such as ``anthropic/claude-...``. An endpoint's ``base_url`` and key are passed on;
without an endpoint LiteLLM finds the key in its own variables. What differs from ``openai_http``: an answer is read whole
before its size is known, redirects are the SDK's business, and so is a missing finish reason: the SDK writes ``stop``, so
an answer that was cut there passes for a whole one.

Only fields of OpenAI's API go on. The SDK takes its own settings (``api_base``, ``api_key``, callbacks) from the same
arguments, and a request's author must not reach those.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from random import Random
from typing import Any, Final

import orjson
from multidict import CIMultiDict

from router.contract.errors import ConfigError
from router.contract.records import Work
from router.contract.topics import MAX_ANSWER_BYTES
from router.work.answers import read_answer
from router.work.balanced import attempt
from router.work.confidence import asked_with
from router.work.endpoints import Endpoints, Place
from router.work.provider import Answer, ErrorCode, failed

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
FIELDS: Final = {
    CHAT: frozenset(
        {
            "messages",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
            "n",
            "stop",
            "seed",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "response_format",
            "logprobs",
            "top_logprobs",
            "logit_bias",
            "presence_penalty",
            "frequency_penalty",
            "user",
            "reasoning_effort",
            "modalities",
            "prediction",
        }
    ),
    EMBEDDINGS: frozenset({"input", "dimensions", "encoding_format", "user"}),
}


class LiteLlm:
    """The provider of one model over its places.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        dice: Random | None = None,
    ) -> None:
        self._sdk, self._sdk_error = _sdk()
        self._now_ms = now_ms
        places = places or [Place(name="default", base_url="")]
        self._endpoints = Endpoints(places, clock_s, dice or Random())  # noqa: S311 - balances load, guards nothing

    def free_in_s(self) -> float:
        return self._endpoints.free_in_s()

    def state(self) -> dict[str, dict[str, Any]]:
        return self._endpoints.state()

    async def call(self, work: Work, *, budget_s: float, headers: dict[str, str]) -> Answer:
        if budget_s <= 0:
            return failed("timeout", ErrorCode.TIMEOUT, "the deadline had passed before the call")
        if work.url not in FIELDS:
            return failed("error", ErrorCode.INVALID_REQUEST, "this provider serves no such url")
        arguments = {**arguments_of(work, headers), "timeout": budget_s}
        return await attempt(
            self._endpoints, 0, lambda place: self._ask(work.url, {**arguments, **_where(place)}, budget_s)
        )

    async def _ask(self, url: str, arguments: dict[str, Any], budget_s: float) -> Answer:
        ask = self._sdk.acompletion if url == CHAT else self._sdk.aembedding
        try:
            async with asyncio.timeout(budget_s):
                found = (await ask(**arguments)).model_dump(mode="json")
        except (TimeoutError, self._sdk.Timeout):
            return failed("timeout", ErrorCode.TIMEOUT, "no answer in time")
        except self._sdk_error as error:
            return self._read_error(url, error)
        body = orjson.dumps(found)
        if len(body) > MAX_ANSWER_BYTES:
            return failed("error", ErrorCode.ANSWER_TOO_LARGE, f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return read_answer(url, 200, CIMultiDict({"content-type": "application/json"}), body, now_ms=self._now_ms())

    def _read_error(self, url: str, error: Exception) -> Answer:
        """By kind and status; never by the message, which may quote prompt or key."""
        if isinstance(error, self._sdk.ContextWindowExceededError):
            return failed("error", ErrorCode.CONTEXT_LENGTH_EXCEEDED, "the SDK: too long for the model")
        if isinstance(error, self._sdk.ContentPolicyViolationError):
            return failed("refused", ErrorCode.CONTENT_FILTER, "the SDK: content policy")
        if isinstance(error, self._sdk.APIConnectionError):
            return failed("error", ErrorCode.CONNECTION_ERROR, "the SDK: no connection")
        status = getattr(error, "status_code", None)
        headers = getattr(getattr(error, "response", None), "headers", None)
        named = CIMultiDict(headers) if isinstance(headers, Mapping) else CIMultiDict[str]()
        return read_answer(
            url, status if isinstance(status, int) and status >= 300 else 500, named, b"", now_ms=self._now_ms()
        )


def arguments_of(work: Work, headers: dict[str, str]) -> dict[str, Any]:
    """What the SDK is asked with; nothing of the body but fields of OpenAI's API."""
    body = asked_with(work, work.body)
    fields = {name: value for name, value in body.items() if name in FIELDS[work.url]}
    headers = {**headers, "Idempotency-Key": f"{work.request_id}-{work.attempt}"}
    return {**fields, "model": work.provider_model, "extra_headers": headers, "num_retries": 0}


def _where(place: Place) -> dict[str, str]:
    found = {"api_base": place.base_url, "api_key": place.key}
    return {name: value for name, value in found.items() if value}


def _sdk() -> tuple[Any, type[Exception]]:
    """The SDK, quiet and without its downloads, and the base of what it raises."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches a price list when imported
    try:
        sdk: Any = import_module("litellm")
        openai: Any = import_module("openai")
    except ImportError as error:
        raise ConfigError("provider litellm needs the extra: pip install 'pointsman[litellm]'") from error
    sdk.telemetry, sdk.suppress_debug_info = False, True
    return sdk, openai.OpenAIError
