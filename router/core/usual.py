"""What was usual among the rows that a classifier was fitted to, class by class: what requests are held against later (``core/guard/drift``).

Of each class that the heads would give a row: how ``p_ok`` of each model was spread over bins that held about as many rows each, the centroid of the
rows' standardised surface, and how far from it all but ``FAR`` of them were (root of the mean square over the surface's numbers). ``p_ok`` and class of a row are those of
heads that were fitted without it, for heads are surer of rows that they know, and brought to the scale of the heads that are kept.

Classes here are the heads' own; an operator's rules, which may change any day, do not move them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from router.core.features import SURFACE
from router.core.guard.drift import FAR, MOST_CLASSES, Sample

Array = NDArray[np.float64]

#: A class with fewer rows says nothing of what is usual, and a bin holds so many rows.
LEAST_ROWS: Final = 200
ROWS_A_BIN: Final = 50
MOST_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one model's ``p_ok``. ``edges`` ascending; bin i is [edges[i - 1], edges[i]); ``counts``: rows, one more than edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def bin_of(self, p_ok: float) -> int:
        return bisect_right(self.edges, p_ok)


@dataclass(frozen=True, slots=True)
class Usual:
    """Of one class. ``centroid`` (len(SURFACE)); ``reach``: what is farther from it is far, as ``far`` of the rows are."""

    spread: Mapping[str, Spread]
    centroid: tuple[float, ...]
    reach: float
    far: int

    def rows(self, model: str) -> Sample | None:
        """What requests are held against; ``None``: the model is not known."""
        spread = self.spread.get(model)
        return None if spread is None else Sample(list(spread.counts), self.far)

    def dump(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "spread": {model: [one.edges, one.counts] for model, one in sorted(self.spread.items())},
            "centroid": self.centroid,
            "reach": self.reach,
            "far": self.far,
        }

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Usual:
        """The inverse of ``dump``. ``ValueError``, ``KeyError`` or ``TypeError``: it is none."""
        spread = {
            str(model): Spread(tuple(map(float, edges)), tuple(map(int, counts)))
            for model, (edges, counts) in found["spread"].items()
        }
        one = cls(spread, tuple(map(float, found["centroid"])), float(found["reach"]), int(found["far"]))
        rows = {sum(each.counts) for each in spread.values()}
        fits = (
            len(one.centroid) == len(SURFACE)
            and np.isfinite([*one.centroid, one.reach]).all()
            and len(rows) == 1
            and 0 <= one.far <= min(rows)
            and min(rows) > 0
        )
        for each in spread.values():
            fits = fits and len(each.counts) == len(each.edges) + 1 and min(each.counts) >= 0
            fits = fits and list(each.edges) == sorted(set(each.edges))
        if not fits:
            raise ValueError("usual: bins, rows or centroid do not fit")
        return one


def usual_of(classes: Sequence[str], p_ok: Mapping[str, Array], surface: Array) -> dict[str, Usual]:
    """Of rows: their class (n,), ``p_ok`` by model (n,) and standardised surface (n, len(SURFACE)). The largest classes of ``LEAST_ROWS`` and more."""
    named = np.array(classes)
    names, sizes = np.unique(named, return_counts=True)
    found = {}
    for at in np.argsort(-sizes, kind="stable")[:MOST_CLASSES]:
        name, inside = str(names[at]), named == names[at]
        if sizes[at] < LEAST_ROWS or not p_ok:
            continue
        centroid = surface[inside].mean(axis=0)
        distances = np.sort(distance(surface[inside], centroid))
        reach = float(distances[int(FAR * len(distances))])
        spread = {model: _spread(said[inside]) for model, said in p_ok.items()}
        rounded = tuple(float(one) for one in centroid.round(5))
        found[name] = Usual(spread, rounded, round(reach, 5), int((distances > reach).sum()))
    return found


def distance(surface: Array, centroid: Array) -> Array:
    """(n,) of (n, s) from a centroid, or each row's own."""
    return np.asarray(np.sqrt(np.square(surface - centroid).mean(axis=1)))


class Centroids:
    """Says quickly who is far from the centroid of its class; nobody is in a class of which nothing is known."""

    def __init__(self, usual: Mapping[str, Usual]) -> None:
        self._at = {name: at for at, name in enumerate(usual)}
        self._centroid = np.array([*(one.centroid for one in usual.values()), (0.0,) * len(SURFACE)])
        self._reach = np.array([*(one.reach for one in usual.values()), np.inf])

    def far(self, classes: Sequence[str], surface: Array) -> list[bool]:
        """Of classes (n,) and standardised surface (n, len(SURFACE)): 0.4 us a prompt in batches of 100."""
        at = [self._at.get(name, -1) for name in classes]
        return (distance(surface, self._centroid[at]) > self._reach[at]).tolist()  # type: ignore[no-any-return]


def _spread(said: Array) -> Spread:
    """Bins of about as many rows each; fewer where many have the same ``p_ok``."""
    bins = max(1, min(MOST_BINS, len(said) // ROWS_A_BIN))
    ordered = np.sort(said)
    edges = np.unique([round(float(ordered[len(said) * cut // bins]), 4) for cut in range(1, bins)])
    edges = edges[edges > ordered[0]]
    counts = np.bincount(np.searchsorted(edges, said, side="right"), minlength=len(edges) + 1)
    return Spread(tuple(float(edge) for edge in edges), tuple(int(count) for count in counts))
