"""One small tree of errors. Each has a stable ``code`` that appears in results, dead letters, metrics and docs."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why a request failed: ``error.code`` of a result."""

    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    CAPABILITY_MISSING = "capability_missing"
    BUDGET_EXCEEDED = "budget_exceeded"
    RATE_LIMITED = "rate_limited"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NO_MODEL_AVAILABLE = "no_model_available"
    PROVIDER_ERROR = "provider_error"
    CONTENT_REFUSED = "content_refused"
    OVERLOADED = "overloaded"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"


class RejectCode(StrEnum):
    """Why a record went to the dead letter: ``reason.code``. Bad requests carry ``Code.INVALID_REQUEST``."""

    INVALID_REQUEST = "invalid_request"
    INVALID_WORK = "invalid_work"
    INVALID_OUTCOME = "invalid_outcome"
    WRONG_SLIP = "wrong_slip"
    INVALID_DECISION = "invalid_decision"
    INVALID_FEEDBACK = "invalid_feedback"
    FORGED_TOKEN = "forged_token"  # noqa: S105 - a reason, not a password
    EXPIRED_TOKEN = "expired_token"  # noqa: S105
    UNKNOWN_REQUEST = "unknown_request"
    INVALID_CONTROL = "invalid_control"
    UNSUPPORTED_SCHEMA = "unsupported_schema"
    INTERNAL_ERROR = "internal_error"


class PointsmanError(Exception):
    """Base of all errors that this package raises on purpose. ``code`` is stable, the message is for a person."""

    code: str = Code.INTERNAL_ERROR

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BadRecord(PointsmanError):  # noqa: N818 - says what is bad
    """A record that does not fit the contract; the message names the field and what is wrong with it."""

    code = RejectCode.INVALID_REQUEST


class ConfigError(PointsmanError):
    """Wrong usage or configuration; the message names the option, key or file. Exit code 2 on the command line.

    ``problems`` has one line for each thing that is wrong; the message is all of them.
    """

    code = "config_error"

    def __init__(self, message: str, *, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or [message]


class Unavailable(PointsmanError):  # noqa: N818 - says what it is
    """Something outside is missing: no broker, no download. Exit code 1 on the command line."""

    code = "unavailable"
