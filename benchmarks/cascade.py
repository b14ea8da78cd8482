"""Does a calibrated cascade keep its risk, and what does it save? On recorded answers, where every model's quality is known.

    python benchmarks/cascade.py --answers FILE [--runs 300] [--json]

FILE as for ``learn.py`` (also by ``POINTSMAN_BENCH_ANSWERS``). The cheapest model answers first, the dearest is asked behind. Recorded
answers have no log-probabilities, so confidence is one of two things: what a classifier fitted on other rows says of the prompt (a weak
signal: it never saw the answer), or the recorded quality in noise (a strong one: as if the model knew when it is wrong). Each run
draws its sample to be labelled and calibrates (``core/risk``) at eight moments while labels come in; then the risk at the threshold of *every*
such moment is looked up among all rows. A run fails if one of them was too high. Beside it a threshold by the sample's own risk, as one would take it by hand.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.learn import World, parsed_with_answers, world_of
from benchmarks.report import Report, finish, options
from router.core.labels import Labels
from router.core.risk import GRID, Label, calibrate

TARGET, DELTA = 0.05, 0.1
#: Half of a grade and more of noise: of a bad answer the model is less sure, by so much.
NOISE = 0.25
LABELS = (100, 300, 1000)
CAVEATS = [
    "quality is graded by a judge, 0..1; loss is 1 - quality, labels are taken to be right",
    "confidence is no model's own: a classifier's p_ok of the prompt, or recorded quality in noise",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """Of the rows that taught nobody, (n,) each: confidence in and quality of the cheap answer, quality of the dear one, costs."""

    confidence: Array
    quality: Array
    dear_quality: Array
    cost: Array
    dear_cost: Array

    def risk(self, threshold: float) -> float:
        return float(((1.0 - self.quality) * (self.confidence >= threshold)).mean())

    def outcome(self, threshold: float) -> tuple[float, float, float]:
        """Share that escalates, mean quality, mean cost in nano-dollars."""
        below = self.confidence < threshold
        quality = np.where(below, self.dear_quality, self.quality)
        return float(below.mean()), float(quality.mean()), float((self.cost + below * self.dear_cost).mean())


def answers_of(world: World, *, strong: bool) -> Answers:
    rows = np.flatnonzero(~world.teaching)
    quality = world.quality[rows, 0]
    if strong:
        noisy = quality + np.random.default_rng(7).normal(0.0, NOISE, len(rows))
        confidence = 1.0 / (1.0 + np.exp(-(noisy - 0.5) / 0.15))
    else:
        confidence = world.p_ok[rows, 0]
    return Answers(confidence, quality, world.quality[rows, -1], world.cost[rows, 0], world.cost[rows, -1])


def labels_of(answers: Answers, seed: int, count: int) -> list[Label]:
    """Drawn with replacement: a day's traffic like the rows."""
    picked = np.random.default_rng(seed).integers(0, len(answers.quality), count)
    return [
        Label(float(answers.confidence[row]), float(answers.quality[row]), 1.0, number, "v1")
        for number, row in enumerate(picked)
    ]


def by_hand(labels: list[Label]) -> float:
    """The lowest threshold whose risk in the sample is within the target: what a spreadsheet would say."""
    confidence = np.array([one.confidence for one in labels])
    loss = 1.0 - np.array([one.quality for one in labels])
    return min(float(t) for t in GRID if float((loss * (confidence >= t)).mean()) <= TARGET)


def measure(file: Path, runs: int) -> Report:
    report, world = Report("cascade", caveats=CAVEATS), world_of(file)
    for name, strong in (("the prompt's p_ok", False), ("quality in noise", True)):
        answers = answers_of(world, strong=strong)
        _, dear_quality, dear_cost = answers.outcome(2.0)
        best = min(float(t) for t in GRID if answers.risk(float(t)) <= TARGET)
        escalates, quality, cost = answers.outcome(best)
        alone = dear_cost - float(answers.cost.mean())
        told = f"of requests; quality {quality:.3f} ({dear_quality:.3f} by the dear model alone), {1 - cost / alone:.0%} saved"
        report.add(f"{name}: least share that must escalate", round(escalates, 3), told)
        for count in LABELS:
            wrong = wrong_by_hand = 0
            last: list[float] = []
            for seed in range(runs):
                labels = labels_of(answers, seed, count)
                looks = [calibrate(labels[: count * part // 8], TARGET, DELTA).threshold for part in range(1, 9)]
                wrong += any(one is not None and answers.risk(one) > TARGET for one in looks)
                wrong_by_hand += any(
                    answers.risk(by_hand(labels[: count * part // 8])) > TARGET for part in range(1, 9)
                )
                last.append(1.0 if looks[-1] is None else looks[-1])
            found = np.array([answers.outcome(one) for one in last]).mean(axis=0)
            case = f"{name}, {count:,} labels"
            report.add(
                f"{case}: runs with a risk above {TARGET:.0%}",
                round(wrong / runs, 3),
                f"of {runs}",
                reference=round(wrong_by_hand / runs, 3),
                reference_is="by hand",
                goal=f"<= {DELTA:g}",
                met=wrong / runs <= DELTA,
            )
            told = f"of requests; quality {found[1]:.3f}, {1 - found[2] / alone:.0%} saved"
            report.add(f"{case}: escalate", round(float(found[0]), 3), told)
    _drift(report, answers_of(world, strong=True), runs)
    return report


def _drift(report: Report, answers: Answers, runs: int) -> None:
    """After 1,000 labels a third of the good answers turns bad without notice, as sure as before."""
    delays, false = [], 0
    for seed in range(max(runs // 10, 10)):
        draw = np.random.default_rng(seed)
        known = Labels("").adding(labels_of(answers, seed, 1000), TARGET, 1000)
        held = known.in_force(0.5, TARGET, DELTA).threshold
        calm = [
            one._replace(at_ms=one.at_ms + 1000, held=held, promised=True)
            for one in labels_of(answers, seed + 10_000, 1000)
        ]
        after = known.adding(calm, TARGET, 2000)
        false += after.watched_ms > 0
        spoilt = [
            one._replace(
                at_ms=one.at_ms + 2000, held=held, promised=True, quality=0.0 if draw.random() < 1 / 3 else one.quality
            )
            for one in labels_of(answers, seed + 20_000, 1000)
        ]
        for count in range(20, 1001, 20):
            if known.adding(spoilt[:count], TARGET, 3000).watched_ms > 0:
                delays.append(count)
                break
        else:
            delays.append(10_000)
    report.add(
        "a third turns bad: labels until the watch drops the old ones",
        float(np.median(delays)),
        f"(largest {max(delays):,})",
    )
    report.add("nothing turns bad: runs in which 1,000 later labels made it cry", false, f"of {len(delays)}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--runs", type=int, default=300)
    asked = parsed_with_answers(parser)
    finish(measure(asked.answers, asked.runs), asked.json)


if __name__ == "__main__":
    main()
