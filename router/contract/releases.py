"""Values that another release may have written: what it says beyond what this one knows is passed over, what it does not say has its default.

For what stages tell each other and keep in their tables, as JSON objects or lists: processes of two releases run side by side while one replaces the
other, and a table may go back to the older one (``docs/operations.md``). So fields are only ever added: to objects under new names, to lists at their
end, each with a default that means what its absence did. A field that changes its meaning is another field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def by_name(kind: type[Kind], found: Mapping[str, Any]) -> Kind:
    """A dataclass from a JSON object. ``TypeError`` where a field without a default is missing, or ``found`` is no object."""
    if not isinstance(found, Mapping):
        raise TypeError(f"{kind.__name__} is made of an object, not of {type(found).__name__}")
    names = _names(kind)
    return kind(**{name: value for name, value in found.items() if name in names})


def by_place(kind: type[Kind], values: Iterable[Any]) -> Kind:
    """A dataclass from a JSON list, in the order of its fields. ``TypeError`` where one without a default is missing."""
    return kind(*islice(values, len(_names(kind))))


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type) -> tuple[str, ...]:
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    return names
