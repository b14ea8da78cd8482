"""Do the report's intervals hold the truth? In a world where it is known what every request would have cost on the baseline, and how good.

    python benchmarks/saving.py [--worlds 1000] [--json]

Conversations of one to six requests draw holdout, control or pilot. Lengths of answers are lognormal with a part that a conversation and a part that
a request shares between models; the baseline's are longer by a factor of the stratum's. The truth of a saving is that of the very requests that were
made: their prompts and the lengths of the answers that the baseline would have given, less what was spent. The truth of a difference in quality is that
of all of the pilot's answers. Coverage is how often a 95 % interval holds it; cases where nothing is told do not count, and how many these are is said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.core.saving import Interval, Moments
from router.history.report import report
from router.history.report_data import LEVELS, Arms, Cell, Counted, Key, Sums

Array = NDArray[np.float64]

GOAL = 0.93
#: Nano-dollars a token: in and out of the small and the large model.
SMALL, LARGE = (100, 400), (2_000, 8_000)
#: Of each stratum: share of the traffic, median length of the small model's answers, how much longer the large one's are, how much worse small is.
STRATA = ((0.6, 120.0, 0.8, 0.02), (0.3, 300.0, 1.4, 0.10), (0.1, 600.0, 1.2, 0.0))
CAVEATS = [
    "lengths are lognormal, and those of both models alike skewed; where the baseline's alone have a heavy tail, few conversations cover less"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``sigma`` of lengths; ``control``: shares of the traffic by week that the rollout has not reached; ``shadows``: of pilot answers."""

    name: str
    requests: int = 4_000
    weeks: int = 1
    holdout: float = 0.05
    sigma: float = 0.6
    control: tuple[float, ...] = (0.0,)
    shadows: float = 0.0
    reviews: float = 0.1
    uneven: bool = False


CASES = (
    Case(name="5 % holdout"),
    Case(name="2 % holdout, 4 weeks", requests=12_000, weeks=4, holdout=0.02),
    Case(name="skewed lengths (sigma 1)", sigma=1.0),
    Case(name="just enough reference, sigma 1", requests=2_000, sigma=1.0),
    Case(name="a rollout", requests=8_000, weeks=4, holdout=0.02, control=(0.9, 0.6, 0.3, 0.0)),
    Case(name="2 % holdout and 3 % shadows", requests=6_000, holdout=0.02, shadows=0.03),
    Case(name="reviews where they are needed most", uneven=True, reviews=0.2),
)


@dataclass(slots=True)
class World:
    """Arrays over requests."""

    week: NDArray[np.intp]
    stratum: NDArray[np.intp]
    unit: NDArray[np.intp]
    arm: NDArray[np.intp]  # 0 pilot, 1 reference
    own: NDArray[np.bool_]
    prompt: Array
    length: Array
    length_large: Array
    shadow: NDArray[np.bool_]
    reviewed: NDArray[np.bool_]
    inclusion: Array
    quality: Array
    expected: Array
    expected_large: Array


