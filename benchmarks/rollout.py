"""Does a rollout let bad pilots through, does it give good ones back, and how long does a good one take? One stratum of a simulated pilot, hour by hour.

    python benchmarks/rollout.py [--runs 200] [--json]

5,000 requests a day, 25 reviews and, where there are pairs, 2 % of the pilot's requests judged; a day that is busier than the night; costs are
lognormal (sigma 1), latencies too (sigma 0.6). Bad answers 6 %, errors 1 %, margin .10, everything else at its default, looked at every hour for 60 days.

- *at the bound*: one metric is exactly what just must not pass; the share of runs that ever go on has to be at most alpha (5 %).
- *beyond*: one metric is twice as bad as that; the share that ever goes on, that is given back, and when.
- *good*: the share that is given back, and the days to 100 %, beside what ``rollout plan`` says.
- *coverage*: the share of runs in which a metric's interval missed the truth at any look, at most alpha.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.core.guard.detector import DAY_MS
from router.core.quantiles import bucket_of
from router.core.rollout.gates import Arm, Evidence, Goals
from router.core.rollout.ladder import Ladder, Plan
from router.core.rollout.plan import Pace, days_of, planned

Array = NDArray[Any]

HOUR_MS = 3_600_000
ALPHA = 0.05
GOALS = Goals(margin=0.10, alpha=ALPHA)
STAGES = (5.0, 10.0, 25.0, 50.0, 100.0)
DAYS, REQUESTS, REVIEWS, SHADOW, HOLDOUT = 60, 5000.0, 25.0, 0.02, 0.02
BAD, ERRORS, SIGMA = 0.06, 0.01, 0.6
#: The judge sees .7 of a difference: it says "worse" or "better" by chance, too.
CHANCE = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """``bad``, ``errors``: more than the reference's; ``cost``, ``slower``: times the reference's."""

    name: str
    bad: float = 0.0
    cost: float = 0.2
    slower: float = 1.0
    errors: float = 0.0
    pairs: bool = False
    stages: tuple[float, ...] = STAGES

    @property
    def truth(self) -> dict[str, float]:
        return {"quality": self.bad, "saving": 1 - self.cost, "latency": self.slower, "errors": self.errors}


AT_BOUND = (
    Pilot(name="quality", bad=0.10),
    Pilot(name="quality, with pairs", bad=0.10, pairs=True),
    Pilot(name="saving", cost=1.0),
    Pilot(name="latency", slower=1.5),
    Pilot(name="errors", errors=0.02),
)
BEYOND = (
    Pilot(name="quality", bad=0.20),
    Pilot(name="quality, with pairs", bad=0.20, pairs=True),
    Pilot(name="saving", cost=1.3),
    Pilot(name="latency", slower=2.0),
    Pilot(name="errors", errors=0.04),
)
GOOD = (
    Pilot(name="as good, reviews only"),
    Pilot(name="as good, with pairs", pairs=True),
    Pilot(name="as good, a first stage of 0 %", pairs=True, stages=(0.0, *STAGES)),
    Pilot(name="3 points worse, with pairs", bad=0.03, pairs=True),
)


@dataclass(slots=True)
class Course:
    """What became of a pilot: days of its steps by kind, and the metrics whose interval missed the truth at any time."""

    steps: list[tuple[float, str]] = field(default_factory=list)
    missed: set[str] = field(default_factory=set)

    def first(self, *kinds: str) -> float | None:
        return next((day for day, kind in self.steps if kind in kinds), None)


def course(pilot: Pilot, seed: int) -> Course:
    """One run. The metrics are looked at every hour, for the coverage every fourth."""
    random, found = np.random.default_rng([seed, 7]), Course()
    ladder = Ladder(Plan(stages=pilot.stages, goals=GOALS, least_ms=3 * DAY_MS, deadline_ms=1000 * DAY_MS), 0)
    mine, theirs = sides(pilot)
    for hour in range(DAYS * 24):
        now_ms, busy = (hour + 1) * HOUR_MS, 1 + 0.6 * math.sin(2 * math.pi * hour / 24)
        climb, percent = ladder.climb("math/hard", 0), ladder.percent("math/hard")
        assert climb is not None
        requests = int(random.poisson(REQUESTS / 24 * busy))
        share = int(random.binomial(requests, (1 - HOLDOUT) * percent / 100))
        mine.serve(climb.evidence, share, hour, random)
        theirs.serve(climb.evidence, requests - share, hour, random)
        if pilot.pairs:
            for _ in range(int(random.binomial(share if percent else requests, SHADOW))):
                climb.evidence.pair(verdict(pilot, random))
        for gate in ladder.gates("math/hard") if hour % 4 == 0 else ():
            if gate.value is not None and not gate.low <= pilot.truth[gate.metric] <= gate.high:
                found.missed.add(gate.metric)
        steps = ladder.decide({}, now_ms)
        found.steps += [(now_ms / DAY_MS, step.kind) for step in steps]
        if ladder.ended(ladder.strata["math/hard"]) or ladder.strata["math/hard"].failed:
            break
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What an arm is like: shares of ``bad`` answers and ``errors``, ``cost`` of a request, latencies as buckets and their shares."""

    arm: Arm
    bad: float
    errors: float
    cost: float
    buckets: Array
    shares: Array

    def serve(self, evidence: Evidence, count: int, hour: int, random: np.random.Generator) -> None:
        """An hour."""
        if not count:
            return
        counts = random.multinomial(count, self.shares)
        latency = {int(bucket): int(n) for bucket, n in zip(self.buckets, counts, strict=True) if n}
        evidence.served(self.arm, count, count - int(random.binomial(count, self.errors)), latency)
        evidence.spent(self.arm, hour * HOUR_MS, count, int(1e6 * self.cost * random.lognormal(0, 1, count).sum()))
        reviews = int(random.binomial(count, REVIEWS / REQUESTS))
        evidence.reviewed(self.arm, reviews, reviews - int(random.binomial(reviews, self.bad)))


