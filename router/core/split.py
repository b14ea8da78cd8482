"""Where a stratum should be two: splits beyond which a cheap model falls off, found in logged rewards.

Problem: a stratum's weights are one for all its requests. If a cheap model is as good as the baseline on one side of some number (the
prompt's length, what the classifier gains, ...) and worse on the other, both sides get what neither wants.

For a model m and a split into two sides, with rewards weighted by h / propensity (within a stratum every choice had its known
probability, so sides compare like with like),

    gap(side) = mean reward of the baseline - mean reward of m      D = gap(right) - gap(left)

with standard errors by sessions (``core.ope``). Many splits are tried, so D counts where |D| / se exceeds the normal quantile of
``ALPHA`` over all tests (Bonferroni), each of the four means has ``LEAST`` judgements, and |D| is at least ``LEAST_DIFFERENCE``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.ope import Estimate, Mean

Array = NDArray[np.float64]

ALPHA: Final = 0.05
LEAST: Final = 20
LEAST_DIFFERENCE: Final = 0.05
QUANTILES: Final = (0.25, 0.5, 0.75)


class Sample(NamedTuple):
    """A judged decision. ``features``: what it may be split by; ``weight`` h; ``propensity`` of ``model`` there."""

    session: str
    stratum: str
    model: str
    reward: float
    weight: float
    propensity: float
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Split:
    """``feature`` <= ``edge`` on the left. Gaps as in the module's text; ``judged``: judgements of both models on both sides."""

    stratum: str
    model: str
    feature: str
    edge: float
    left: Estimate
    right: Estimate
    difference: Estimate
    judged: int


def suggest(samples: Sequence[Sample], baseline: str) -> list[Split]:
    """The best split of each stratum and model that is certain enough, the largest difference first."""
    tests = list(_tests(samples, baseline))
    if not tests:
        return []
    certain = NormalDist().inv_cdf(1.0 - ALPHA / 2.0 / len(tests))
    best: dict[tuple[str, str], Split] = {}
    for split, error in tests:
        size = abs(split.difference.value)
        if size < LEAST_DIFFERENCE or size <= certain * error:
            continue
        found = best.get((split.stratum, split.model))
        if found is None or size > abs(found.difference.value):
            best[split.stratum, split.model] = split
    return sorted(best.values(), key=lambda split: -abs(split.difference.value))


def _tests(samples: Sequence[Sample], baseline: str) -> Iterator[tuple[Split, float]]:
    """Every split that has judgements enough, and the standard error of its difference."""
    by_stratum: dict[str, list[Sample]] = {}
    for sample in samples:
        by_stratum.setdefault(sample.stratum, []).append(sample)
    for stratum, found in sorted(by_stratum.items()):
        models = sorted({sample.model for sample in found} - {baseline})
        features = sorted(set.intersection(*(set(sample.features) for sample in found)))
        for model in models:
            two = [sample for sample in found if sample.model in (model, baseline)]
            for feature in features:
                values = np.array([sample.features[feature] for sample in two])
                for edge in sorted({float(np.quantile(values, part, method="lower")) for part in QUANTILES}):
                    tested = _tested(two, model, (stratum, feature, edge), values <= edge)
                    if tested is not None:
                        yield tested


def _tested(
    samples: Sequence[Sample], model: str, where: tuple[str, str, float], left: NDArray[np.bool_]
) -> tuple[Split, float] | None:
    """One split of samples of two models, with its standard error; ``None`` where too few were judged."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(sample.session for sample in samples))}
    cluster = np.array([numbers[sample.session] for sample in samples])
    reward = np.array([sample.reward for sample in samples])
    weight = np.array([sample.weight / max(sample.propensity, 1e-6) for sample in samples])
    is_model = np.array([sample.model == model for sample in samples])
    gaps: list[Mean] = []
    for side in (left, ~left):
        parts = [side & ~is_model, side & is_model]
        if min(int(part.sum()) for part in parts) < LEAST or min(float(weight[part].sum()) for part in parts) <= 0.0:
            return None
        of_baseline, of_model = (Mean.of(weight * part, reward, cluster) for part in parts)
        gaps.append(Mean(of_baseline.value - of_model.value, of_baseline.influence - of_model.influence))
    below, above = gaps
    difference = Mean(above.value - below.value, above.influence - below.influence)
    stratum, feature, edge = where
    split = Split(
        stratum,
        model,
        feature,
        edge,
        left=_estimate(below),
        right=_estimate(above),
        difference=_estimate(difference),
        judged=len(samples),
    )
    return split, _error(difference)


def _error(mean: Mean) -> float:
    return float(np.sqrt(mean.influence @ mean.influence))


def _estimate(mean: Mean) -> Estimate:
    half = 1.96 * _error(mean)
    return Estimate(mean.value, mean.value - half, mean.value + half)
