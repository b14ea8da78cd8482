"""``@value``: a dataclass that the type checker keeps frozen and that costs no more to make than one that is not.

A frozen dataclass sets each of its fields through ``object.__setattr__``: a slip of 20 fields takes 4 us instead of 1. So
what is made for every request is a ``value``: mypy, which runs with the tests, refuses to assign to it; at run time nobody
stands in the way. Everything else is an ordinary frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    Kind = TypeVar("Kind", bound=type)

    def value(
        *, frozen: Literal[True], slots: Literal[True], kw_only: bool = False
    ) -> Callable[[Kind], Kind]:  # the type checker takes it for ``dataclass``, so it is called like it
        """A dataclass with slots, compared and hashed by its fields."""
        return dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)
