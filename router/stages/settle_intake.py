"""What settle reads of records that others wrote: within limits, whatever they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from router.contract.errors import BadRecord, Code, RejectCode
from router.contract.records import ErrorInfo, Outcome, OutcomeError
from router.contract.topics import DAY_MS, MAX_ANSWER_BYTES
from router.contract.wire import parse

#: Of what a worker calls things: it goes into rows, results and usage.
MAX_NAME_CHARACTERS = 256
MAX_MESSAGE_CHARACTERS = 2_000
_CODES = frozenset(code.value for code in Code)
#: Room for all of an outcome but the provider's answer and the slip.
_FRAME_BYTES = 64 * 1024


def slip_text(record: Any) -> str:
    """The slip in a decision's header; empty, which is no slip, without one."""
    for name, value in record.headers:
        if name == "slip" and value is not None:
            return bytes(value).decode("latin-1")
    return ""


def refusal_of(value: bytes) -> ErrorInfo:
    """The error of a decision with attempt 0. Its slip is genuine, so it ends the request, whatever else it says."""
    try:
        error: Any = parse(value).get("error")
        code, message, retry_ms = str(error["code"]), str(error["message"]), error.get("retry_after_ms")
    except (BadRecord, TypeError, KeyError, AttributeError) as problem:
        raise BadRecord("error: a refusal needs one", code=RejectCode.INVALID_DECISION) from problem
    return ErrorInfo(
        code=code if code in _CODES else Code.INTERNAL_ERROR.value,
        message=message[:MAX_MESSAGE_CHARACTERS],
        retry_after_ms=retry_ms if type(retry_ms) is int and 0 <= retry_ms <= DAY_MS * 31 else None,
    )


def bounded(outcome: Outcome, value_bytes: int) -> Outcome:
    """Within limits, whatever the worker is: an answer over the limit is an error, long names are cut."""
    error = outcome.error
    if outcome.body is not None and value_bytes - len(outcome.slip) > MAX_ANSWER_BYTES + _FRAME_BYTES:
        error = OutcomeError(code="answer_too_large", message=f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        outcome = replace(outcome, status="error", body=None, error=error)
    names = outcome.served_model or "", outcome.endpoint or "", error.code if error is not None else ""
    if max(map(len, names)) <= MAX_NAME_CHARACTERS:
        return outcome
    served_model, endpoint, code = (name[:MAX_NAME_CHARACTERS] for name in names)
    return replace(
        outcome,
        served_model=None if outcome.served_model is None else served_model,
        endpoint=None if outcome.endpoint is None else endpoint,
        error=None if error is None else replace(error, code=code),
    )
