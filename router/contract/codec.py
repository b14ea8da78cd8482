"""Bytes to records and back. What comes in is validated once, here; whatever is wrong with it is a ``BadRecord``.

- No other exception leaves ``decode``, whatever the bytes are. Its message names the field and shows at most 80 characters
  of a value.
- Types are strict: ``"5"`` and ``true`` are no numbers, ``1.0`` is no integer, NaN and Infinity are not JSON. An integer is
  a number where one is expected.
- Unknown fields are ignored; bodies and metadata are kept as they are. Of a key that is there twice the last one counts.
- Nesting beyond ``MAX_DEPTH`` is refused: it could be read, but not be written again.
- ``encode`` writes every field, absent ones as null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.contract.checks import control_problem, feedback_problem, outcome_problem
from router.contract.errors import BadRecord, RejectCode
from router.contract.records import Control, Decision, Feedback, Outcome, Request, Work
from router.contract.requests import BadRequest, ParsedRequest, decode_request
from router.contract.times import from_rfc3339, to_rfc3339
from router.contract.wire import MAX_DEPTH, Record, encode, parse, validate

__all__ = [
    "MAX_DEPTH",
    "BadRequest",
    "ParsedRequest",
    "decode",
    "decode_control",
    "decode_request",
    "encode",
    "from_rfc3339",
    "parse",
    "to_rfc3339",
]

_CODES: dict[type, RejectCode] = {
    Control: RejectCode.INVALID_CONTROL,
    Decision: RejectCode.INVALID_DECISION,
    Feedback: RejectCode.INVALID_FEEDBACK,
    Outcome: RejectCode.INVALID_OUTCOME,
    Request: RejectCode.INVALID_REQUEST,
    Work: RejectCode.INVALID_WORK,
}

#: What types alone cannot say: record -> what is wrong with it, or ``None``.
_CHECKS: dict[type, Callable[[Any], str | None]] = {
    Control: control_problem,
    Feedback: feedback_problem,
    Outcome: outcome_problem,
}


def decode(kind: type[Record], value: bytes | None) -> Record:
    """The record of type ``kind`` in ``value``. Raises ``BadRecord`` with the code of that kind of record.

    ``kind`` is any dataclass; those of ``contract.records`` are strict. Requests are better read by ``decode_request``.
    """
    try:
        found = validate(kind, parse(value))
        check = _CHECKS.get(kind)
        problem = check(found) if check is not None else None
    except BadRecord as error:
        error.code = _CODES.get(kind, error.code)
        raise
    if problem is not None:
        raise BadRecord(problem, code=_CODES[kind])
    return found


def decode_control(value: bytes | None) -> Control:
    """``decode(Control, value)``: arguments fit the action, the action fits the scope, times are RFC 3339."""
    return decode(Control, value)
