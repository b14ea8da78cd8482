"""What happens in a world, hour by hour: requests by cell, how bad answers are, and what people and judges say of them.

A *cell* is a stratum with one value of each dimension; within a cell requests are alike, so an hour is a few draws of counts: a hundred days of 40,000
requests take seconds. The order of the draws does not depend on what the guard does, so two runs of one seed have the same requests.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router.core.guard.monitor import Place
from router.core.guard.slices import ALL, PREFIX
from router.simulation.world import Part, World

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Cell:
    """Requests that are alike. ``slices``: as the guard calls them."""

    stratum: str
    values: dict[str, str]
    slices: tuple[str, ...]
    share: float

    @property
    def tenant(self) -> str | None:
        return self.values.get("tenant")

    @property
    def place(self) -> Place:
        return Place(self.stratum, self.slices, self.tenant)

    def fits(self, one: Part) -> bool:
        return one.stratum in (None, self.stratum) and all(
            self.values.get(name) == value for name, value in one.where.items()
        )


@dataclass(frozen=True, slots=True)
class Hour:
    """``pilot``, ``reference``: requests by cell as rollout and holdout assign them; bad shares by cell."""

    day: float
    pilot: Ints
    reference: Ints
    cheap_bad: Array
    baseline_bad: Array


class Stream:
    """The traffic of a world, by a generator of its own."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.cells = cells_of(world)
        self.units = units_of(self.cells)
        self._shares = np.array([cell.share for cell in self.cells])
        self._random = np.random.default_rng([seed, 1])
        self._fits = {
            id(one): np.array([cell.fits(one) for cell in self.cells]) for one in (*world.changes, *world.traffic)
        }

    def hour(self, hour: int) -> Hour:
        """Requests of one hour since the start; call it for each in turn."""
        world, day = self.world, hour / HOURS
        expected = self._shares * world.requests_per_day * world.eligible / HOURS * self._season(hour)
        for one in world.traffic:
            if one.day <= day < one.until:
                expected = np.where(self._fits[id(one)], expected * one.factor, expected)
        count = self._random.poisson(expected)
        holdout = self._random.binomial(count, world.holdout_percent / 100)
        pilot = self._random.binomial(count - holdout, rollout_percent(world, day) / 100)
        return Hour(day, pilot, count - pilot, self.bad("cheap", day), self.bad("baseline", day))

    def bad(self, who: str, day: float) -> Array:
        """Share of bad answers by cell, of the cheap model or the baseline."""
        start = self.world.quality.cheap if who == "cheap" else self.world.quality.baseline
        found = np.full(len(self.cells), start)
        for one in self.world.changes:
            if one.who == who and day >= one.day and not (one.back is not None and day >= one.back):
                fits = self._fits[id(one)]
                gone = 1.0 if one.until is None else min(1.0, (day - one.day) / max(one.until - one.day, 1e-9))
                found = np.where(fits, found + (one.bad - found) * gone, found)
        return found

    def excess(self, unit: str, day: float) -> float:
        """By how much a unit's answers of the cheap model are worse than the baseline's."""
        inside = self.units[unit]
        weights = self._shares[inside]
        difference = (self.bad("cheap", day) - self.bad("baseline", day))[inside]
        return float((weights * difference).sum() / weights.sum())

    def _season(self, hour: int) -> float:
        day = hour // HOURS
        weekend = self.world.weekend if day % 7 in (5, 6) else 1.0
        return weekend * (1.0 + (self.world.hours - 1.0) * -math.cos(2 * math.pi * (hour % HOURS) / HOURS))


def cells_of(world: World) -> list[Cell]:
    """Every stratum with every value of every dimension."""
    dimensions = list(world.dimensions.items())
    found = []
    for stratum, share in world.strata.items():
        for values in itertools.product(*(shares.items() for _, shares in dimensions)):
            named = {name: value for (name, _), (value, _) in zip(dimensions, values, strict=True)}
            slices = tuple(f"{PREFIX}{name}={value}" for name, value in named.items())
            found.append(Cell(stratum, named, slices, share * math.prod(one for _, one in values)))
    return found


def units_of(cells: list[Cell]) -> dict[str, NDArray[np.bool_]]:
    """Unit -> which cells are in it: strata, then slices."""
    strata = dict.fromkeys(cell.stratum for cell in cells)
    slices = dict.fromkeys(name for cell in cells for name in cell.slices)
    found = {name: np.array([name in (cell.stratum, *cell.slices) for cell in cells]) for name in (*strata, *slices)}
    return found | {ALL: np.ones(len(cells), dtype=bool)}


def rollout_percent(world: World, day: float) -> float:
    """As planned."""
    return max((step for step in world.rollout if step[0] <= day), default=(0.0, 0.0), key=lambda step: step[0])[1]
