"""Answers are judged worse under the pilot than beside it: reviews, labels, ratings, surveys. Two samples of values in 0..1.

A block has n1 judgements of the pilot's answers and n0 of the reference's, ``bad`` from 0 to 1 each. As long as both have the same mean, whatever
it is, the product over the block of

    pilot: bad t1 / p + (1 - bad) (1 - t1) / (1 - p)      reference: the same with t0      p = (n1 t1 + n0 t0) / (n1 + n0)

has an expectation of at most 1, for any t0, t1 chosen before the block (Turner, Ly & Grünwald, "Generic e-variables for exact sequential
k-sample tests", 2024; linear in ``bad``, so it holds for means of bounded values). t0 is what the reference was so far, t1 = t0 + excess.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Value of ``bad`` -> how many had it.
Counts = Mapping[float, int]

_LEAST, _MOST = 0.005, 0.98


def log_factors(excess: Array, usual: float, pilot: Counts, reference: Counts) -> Array:
    """Of one block, by alternative; ``usual`` t0 in 0..1, ``excess`` >= 0 (0: the alternative says nothing of this signal).

    >>> log_factors(np.array([0.0, 0.2]), 0.1, {1.0: 3, 0.0: 7}, {1.0: 1, 0.0: 9}).round(3).tolist()
    [0.0, 0.649]
    """
    n1, n0 = sum(pilot.values()), sum(reference.values())
    if not n1 or not n0:
        return np.zeros_like(excess)
    t0 = np.full_like(excess, min(max(usual, _LEAST), _MOST - 0.01))
    t1 = np.minimum(t0 + excess, _MOST)
    p = (n1 * t1 + n0 * t0) / (n1 + n0)
    found = np.zeros_like(excess)
    for t, counts in ((t1, pilot), (t0, reference)):
        worse, better = t / p, (1.0 - t) / (1.0 - p)
        for bad, count in counts.items():
            found += count * np.log(bad * worse + (1.0 - bad) * better)
    return np.where(excess > 0.0, found, 0.0)
