"""Slices of traffic in which models behave alike: task class x difficulty band, at most 128 a pool.

A band is a range of one number: of the *gain* p_ok(baseline) - p_ok(cheapest), where a classifier knows both models of the
pool, so that ``easy`` holds what the cheap model answers about as well; else of the prompt's tokens. Evidence is kept per
stratum, so there may only be a few: classes beyond the bound share the stratum ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from router.core.classify import Classification

MAX_STRATA = 128
OTHER = "other"

#: Bands of the gain, by rising gain.
GAIN_BANDS = ("easy", "medium", "hard")


class TokenBands:
    """``bands``: (name, most prompt tokens) ascending, the last one without a limit."""

    def __init__(self, bands: Sequence[tuple[str, int | None]]) -> None:
        self.names = tuple(name for name, _ in bands)
        self.limits = [limit for _, limit in bands[:-1] if limit is not None]

    def of(self, found: Classification, prompt_tokens: int) -> int:  # noqa: ARG002 - as of all bands
        """Number of the band."""
        return bisect_left(self.limits, prompt_tokens)


@dataclass(frozen=True, slots=True)
class GainBands:
    """``edges``: most gain of each band but the last, ascending (``core.artefact.Artefact.gain_edges``)."""

    baseline: str
    cheapest: str
    edges: Sequence[float]

    @property
    def names(self) -> tuple[str, ...]:
        return GAIN_BANDS

    def of(self, found: Classification, prompt_tokens: int) -> int:  # noqa: ARG002
        """Number of the band."""
        return bisect_left(self.edges, found.p_ok[self.baseline] - found.p_ok[self.cheapest])


class Strata:
    """The strata of one pool."""

    def __init__(self, classes: Sequence[str], bands: TokenBands | GainBands) -> None:
        self.bands = bands
        names = bands.names
        room = (MAX_STRATA - 1) // len(names) if len(classes) * len(names) > MAX_STRATA else len(classes)
        self._rows = {task_class: [f"{task_class}/{band}" for band in names] for task_class in classes[:room]}

    def of(self, found: Classification, prompt_tokens: int) -> str:
        """The stratum of a request, ``class/band`` or ``other``.

        >>> strata = Strata(["math", "general"], TokenBands([("easy", 200), ("hard", None)]))
        >>> strata.of(Classification("math"), 201)
        'math/hard'
        """
        row = self._rows.get(found.task_class)
        return OTHER if row is None else row[self.bands.of(found, prompt_tokens)]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, ``other`` included; at most 128."""
        named = tuple(name for row in self._rows.values() for name in row)
        return named if len(named) == MAX_STRATA else (*named, OTHER)