def world_of(case: Case, seed: int) -> World:
    draw, n = np.random.default_rng(seed), case.requests
    sizes = draw.integers(1, 7, n)
    unit = np.repeat(np.arange(n), sizes)[:n]
    week = np.minimum(unit * case.weeks // (unit[-1] + 1), case.weeks - 1)
    shares, medians, longer, worse = (np.array(column) for column in zip(*STRATA, strict=True))
    of_unit = draw.choice(len(STRATA), unit[-1] + 1, p=shares)
    stratum = np.where(draw.random(n) < 0.8, of_unit[unit], draw.choice(len(STRATA), n, p=shares))
    control = np.array(case.control)[np.minimum(week, len(case.control) - 1)]
    drawn, rolled = draw.random(unit[-1] + 1)[unit], draw.random(unit[-1] + 1)[unit]
    arm = ((drawn < case.holdout) | (rolled < control)).astype(np.intp)
    own = (arm == 1) | (draw.random(unit[-1] + 1)[unit] < 0.2)
    common = 0.5 * draw.normal(size=unit[-1] + 1)[unit] + 0.6 * draw.normal(size=n)
    rest = (1 - 0.25 - 0.36) ** 0.5
    small = np.ceil(medians[stratum] * np.exp(case.sigma * (common + rest * draw.normal(size=n))))
    large = np.ceil(medians[stratum] * longer[stratum] * np.exp(case.sigma * (common + rest * draw.normal(size=n))))
    hard = np.clip(0.08 + 0.06 * draw.normal(size=unit[-1] + 1)[unit], 0.0, 0.6)
    expected_large = 1.0 - hard
    expected = np.where(own, expected_large, expected_large - worse[stratum])
    inclusion = np.clip(case.reviews * (hard / 0.08 if case.uneven else np.ones(n)), 0.02, 1.0)
    inclusion = np.where(arm == 1, np.minimum(1.0, 4 * inclusion), inclusion)
    return World(
        week, stratum, unit, arm, own, draw.integers(50, 900, n).astype(float), np.where(own, large, small), large,
        (arm == 0) & ~own & (draw.random(n) < case.shadows), draw.random(n) < inclusion, inclusion,
        (draw.random(n) < expected).astype(float), expected, expected_large,
    )  # fmt: skip


def sums_of(world: World) -> Sums:
    """As ``read_archive`` makes them."""
    sums = Sums(first_ms=0, last_ms=0, outside={})
    weight = np.ones(len(world.week))
    times, usual = np.ones(len(world.week)), np.ones(len(world.week))
    covered = np.zeros(len(world.week), dtype=bool)
    for key, mine in _groups(world, LEVELS[0]):
        pilot, reference = mine & (world.arm == 0), mine & (world.arm == 1)
        if pilot.any() and reference.any():
            weight[reference] = pilot.sum() / reference.sum()
            covered |= mine
            usual[mine] = world.length[pilot].mean() * LARGE[1]
        if (mine & world.shadow).any():
            times[mine] = (mine & (world.arm == 0) & ~world.own).sum() / (mine & world.shadow).sum()
        sums.cells[key] = _cell(world, mine)
    for level in LEVELS:
        for key, found in _groups(world, level):
            mine = found & covered
            lengths = mine & ((world.arm == 0) | world.own)
            sums.lengths[key] = _arms(world, lengths, weight * usual, weight * world.length * LARGE[1])
            judged = weight / world.inclusion
            sums.quality.setdefault("reviewed", {})[key] = _arms(
                world, mine & world.reviewed, judged, judged * world.quality
            )
            paired = found & world.shadow
            sums.pairs[key] = Counted(
                int(paired.sum()), _moments(world, paired, times * world.length, times * world.length_large)
            )
            sums.compared[key] = int((mine & (world.arm == 0)).sum())
    return sums


def _groups(world: World, level: tuple[str, ...]) -> Iterator[tuple[Key, NDArray[np.bool_]]]:
    for week in sorted(set(world.week.tolist())) if "week" in level else [None]:
        for stratum in range(len(STRATA)) if "stratum" in level else [None]:
            mine = np.ones(len(world.week), dtype=bool)
            mine &= world.week == week if week is not None else True
            mine &= world.stratum == stratum if stratum is not None else True
            names = (None if one is None else str(one) for one in (stratum, week))
            if mine.any():
                yield Key("auto" if level else None, *names), mine


def _cell(world: World, mine: NDArray[np.bool_]) -> Cell:
    pilot, reference = mine & (world.arm == 0), mine & (world.arm == 1)
    price = np.where(world.own[:, None], LARGE, SMALL)
    cost = world.prompt * price[:, 0] + world.length * price[:, 1]
    spent, kept = int(cost[pilot].sum()), int(cost[reference].sum())
    mirrored = world.shadow & mine
    shadow = int((world.prompt[mirrored] * LARGE[0] + world.length_large[mirrored] * LARGE[1]).sum())
    return Cell(
        requests=int(mine.sum()),
        answered=int(mine.sum()),
        pilot=int(pilot.sum()),
        pilot_answered=int(pilot.sum()),
        reference_answered=int(reference.sum()),
        others=int((pilot & ~world.own).sum()),
        parts={"pilot": spent, "reference": kept, "shadow": shadow},
        reference_cost=kept,
        prompt=int(world.prompt[pilot].sum() * LARGE[0]),
        length=int(world.length[pilot].sum() * LARGE[1]),
        length_own=int(world.length[pilot & world.own].sum() * LARGE[1]),
    )


def _arms(world: World, mine: NDArray[np.bool_], weight: Array, value: Array) -> Arms:
    found = {}
    for arm, name in enumerate(("pilot", "reference")):
        chosen = mine & (world.arm == arm)
        if chosen.any():
            found[name] = Counted(int(chosen.sum()), _moments(world, chosen, weight, value))
    return found


def _moments(world: World, mine: NDArray[np.bool_], weight: Array, value: Array) -> Moments:
    units, number = np.unique(world.unit[mine], return_inverse=True)
    x, y = np.bincount(number, weight[mine], len(units)), np.bincount(number, value[mine], len(units))
    products = (x, y, x * x, x * y, y * y, x * x * x, x * x * y, x * y * y)
    return Moments(len(units), *(float(one.sum()) for one in products))


@dataclass(slots=True)
class Tally:
    """``told``: rows with a saving; ``saving``, ``quality``: intervals that hold the truth; ``width``: of savings, share of the baseline's cost."""

    rows: int = 0
    told: int = 0
    saving: int = 0
    judged: int = 0
    quality: int = 0
    width: float = 0.0

    def add(
        self, saving: Interval | None, truth: float, quality: Interval | None, difference: float, baseline: float
    ) -> None:
        self.rows += 1
        if saving is not None:
            self.told += 1
            self.saving += saving.low <= truth <= saving.high
            self.width += (saving.high - saving.low) / baseline
        if quality is not None:
            self.judged += 1
            self.quality += quality.low <= difference <= quality.high


def measure(case: Case, worlds: int, first_seed: int = 0) -> dict[str, Tally]:
    """By level: ``cells`` (stratum and week), ``strata``, ``pool``."""
    tallies = {"cells": Tally(), "strata": Tally(), "pool": Tally()}
    for seed in range(first_seed, first_seed + worlds):
        world = world_of(case, seed)
        found = report(sums_of(world))
        for name, level in zip(tallies, (LEVELS[0], LEVELS[1], LEVELS[3]), strict=True):
            masks = dict(_groups(world, level))
            for row in found.rows:
                if row.key not in masks or (row.key.week is not None) != ("week" in level):
                    continue
                pilot = masks[row.key] & (world.arm == 0)
                if not pilot.any():
                    continue
                own = float((world.prompt[pilot] * LARGE[0] + world.length_large[pilot] * LARGE[1]).sum())
                truth = own + row.cell.reference_cost - row.cost
                worse = float((world.expected[pilot] - world.expected_large[pilot]).mean())
                change = None if row.quality is None else row.quality.change()
                tallies[name].add(row.saving(), truth, change, worse, own + row.cell.reference_cost)
    return tallies


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--worlds", type=int, default=1_000)
    asked = parser.parse_args()
    printed = Report("saving", caveats=CAVEATS)
    for case in CASES:
        for level, tally in measure(case, asked.worlds).items():
            if not tally.told:
                continue
            covered, width = tally.saving / tally.told, tally.width / tally.told
            where = f"{case.name}, {level}"
            told = f"told of {tally.told / tally.rows:.0%}, {100 * width:.1f} % of the baseline's cost wide"
            printed.add(f"{where}: saving", round(covered, 3), told, goal=f">= {GOAL:g}", met=covered >= GOAL)
            if tally.judged:
                right = tally.quality / tally.judged
                printed.add(f"{where}: quality", round(right, 3), "", goal=f">= {GOAL:g}", met=right >= GOAL)
    finish(printed, asked.json)


if __name__ == "__main__":
    main()