def verdict(pilot: Pilot, random: np.random.Generator) -> float:
    """What a judge says of a pair, -1, 0 or 1: on average ``judge_power`` times the difference."""
    worse, better = CHANCE + GOALS.judge_power * pilot.bad, CHANCE
    return float(random.choice([1.0, -1.0, 0.0], p=[worse, better, 1 - worse - better]))


@cache
def sides(pilot: Pilot) -> tuple[Side, Side]:
    """The pilot and its reference."""
    values = 800 * np.random.default_rng(0).lognormal(0, SIGMA, 200_000)
    found = []
    for arm, one in (("pilot", pilot), ("reference", Pilot(name="reference", cost=1.0))):
        buckets, counts = np.unique([bucket_of(int(one.slower * value)) for value in values], return_counts=True)
        shares = counts / counts.sum()
        found.append(
            Side(arm=arm, bad=BAD + one.bad, errors=ERRORS + one.errors, cost=one.cost, buckets=buckets, shares=shares)
        )
    return found[0], found[1]


def expected(pilot: Pilot) -> float | None:
    """What ``rollout plan`` says."""
    pace = Pace(
        requests=REQUESTS,
        reviews=REVIEWS,
        shadow=SHADOW if pilot.pairs else 0.0,
        holdout=HOLDOUT,
        windows=24,
        bad=BAD,
        errors=ERRORS,
    )
    return days_of(planned(pace, Plan(stages=pilot.stages, goals=GOALS, least_ms=3 * DAY_MS, deadline_ms=0)))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=200)
    asked = parser.parse_args()
    report = Report(
        "rollout", caveats=["one stratum, and a judge that is as good as it is taken to be (.7 of a difference)"]
    )
    missed: Counter[str] = Counter()
    total = 0

    def courses(pilot: Pilot) -> list[Course]:
        nonlocal total
        found = [course(pilot, seed) for seed in range(asked.runs)]
        missed.update(metric for one in found for metric in one.missed)
        total += len(found)
        return found

    for pilot in AT_BOUND:
        found = courses(pilot)
        on = sum(one.first("advance", "done") is not None for one in found) / len(found)
        report.add(f"at the bound: {pilot.name}, goes on", on, "of the runs", goal=f"<= {ALPHA:g}", met=on <= ALPHA)
    for pilot in BEYOND:
        found = courses(pilot)
        on = sum(one.first("advance", "done") is not None for one in found) / len(found)
        back = [day for one in found if (day := one.first("rollback")) is not None]
        when = f"{median(back):.1f} days" if back else "never"
        unit = f"of the runs (given back: {len(back) / len(found):.0%}, median {when})"
        report.add(f"beyond it: {pilot.name}, goes on", on, unit, goal=f"<= {ALPHA:g}", met=on <= ALPHA)
    for pilot in GOOD:
        found = courses(pilot)
        back = sum(one.first("rollback") is not None for one in found) / len(found)
        days = [math.inf if (day := one.first("done")) is None else day for one in found]
        report.add(f"{pilot.name}: given back", back, "of the runs", goal=f"<= {ALPHA:g}", met=back <= ALPHA)
        arrived = sum(map(math.isfinite, days)) / len(days)
        middle = median(days)
        report.add(
            f"{pilot.name}: days to 100 %, median",
            round(middle, 1) if math.isfinite(middle) else None,
            f"days ({arrived:.0%} within {DAYS})",
            reference=None if (said := expected(pilot)) is None else round(said, 1),
            reference_is="rollout plan",
        )
    for metric in ("quality", "saving", "latency", "errors"):
        share = missed[metric] / total
        name = f"coverage: the interval of {metric} missed the truth at any look"
        report.add(name, round(share, 4), f"of {total:,} runs", goal=f"<= {ALPHA:g}", met=share <= ALPHA)
    finish(report, asked.json)


if __name__ == "__main__":
    main()
