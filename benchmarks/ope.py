"""Do intervals of off-policy evaluation cover the truth? On recorded answers, where every model's reward is known.

    python benchmarks/ope.py --answers FILE [--logs 400] [--json]

FILE as for ``learn.py`` (also by ``POINTSMAN_BENCH_ANSWERS``). Each log is one of a router whose weights drift while it runs:
conversations of one to six prompts that keep their model, three strata by the classifier's gain, feedback on one request of ten, of good
answers half as often as of bad ones where it is *uneven*. The candidate sends easy prompts to the cheapest model and hard ones to the
dearest. The truth is the mean reward of all who would judge, had the candidate chosen; coverage is how often a 95 % interval holds it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.learn import World, parsed_with_answers, world_of
from benchmarks.report import Report, finish, options
from router.core.ope import Judged, evaluate

STRATA = ("easy", "medium", "hard")
GOAL = 0.93
CAVEATS = [
    "feedback is made from recorded quality: a chance of being judged, by quality where it is uneven; nobody gave it",
    "in truth and logs alike prompts are drawn with replacement from the rows that did not teach the classifier",
]


def strata_of(world: World) -> np.ndarray:
    """A third of the rows each, by the gain that the classifier expects."""
    gain = world.p_ok[:, -1] - world.p_ok[:, 0]
    return np.searchsorted(np.quantile(gain[~world.teaching], [1 / 3, 2 / 3]), gain)


def target_of(models: int) -> np.ndarray:
    """(strata, models): probabilities of the candidate."""
    even = np.full(models, 0.1 / max(models - 1, 1))
    rows = []
    for favourite in (0, models // 2, models - 1):
        row = even.copy()
        row[favourite] = 0.9 if models > 1 else 1.0
        rows.append(row)
    return np.array(rows)


def judging(quality: np.ndarray, *, rate: float, uneven: bool) -> np.ndarray:
    """Chance that an answer of this quality is judged."""
    return rate * (1.0 - 0.5 * quality) if uneven else np.full_like(quality, rate)


def truth(world: World, strata: np.ndarray, *, rate: float, uneven: bool) -> float:
    rows = np.flatnonzero(~world.teaching)
    mass = target_of(len(world.models))[strata[rows]]
    judged = mass * judging(world.quality[rows], rate=rate, uneven=uneven)
    return float((judged * world.quality[rows]).sum() / judged.sum())


def log_of(world: World, strata: np.ndarray, seed: int, *, sessions: int, rate: float, uneven: bool) -> list[Judged]:
    draw, rows = np.random.default_rng(seed), np.flatnonzero(~world.teaching)
    targets = target_of(len(world.models))
    found = []
    for session in range(sessions):
        drift = session / sessions
        cheap = 0.15 + 0.55 * drift
        rest = np.full(len(world.models), (1.0 - cheap) / max(len(world.models) - 1, 1))
        rest[0] = cheap
        logged = dict(zip(world.models, rest.tolist(), strict=True))
        model = int(draw.choice(len(world.models), p=rest))
        for row in draw.choice(rows, 1 + draw.integers(6)):
            quality = float(world.quality[row, model])
            if draw.random() < judging(np.array(quality), rate=rate, uneven=uneven):
                target = dict(zip(world.models, targets[strata[row]].tolist(), strict=True))
                name = STRATA[strata[row]]
                found.append(Judged(f"{seed}-{session}", name, world.models[model], logged, target, quality))
    return found


def measure(file: Path, logs: int) -> Report:
    report = Report("ope", caveats=CAVEATS)
    world = world_of(file)
    strata = strata_of(world)
    for uneven in (False, True):
        for sessions in (600, 3000):
            known = truth(world, strata, rate=0.1, uneven=uneven)
            found = [
                evaluate(log_of(world, strata, seed, sessions=sessions, rate=0.1, uneven=uneven))
                for seed in range(logs)
            ]
            judged = float(np.mean([one.judged for one in found]))
            case = f"{'uneven' if uneven else 'even'} feedback, {judged:,.0f} judgements"
            for name in ("snips", "dr"):
                estimates = [getattr(one, name) for one in found]
                covered = float(np.mean([one.low <= known <= one.high for one in estimates]))
                width = float(np.mean([one.high - one.low for one in estimates]))
                goal = {} if uneven and name == "dr" else {"goal": f">= {GOAL:g}", "met": covered >= GOAL}
                report.add(f"{case}: coverage of {name}", round(covered, 3), f"of intervals {width:.3f} wide", **goal)
            errors = [one.snips.value - known for one in found]
            report.add(f"{case}: error of snips in the mean", round(float(np.mean(errors)), 4), "reward")
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--logs", type=int, default=400)
    asked = parsed_with_answers(parser)
    finish(measure(asked.answers, asked.logs), asked.json)


if __name__ == "__main__":
    main()
