"""The same request answered twice: a judge finds the pilot's answer worse more often than better. Verdicts d in -1..1, 1: worse.

As long as neither is worse, E[d] <= 0, and for 0 <= l <= 1 the factor 1 + l d has an expectation of at most 1: a bet on "worse"
(Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", 2024). The stake that grows fastest is about E[d] / E[d^2].

A judge may like one model's style. What it says of the pilot in most strata alike is therefore taken for its taste: with ``bias``
m >= 0 the factor is 1 + l (d - m) / (1 + m). A drop in more than half of the strata is for the reviews to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Verdict -> how many had it.
Counts = Mapping[float, int]

_HIGHEST_STAKE: Final = 0.8
#: Strata that must have verdicts before one is told from the judge's taste, and verdicts that each must have.
LEAST_STRATA, LEAST_VERDICTS = 3, 50


def log_factors(excess: Array, spread: float, verdicts: Counts, *, power: float = 0.7, bias: float = 0.0) -> Array:
    """Of some verdicts, by alternative.

    ``excess`` >= 0 in the share of bad answers (0: the alternative says nothing); ``spread``: mean of d^2 so far; ``power``: how much of a
    difference the judge sees (sensitivity + specificity - 1).

    >>> log_factors(np.array([0.0, 0.1]), 0.35, {1.0: 30, -1.0: 20, 0.0: 90}).round(2).tolist()
    [0.0, 1.01]
    """
    stake = np.clip(power * excess / max(spread, 0.05), 0.0, _HIGHEST_STAKE)
    found = np.zeros_like(excess)
    for verdict, count in verdicts.items():
        found += count * np.log1p(stake * (verdict - bias) / (1.0 + bias))
    return found


def taste(means: list[tuple[float, float]]) -> float:
    """What a judge says of the pilot in most strata alike, at least 0. ``means``: (verdicts, their mean) by stratum."""
    known = [mean for n, mean in means if n >= LEAST_VERDICTS]
    return max(0.0, median(known)) if len(known) >= LEAST_STRATA else 0.0
