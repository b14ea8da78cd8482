"""What the archive keeps of a record, kind by kind: columns with their types, and the function that fills them.

Never a prompt, an answer, a comment, a caller's own id or metadata, a message of an error, or a session's name (only its hash).
A value of another type than its column's becomes null; what is no JSON object at all makes no row. Columns are only ever added,
at the end: who reads takes one that a file has not for null. ``record_ms`` is the record's timestamp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson

from router.contract.errors import BadRecord
from router.contract.ids import session_hash
from router.contract.times import from_rfc3339
from router.contract.wire import parse

Type = Literal["string", "int64", "float64", "bool"]
Fill = Callable[[Mapping[str, Any], "Stored"], Iterable[Any]]

_MOST = 2**63
#: Longest text of a cell: names are far shorter, features and candidates too.
MOST_CHARACTERS = 64 * 1024

#: Where the row's record lies.
PLACE: dict[str, Type] = {"partition": "int64", "offset": "int64", "record_ms": "int64"}


class Stored(Protocol):
    """A record as it lies in its topic."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """A folder of the archive: from which topic, with which columns beside ``PLACE``, in the order that ``fill`` gives."""

    name: str
    topic: str
    fields: Mapping[str, Type]
    fill: Fill

    @property
    def columns(self) -> dict[str, Type]:
        return PLACE | dict(self.fields)

    def row(self, record: Stored) -> tuple[Any, ...] | None:
        """Values in the order of ``columns``; ``None`` of a record that is no JSON object."""
        try:
            found = parse(record.value or b"")
        except BadRecord:
            return None
        if not isinstance(found, dict):
            return None
        values = (record.partition, record.offset, record.timestamp, *self.fill(found, record))
        return tuple(_FITS[of](value) for of, value in zip(self.columns.values(), values, strict=True))


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if len(value) > MOST_CHARACTERS:
        value = value[:MOST_CHARACTERS]
    text: str = value
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < _MOST else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_FITS: dict[Type, Callable[[Any], Any]] = {"string": _text, "int64": _integer, "float64": _number, "bool": _flag}


def _names(fields: Mapping[str, Type]) -> Fill:
    """Columns that are called what the record calls them."""
    names = tuple(fields)
    return lambda found, _: (found.get(name) for name in names)


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _ms(value: Any) -> int | None:
    try:
        return from_rfc3339(value)
    except (TypeError, ValueError):
        return None


_DECISION: dict[str, Type] = {
    "request_id": "string",
    "attempt": "int64",
    "at_ms": "int64",
    "tenant": "string",
    "lane": "string",
    "session": "string",
    "pool": "string",
    "stratum": "string",
    "model": "string",
    "propensity": "float64",
    "cohort": "string",
    "policy_version": "string",
    "snapshot_version": "string",
    "reason": "string",
    "shadow_of": "int64",
    "draw": "float64",
    "error_code": "string",
    "prompt_tokens": "int64",
    "features": "string",
    "candidates": "string",
    "weights": "string",
    "cascade": "string",
}


def _decision(found: Mapping[str, Any], _: Stored) -> Iterable[Any]:
    tenant, session = _text(found.get("tenant")), _text(found.get("session"))
    special = {
        "at_ms": _ms(found.get("at")),
        "session": session_hash(tenant or "", session),
        "error_code": _part(found, "error").get("code"),
        "prompt_tokens": _part(found, "features").get("prompt_tokens"),
        **{name: _json(found.get(name)) for name in ("features", "candidates", "weights", "cascade")},
    }
    return (special.get(name, found.get(name)) for name in _DECISION)


_ATTEMPT: dict[str, Type] = {
    "request_id": "string",
    "attempt": "int64",
    "model": "string",
    "tenant": "string",
    "lane": "string",
    "pool": "string",
    "stratum": "string",
    "cohort": "string",
    "reason": "string",
    "status": "string",
    "error_code": "string",
    "at_ms": "int64",
    "latency_ms": "int64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "cached_tokens": "int64",
    "reasoning_tokens": "int64",
    "cost_nano_usd": "int64",
    "baseline_cost_nano_usd": "int64",
    "price_version": "string",
    "late": "bool",
    "baseline": "string",
    "baseline_output_nano_usd_per_token": "int64",
}

_RESULT: dict[str, Type] = {
    "request_id": "string",
    "tenant": "string",
    "lane": "string",
    "pool": "string",
    "stratum": "string",
    "model": "string",
    "cohort": "string",
    "propensity": "float64",
    "policy_version": "string",
    "error_code": "string",
    "cost_nano_usd": "int64",
    "cost_unknown": "bool",
    "latency_ms": "int64",
    "attempts": "int64",
}


def _result(found: Mapping[str, Any], record: Stored) -> Iterable[Any]:
    router = _part(found, "router")
    attempts = router.get("attempts")
    lane = next((value for name, value in record.headers if name == "lane"), b"interactive")
    special = {
        "request_id": found.get("id"),
        "lane": lane.decode("latin-1"),
        "error_code": _part(found, "error").get("code"),
        "attempts": len(attempts) if isinstance(attempts, list) else None,
    }
    return (special.get(name, router.get(name)) for name in _RESULT)


_FEEDBACK: dict[str, Type] = {
    "request_id": "string",
    "tenant": "string",
    "lane": "string",
    "pool": "string",
    "stratum": "string",
    "model": "string",
    "cohort": "string",
    "kind": "string",
    "value": "float64",
    "repeat": "bool",
    "at_ms": "int64",
}

_REWARD: dict[str, Type] = {
    "request_id": "string",
    "pool": "string",
    "stratum": "string",
    "first_model": "string",
    "model": "string",
    "answered_by_attempt": "int64",
    "cohort": "string",
    "propensity": "float64",
    "policy_version": "string",
    "kind": "string",
    "source": "string",
    "reward": "float64",
    "weight": "float64",
    "at_ms": "int64",
    "session": "string",
    "arm": "string",
    "label_inclusion": "float64",
    "label_confidence": "float64",
}


def _reward(found: Mapping[str, Any], _: Stored) -> Iterable[Any]:
    label = _part(found, "label")
    special = {
        "at_ms": _ms(found.get("at")),
        "label_inclusion": label.get("inclusion"),
        "label_confidence": label.get("confidence"),
    }
    return (special.get(name, found.get(name)) for name in _REWARD)


_REVIEW: dict[str, Type] = {
    "request_id": "string",
    "attempt": "int64",
    "pool": "string",
    "stratum": "string",
    "inclusion_probability": "float64",
    "due_at_ms": "int64",
}


def _review(found: Mapping[str, Any], _: Stored) -> Iterable[Any]:
    special = {"due_at_ms": _ms(found.get("due_at"))}
    return (special.get(name, found.get(name)) for name in _REVIEW)


KINDS = (
    Kind("decisions", "decisions", _DECISION, _decision),
    Kind("attempts", "usage", _ATTEMPT, _names(_ATTEMPT)),
    Kind("results", "results", _RESULT, _result),
    Kind("feedback", "feedback.counted", _FEEDBACK, _names(_FEEDBACK)),
    Kind("rewards", "rewards", _REWARD, _reward),
    Kind("reviews", "reviews", _REVIEW, _review),
)
