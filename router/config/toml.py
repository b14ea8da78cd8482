"""TOML that somebody gives us. Whatever is wrong with the text is a ``ConfigError``: also what is too deep, or a number without end."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from router.contract.errors import ConfigError

#: Tables and lists in one another. Ours have six at most; what walks through them calls itself.
MAX_DEPTH = 64


def read_toml(text: str, name: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """The document in ``text``; ``name``: of the file, for the message."""
    try:
        found = tomllib.loads(text, parse_float=parse_float)
    except RecursionError:
        problem = f"{name}: no valid TOML: nested too deep"
    except (
        ValueError,
        ArithmeticError,
    ) as error:  # a TOMLDecodeError is a ValueError, an integer of 5,000 digits is another
        problem = f"{name}: no valid TOML: {str(error) or type(error).__name__}"
    else:
        if not _too_deep(found):
            return found
        problem = f"{name}: nested deeper than {MAX_DEPTH} levels"
    raise ConfigError(problem, problems=[problem])


def _too_deep(found: object) -> bool:
    level = [found]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(parent: object) -> list[object]:
    children = parent.values() if isinstance(parent, dict) else parent if isinstance(parent, list) else ()
    return [child for child in children if isinstance(child, dict | list)]
