"""Slices of traffic that are no strata: by language, length, tenant, distance from what was trained on, whatever is known before the answer.

A trap may open where no stratum has its border. So every request also belongs to a slice of each dimension: of a name (tenant, language, any
text or flag among the features) the most frequent values, of a number its quarters. Edges and values are those of the first ``LEARN_FROM`` requests
and stay, for a slice whose border moves is not the same from day to day. A value that comes later gets a slice when it is frequent.
Those of an installation are fixed (``core.slicing``): a router must know by itself which order concerns a request.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

#: Requests after which the borders are drawn.
LEARN_FROM: Final = 2000
#: Values of a name, dimensions, and characters of a value's name.
MOST_VALUES, MOST_DIMENSIONS, MOST_CHARACTERS = 8, 8, 32
#: A value has a slice if it has at least this share of what was seen, and a later one if so many of it came.
LEAST_SHARE, LATER_COUNT = 0.005, 500
#: Slices are called ``slice/dimension=value``, which no stratum is.
PREFIX: Final = "slice/"
#: The slice that everything is in.
ALL: Final = "slice/all"
_QUARTERS: Final = ("lowest", "low", "high", "highest")


class Slicer:
    """Names the slices of a request."""

    def __init__(self) -> None:
        self._seen = 0
        self._texts: dict[str, Counter[str]] = {}
        self._numbers: dict[str, list[float]] = {}
        self._edges: dict[str, list[float]] = {}
        self._values: dict[str, list[str]] = {}

    def of(self, features: Mapping[str, Any], tenant: str | None) -> tuple[str, ...]:
        """Slices that a request is in; none until the borders are drawn."""
        named = [("tenant", tenant), *features.items()] if tenant is not None else list(features.items())
        self._seen += 1
        if self._seen <= LEARN_FROM:
            for dimension, value in named:
                self._learn(str(dimension), value)
            if self._seen == LEARN_FROM:
                self._draw()
            return ()
        found = (self._slice(str(dimension), value) for dimension, value in named)
        return tuple(one for one in found if one is not None)

    def names(self) -> list[str]:
        """All slices there are."""
        return [_name(dimension, value) for dimension, values in self._values.items() for value in values] + [
            _name(dimension, quarter) for dimension in self._edges for quarter in _QUARTERS
        ]

    def _learn(self, dimension: str, value: Any) -> None:
        known = self._texts.keys() | self._numbers.keys()
        if dimension not in known and len(known) >= MOST_DIMENSIONS:
            return
        if isinstance(value, bool | str):
            self._texts.setdefault(dimension, Counter())[_text(value)] += 1
        elif isinstance(value, int | float) and math.isfinite(value):
            self._numbers.setdefault(dimension, []).append(float(value))

    def _draw(self) -> None:
        for dimension, counts in self._texts.items():
            values = [value for value, count in counts.most_common(MOST_VALUES) if count >= LEAST_SHARE * self._seen]
            if len(values) > 1:
                self._values[dimension] = values
        for dimension, numbers in self._numbers.items():
            ordered = sorted(numbers)
            edges = [ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3)]
            if len(set(edges)) == 3:
                self._edges[dimension] = edges
        self._numbers.clear()
        self._texts = {dimension: Counter() for dimension in self._values}

    def _slice(self, dimension: str, value: Any) -> str | None:
        if dimension in self._values and isinstance(value, bool | str):
            text = _text(value)
            if text not in self._values[dimension]:
                if not self._comes_often(dimension, text):
                    return None
                self._values[dimension].append(text)
            return _name(dimension, text)
        if dimension in self._edges and isinstance(value, int | float):
            return _name(dimension, _QUARTERS[sum(value >= edge for edge in self._edges[dimension])])
        return None

    def _comes_often(self, dimension: str, value: str) -> bool:
        counts = self._texts[dimension]
        if value in counts or len(counts) < 10 * MOST_VALUES:
            counts[value] += 1
        return counts[value] >= LATER_COUNT and len(self._values[dimension]) < 2 * MOST_VALUES

    def dump(self) -> list[Any]:
        """JSON values."""
        texts = {dimension: dict(counts) for dimension, counts in self._texts.items()}
        return [self._seen, texts, self._numbers, self._edges, self._values]

    @classmethod
    def load(cls, found: list[Any]) -> Slicer:
        """The inverse of ``dump``."""
        slicer = cls()
        slicer._seen, texts, slicer._numbers, slicer._edges, slicer._values = found
        slicer._texts = {dimension: Counter(counts) for dimension, counts in texts.items()}
        return slicer


def _text(value: object) -> str:
    return str(value).lower()[:MOST_CHARACTERS].replace("/", "_") or "none"


def _name(dimension: str, value: str) -> str:
    return f"{PREFIX}{_text(dimension)}={value}"
