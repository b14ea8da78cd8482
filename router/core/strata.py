"""Slices of traffic in which models behave alike: task class x difficulty band, at most 128 a pool.

A band is a range of prompt tokens. Evidence is kept per stratum, so there may only be a few: classes beyond the bound share
the stratum ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

MAX_STRATA = 128
OTHER = "other"


class Strata:
    """``bands``: (name, most prompt tokens) ascending, the last one without a limit."""

    def __init__(self, classes: Sequence[str], bands: Sequence[tuple[str, int | None]]) -> None:
        self._limits = [limit for _, limit in bands[:-1] if limit is not None]
        self._bands = [name for name, _ in bands]
        room = (MAX_STRATA - 1) // len(bands) if len(classes) * len(bands) > MAX_STRATA else len(classes)
        self._rows = {name: [f"{name}/{band}" for band in self._bands] for name in classes[:room]}

    def of(self, task_class: str, prompt_tokens: int) -> str:
        """The stratum of a request, ``class/band`` or ``other``.

        >>> Strata(["math", "general"], [("easy", 200), ("hard", None)]).of("math", 201)
        'math/hard'
        """
        row = self._rows.get(task_class)
        return OTHER if row is None else row[bisect_left(self._limits, prompt_tokens)]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, ``other`` included; at most 128."""
        named = tuple(name for row in self._rows.values() for name in row)
        return named if len(named) == MAX_STRATA else (*named, OTHER)
