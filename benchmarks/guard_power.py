"""Whether ``pointsman guard power`` says the truth: the drop that it says is seen within some days, planted in the guard's own simulation.

    python benchmarks/guard_power.py [--runs 24] [--page docs/guard.md] [--json]

One stratum of a pool, ``WARM`` quiet days, then the pilot's share of bad answers is higher by what ``power`` says is seen within 1, 7 or 30 days.
``power`` reckons with means, so about half of the runs should have their alarm by then. *Evenly*: reviews and pairs come as steadily as
``power`` is told. *As it runs*: the guard buys more pairs when it suspects something, as it does in an installation. A few minutes of a core.
``--page`` writes the table there.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.guard_parts.page import between
from benchmarks.report import Report, finish, options
from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Finding, Guard, Settings, usual_threshold
from router.core.guard.power import Volume, power
from router.simulation.play import START_MS, Player
from router.simulation.world import World

BEGIN, END = "<!-- written by `python benchmarks/guard_power.py --page` -->", "<!-- to here: power -->"
STRATUM: Final = "support/any"
WARM: Final = 5
DAYS: Final = (1, 7, 30)
#: Half of the runs, and how far from it is still called right.
WANTED, NEAR = 0.5, 0.25
#: A larger drop than this cannot be planted.
MOST: Final = 0.9
CAVEATS = [
    "a simulated stratum: reviewers see 95 % of bad answers and 98 % of good ones, within 8 hours; the judge is right in 85 %; thumbs come after a median of 4 hours",
    "power knows none of these delays; it is told the volumes of a day as they are",
]


class Case(NamedTuple):
    """A stratum: requests a day of pilot and reference, reviews of both arms, pairs, thumbs down a request (0: nobody puts any)."""

    name: str
    pilot: float
    reference: float
    reviews: float
    pairs: float
    thumbs: bool = True


CASES: Final = (
    Case("a stratum of the main world, half rolled out", 1500, 1500, 25, 20),
    Case("rolled out, holdout of 2 %", 2940, 60, 25, 20),
    Case("reviews only", 500, 500, 40, 0, thumbs=False),
    Case("pairs only", 1000, 1000, 0, 100, thumbs=False),
    Case("thumbs only", 20_000, 20_000, 0, 0),
)


def world_of(case: Case, drop: float, days: float) -> World:
    """The stratum, and a drop from day ``WARM`` on."""
    requests = case.pilot + case.reference
    found: dict[str, Any] = {
        "name": case.name,
        "days": days,
        "requests_per_day": requests,
        "eligible": 1.0,
        "holdout_percent": 0.0,
        "rollout": [[0, 100.0 * case.pilot / requests]],
        "strata": {STRATUM: 1.0},
        "dimensions": {},
        "changes": [{"day": WARM, "bad": 0.06 + drop, "stratum": STRATUM}],
        "reviews": {"per_day": case.reviews},
        "judge": {"pairs_per_day": case.pairs},
    }
    if not case.thumbs:
        found["thumbs"] = {"bad": 0.0, "good": 0.0}
    return World.model_validate(found)


class Seen(Exception):  # noqa: N818 - nothing is wrong
    """An alarm, so many days after the drop: the run is over."""

    def __init__(self, days: float) -> None:
        self.days = days


class Alarmed(Guard):
    """The guard until its first alarm after the drop. One before it is set aside: the tests begin anew."""

    def step(self, now_ms: int) -> list[Finding]:
        if super().step(now_ms):
            day = (now_ms - START_MS) / DAY_MS
            if day > WARM:
                raise Seen(day - WARM)
            for unit in self.units.values():
                unit.restart(now_ms)
        return []


class Even(Alarmed):
    """Asks for nothing: reviews and pairs come as they come."""

    def attention(self) -> dict[str, tuple[float, float]]:
        return {STRATUM: (1.0, 1.0)}


def volume_of(case: Case, settings: Settings) -> Volume:
    """What ``power`` is told of it; bad answers and thumbs as they are in a quiet world."""
    world = world_of(case, 0.0, 1.0)
    bad, reviews, thumbs, judge = world.quality.baseline, world.reviews, world.thumbs, world.judge
    called_bad = judge.accuracy * bad + (1.0 - judge.accuracy) * (1.0 - bad)
    return Volume(
        pilot=case.pilot,
        reference=case.reference,
        reviews=case.reviews,
        pairs=case.pairs,
        thumbs_rate=thumbs.good + (thumbs.bad - thumbs.good) * bad,
        bad=reviews.sensitivity * bad + (1.0 - reviews.specificity) * (1.0 - bad),
        threshold=usual_threshold(settings, 1),
        judge_power=settings.judge_power,
        spread=2.0 * called_bad * (1.0 - called_bad),
    )


def days_to_alarm(case: Case, drop: float, even: bool, most: float, seed: int) -> float | None:
    """Of one run, ``None`` where it takes longer than ``most`` days."""
    world = world_of(case, drop, WARM + most)
    listener = (Even if even else Alarmed)(Settings(), world.strata, START_MS)
    try:
        Player(world, seed, listener=listener).play()
    except Seen as seen:
        return seen.days
    return None


def measure(asked: Namespace) -> Report:
    report, settings = Report("guard_power", caveats=list(CAVEATS)), Settings()
    with ProcessPoolExecutor(asked.workers) as pool:
        waiting = []
        for case in CASES:
            drops = power(volume_of(case, settings), settings.margin).drops
            for days, drop in drops.items():
                for even in (True, False) if drop is not None and drop <= MOST else ():
                    work = partial(days_to_alarm, case, drop, even, float(days))
                    waiting.append((case, days, drop, even, pool.map(work, range(asked.runs))))
        rows = []
        for case, days, drop, even, runs in waiting:
            share = sum(one is not None for one in runs) / asked.runs
            how = "evenly" if even else "as it runs"
            rows.append({"case": case.name, "days": days, "drop": drop, "how": how, "seen": share})
            report.add(
                f"{case.name}, {days} days, a drop of {100 * drop:.1f} points, {how}",
                round(100 * share),
                f"% of {asked.runs} runs had their alarm",
                goal=f"{100 * (WANTED - NEAR):.0f} to {100 * (WANTED + NEAR):.0f}" if even else "",
                met=abs(share - WANTED) <= NEAR if even else None,
            )
    report.details |= {"runs": asked.runs, "rows": rows}
    evenly = [one["seen"] for one in rows if one["how"] == "evenly"]
    report.fields["guard_power_share_seen"] = round(sum(evenly) / len(evenly), 3)
    if asked.page is not None:
        between(asked.page, BEGIN, END, table(rows, asked.runs))
    return report


def table(rows: list[dict[str, Any]], runs: int) -> list[str]:
    """For the page."""
    lines = [
        f"{runs} runs each. *Seen*: share that had its alarm within those days; about half is right.",
        "",
        "| a stratum with | within | drop by `power` | seen, evenly | seen, as it runs |",
        "|---|---:|---:|---:|---:|",
    ]
    cells = {(one["case"], one["days"], one["how"]): one for one in rows}
    for case in CASES:
        about = f"{case.pilot:,.0f} + {case.reference:,.0f} requests, {case.reviews:g} reviews, {case.pairs:g} pairs"
        for days in DAYS:
            even, runs_so = (cells.get((case.name, days, how)) for how in ("evenly", "as it runs"))
            if even is None or runs_so is None:
                lines.append(f"| {case.name} ({about}) | {days} d | none |  |  |")
            else:
                drop = f"{100 * even['drop']:.1f} points"
                lines.append(
                    f"| {case.name} ({about}) | {days} d | {drop} | {even['seen']:.0%} | {runs_so['seen']:.0%} |"
                )
    return lines


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--page", type=Path, metavar="FILE", help="docs/guard.md: its table is written anew")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    finish(measure(asked), asked.json)


if __name__ == "__main__":
    main()
