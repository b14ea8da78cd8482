"""JSON in and out: what can be read is a JSON object that can be written again; all else is a ``BadRecord``."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from router.contract.errors import BadRecord
from router.contract.faults import kind_of, message_of

#: orjson writes 254 levels; records wrap bodies and metadata in some of their own.
MAX_DEPTH = 200

Record = TypeVar("Record")


def encode(record: Any) -> bytes:
    """JSON of a record, every field in it. Raises ``TypeError`` for what JSON cannot hold; no decoded record does."""
    return orjson.dumps(record)


def parse(value: bytes | None) -> dict[str, Any]:
    """The JSON object in ``value``. Raises ``BadRecord``."""
    if value is None:
        raise BadRecord("the value is null")
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadRecord(f"no valid JSON: {error}") from None
    if type(found) is not dict:
        raise BadRecord(f"must be a JSON object, not {kind_of(found)}")
    if too_deep(value, found):
        raise BadRecord(f"is nested deeper than {MAX_DEPTH} levels")
    return found


def validate(kind: type[Record], found: dict[str, Any]) -> Record:
    """The record in parsed JSON. Raises ``BadRecord`` that names the first wrong field."""
    try:
        record: Record = _adapter(kind).validate_python(found)
    except ValidationError as error:
        raise BadRecord(message_of(error)) from None
    return record


#: From here on a bracket is looked for rather than counted.
_LONG_BYTES = 16 * 1024


def too_deep(value: bytes, found: object) -> bool:
    """Whether parsed JSON is nested deeper than ``MAX_DEPTH``; looks at it only if the bytes have that many brackets."""
    if not _has_more_brackets(value, MAX_DEPTH):
        return False
    level = [found]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for parent in level:
            children = parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ()
            below += [child for child in children if type(child) is dict or type(child) is list]
        if not below:
            return False
        level = below
    return True


def _has_more_brackets(value: bytes, most: int) -> bool:
    """Of ``[`` and ``{`` together. In a long text they are looked for, which takes a tenth of the time of counting."""
    if len(value) < _LONG_BYTES:
        return value.count(b"[") + value.count(b"{") > most
    found = 0
    for bracket in (b"[", b"{"):
        at = value.find(bracket)
        while at >= 0 and found <= most:
            found, at = found + 1, value.find(bracket, at + 1)
    return found > most


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Built at the first record of its kind: building takes a millisecond."""
    adapter = _ADAPTERS.get(kind)
    if adapter is None:
        adapter = _ADAPTERS[kind] = TypeAdapter(kind)
    return adapter
