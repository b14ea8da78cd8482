"""What a worker needs of a provider: one coroutine that makes one attempt and always comes back with an answer.

A provider never raises for what a server, a network or a request may do wrong: that is an ``Answer`` with a status and
a code. Only cancellation passes through.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from router.contract.records import OutcomeError, Status, Usage, Work
from router.core.failure import ENDPOINT_RATE_LIMITED

#: Longest ``error.message`` that leaves this room.
MAX_MESSAGE_CHARS = 200


class ErrorCode(StrEnum):
    """``error.code`` of outcomes made here; other workers may use others. ``http_<status>`` stands for 5xx and the like."""

    BANNED = "banned"
    TIMEOUT = "timeout"
    #: Of streams: nothing of the answer, or nothing more, within the time that the model's settings give.
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - a code, no secret
    IDLE_TIMEOUT = "idle_timeout"
    RATE_LIMITED = "rate_limited"
    CONNECTION_ERROR = "connection_error"
    #: One endpoint has had enough, another of the model is free.
    ENDPOINT_RATE_LIMITED = ENDPOINT_RATE_LIMITED
    MALFORMED_ANSWER = "malformed_answer"
    ANSWER_TOO_LARGE = "answer_too_large"
    TRUNCATED = "truncated"
    CONTENT_FILTER = "content_filter"
    PROVIDER_ERROR = "provider_error"
    #: Wrong however often the model is asked again: the request itself, or the key.
    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    UNAUTHORIZED = "unauthorized"
    #: More bytes than the server takes.
    REQUEST_TOO_LARGE = "request_too_large"
    #: Nobody has paid.
    INSUFFICIENT_QUOTA = "insufficient_quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one attempt ended: the part of an outcome that the provider knows.

    ``body`` is the provider's JSON object when ``ok`` or ``truncated``, else ``None``; ``endpoint`` is ``None`` when no
    call was made; ``latency_ms`` covers the call alone.
    """

    status: Status
    body: dict[str, Any] | None = None
    usage: Usage | None = None
    served_model: str | None = None
    endpoint: str | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    confidence: float | None = None
    error: OutcomeError | None = None


class Provider(Protocol):
    """One model at its provider."""

    async def call(self, work: Work, *, budget_s: float, headers: dict[str, str]) -> Answer:
        """Make one attempt within ``budget_s`` seconds; ``headers`` (``traceparent``) travel with it.

        A budget of zero or less: ``timeout`` without a call.
        """
        ...

    def free_in_s(self) -> float:
        """Seconds until some endpoint takes a call; 0 when one does now."""
        ...

    def state(self) -> dict[str, dict[str, Any]]:
        """How each endpoint fares, by its name.

        ``outstanding`` calls, ``cooling_s`` left, ``failures`` in a row; its breaker's ``state`` (``closed``,
        ``open``, ``half_open``), the ``reason`` when not closed, ``open_s`` left, ``openings``; ``weight`` as it counts now;
        ``error_rate`` 0..1 and ``usual_ms`` (geometric mean, ``None`` when unknown) of about the last minute.
        """
        ...


def failed(status: Status, code: str, message: str = "", *, retry_after_ms: int | None = None) -> Answer:
    """An answer without a body; ``message`` is cut to ``MAX_MESSAGE_CHARS``."""
    error = OutcomeError(code=code, message=message[:MAX_MESSAGE_CHARS], retry_after_ms=retry_after_ms)
    return Answer(status=status, error=error)
