"""What is wrong with a record, in a few words for a person: the path of the field and what it must be.

Messages go to decisions and logs, which never hold text of a prompt or an answer: of text in a ``body`` only the kind is said.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

#: Of a value, a message shows no more than this many characters.
MAX_SHOWN = 80

_TYPES = {
    "string_type": "must be text",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "dataclass_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}


def message_of(error: ValidationError) -> str:
    """The first problem, and how many more there are: ``router.deadline_ms: must be at least 1, not 0``."""
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, first["loc"])) or "the record"
    more = error.error_count() - 1
    return f"{shorten(path)}: {_what(first)}" + (f" (and {more} more)" if more else "")


def _what(error: ErrorDetails) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return "is missing"
    say = kind_of if error["loc"][:1] == ("body",) else shown
    return f"{_must(kind, context) or error['msg']}, not {say(value)}"


#: Kind of error -> what must be, with the error's own context filled in.
_BOUNDS = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
}


def _must(kind: str, context: dict[str, Any]) -> str | None:
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    return _TYPES.get(kind)


def shown(value: object) -> str:
    """A value as JSON, short: objects and lists by their kind alone."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return shorten(json.dumps(value[:MAX_SHOWN], ensure_ascii=True))
    return shorten(json.dumps(value, default=str))


def kind_of(value: object) -> str:
    """A value as JSON unless it is text: that may be a prompt."""
    return "text" if isinstance(value, str) else shown(value)


def shorten(text: str) -> str:
    """At most ``MAX_SHOWN`` characters."""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
