"""Regular expressions that take time in proportion to the text, whoever wrote text or expression (RE2)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

EXTRA = "needs the extra: pip install 'pointsman[checks]'"


def compiled(pattern: str) -> Any:
    """With ``search``, as in ``re``. ``ValueError`` for what is no expression, and where the extra is missing."""
    try:
        re2: Any = import_module("re2")
    except ImportError:
        raise ValueError(EXTRA) from None
    try:
        options = re2.Options()
        options.log_errors = False
        return re2.compile(pattern, options)
    except re2.error as error:
        message = error.args[0] if error.args else "?"
        said = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
        raise ValueError(f"is no regular expression: {said}") from None


def pattern_problem(pattern: str) -> str | None:
    """Why it cannot be used, if so."""
    try:
        compiled(pattern)
    except ValueError as error:
        return str(error)
    return None
