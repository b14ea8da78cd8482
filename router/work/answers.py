"""What an HTTP answer of an OpenAI-compatible server means: status, headers and bytes in, ``Answer`` out. No I/O.

The rule: ``ok`` only for a complete answer. A 2xx must be JSON by its content type and by its bytes, and hold what its
URL promises; each choice of a completion must say why it finished. Readable but unfinished is ``truncated``; everything
else is an error whose code says whether asking again can help. Messages are our own words: what a server writes may
quote the prompt or the key, so only its ``code`` travels on, when it looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from router.contract.urls import COMPLETIONS, EMBEDDINGS
from router.core.usage import read_usage
from router.work.provider import Answer, ErrorCode, failed
from router.work.retry_after import retry_after_ms

#: What may be asked for; a request's ``url`` reaches no other path of a provider.
URLS = COMPLETIONS | EMBEDDINGS

_CODE = re.compile(r"[a-z][a-z_]{0,62}[a-z]")  # no digits, no dashes: never a key
_TOO_LONG = ("context_length", "context_window", "too_many_tokens", "string_above_max_length")
_TOO_LONG_TEXT = re.compile(
    rb"context[ _-]?(length|window)|maximum context|too many (input )?tokens|prompt is too long", re.IGNORECASE
)
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"})
_FILTERED = frozenset({"content_filter", "content_policy_violation", "responsible_ai_policy_violation"})


def read_answer(url: str, status: int, headers: Mapping[str, str], body: bytes, *, now_ms: int) -> Answer:
    """Judge one HTTP answer; ``headers`` must be case-insensitive, ``body`` decompressed."""
    if 200 <= status < 300:
        return _read_success(url, headers, body)
    code = _server_code(body)
    said = f"HTTP {status}" + (f" ({code})" if code else "")
    if code in _FILTERED:
        return failed("refused", ErrorCode.CONTENT_FILTER, said)
    wait_ms = retry_after_ms(headers, now_ms) if status in {429, 503} else None
    if status == 429 and code not in _NO_CREDIT:
        return failed("rate_limited", ErrorCode.RATE_LIMITED, said, retry_after_ms=wait_ms)
    return failed("error", _error_code(status, code, body), said, retry_after_ms=wait_ms)


def _error_code(status: int, code: str | None, body: bytes) -> str:
    """What an answer that is neither good nor a limit amounts to."""
    if status in {400, 413, 415, 422}:
        return _fault_of_request(status, code, body)
    if status in {401, 403}:
        return ErrorCode.UNAUTHORIZED
    # Some say with a 429 that nobody has paid: to wait is of no use.
    return ErrorCode.INSUFFICIENT_QUOTA if status in {402, 429} else f"http_{status}"


def _read_success(url: str, headers: Mapping[str, str], body: bytes) -> Answer:
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the content type of the answer is not JSON")
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the answer is not JSON")
    if not isinstance(found, dict):
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the answer is not a JSON object")
    if found.get("error"):
        code = code_of(found)
        return failed(
            "error", ErrorCode.PROVIDER_ERROR, "HTTP 200 with an error inside" + (f" ({code})" if code else "")
        )
    return read_completion(found) if url in COMPLETIONS else _read_embeddings(found)


def read_completion(found: dict[str, Any]) -> Answer:
    """Judge the body of a completion, which came whole or as a stream."""
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not all(map(_is_choice, choices)):
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the answer has no choices, or one without a message")
    reasons = [choice.get("finish_reason") for choice in choices]
    if not all(isinstance(reason, str) and reason for reason in reasons):
        answer = failed("truncated", ErrorCode.TRUNCATED, "a choice has no finish reason")
        return _with_body(answer, found)
    if "error" in reasons:
        return failed("error", ErrorCode.PROVIDER_ERROR, "finish reason: error")
    if all(reason == "content_filter" for reason in reasons):
        refused = failed("refused", ErrorCode.CONTENT_FILTER, "finish reason: content_filter")
        return Answer(
            status="refused", usage=read_usage(found.get("usage")), served_model=_name(found), error=refused.error
        )
    return _with_body(Answer(status="ok"), found)


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and (isinstance(choice.get("message"), dict) or isinstance(choice.get("text"), str))


def _read_embeddings(found: dict[str, Any]) -> Answer:
    data = found.get("data")
    if not isinstance(data, list) or not data or not all(isinstance(d, dict) and d.get("embedding") for d in data):
        return failed("error", ErrorCode.MALFORMED_ANSWER, "the answer has no embeddings")
    return _with_body(Answer(status="ok"), found)


def _with_body(answer: Answer, found: dict[str, Any]) -> Answer:
    return Answer(
        status=answer.status,
        body=found,
        usage=read_usage(found.get("usage")),
        served_model=_name(found),
        error=answer.error,
    )


def _name(found: dict[str, Any]) -> str | None:
    name = found.get("model")
    return name[:256] if isinstance(name, str) and name else None


def _fault_of_request(status: int, code: str | None, body: bytes) -> str:
    """What a 4xx says that finds fault with the request."""
    # Servers that have no code for it say it in words; the words are only looked at, never passed on.
    too_long = any(word in code for word in _TOO_LONG) if code else False
    if too_long or _TOO_LONG_TEXT.search(body, 0, 4096):
        return ErrorCode.CONTEXT_LENGTH_EXCEEDED
    return ErrorCode.REQUEST_TOO_LARGE if status == 413 else ErrorCode.INVALID_REQUEST


def _server_code(body: bytes) -> str | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return code_of(found) if isinstance(found, dict) else None


def code_of(found: dict[str, Any]) -> str | None:
    """``error.code``, else ``error.type``, if it is a plain word."""
    error = found.get("error")
    if not isinstance(error, dict):
        return None
    for value in (error.get("code"), error.get("type")):
        if isinstance(value, str) and _CODE.fullmatch(value):
            return value
    return None
