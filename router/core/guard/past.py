"""Answers are judged worse than they used to be: the pilot against its own validated past, where there is little else to compare with.

A holdout of 2 % has hardly a review a day. What the pilot was like until a week ago is known much better: of n judgements a share b was bad. Its
mean was then at most

    m = b + Z * sqrt(b (1 - b) / n)      b = (bad + 1) / (n + 2)

but for a chance of one in a hundred; that chance is the price, and small beside what the test's prior costs. As long as the mean is m or less, a
judgement of ``bad`` in 0..1 has the factor

    bad t / m + (1 - bad) (1 - t) / (1 - m)      t = m + excess

of expectation at most 1. A change that meets pilot and reference alike is none of the pilot's making; ``monitor`` looks at that before it pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Z: Final = 2.33
#: Judgements that make a past.
LEAST: Final = 60
_MOST: Final = 0.98


def bound(n: float, bad: float) -> float | None:
    """M of a past with ``n`` judgements, ``bad`` of them bad; ``None``: there are too few.

    >>> round(bound(200, 12), 3), bound(20, 1)
    (0.105, None)
    """
    if n < LEAST:
        return None
    share = (bad + 1.0) / (n + 2.0)
    return min(share + Z * math.sqrt(share * (1.0 - share) / n), _MOST - 0.01)


def log_factors(excess: Array, m: float, counts: Mapping[float, int]) -> Array:
    """Of some judgements, by alternative; ``excess`` >= 0 (0: the alternative says nothing)."""
    t = np.minimum(m + excess, _MOST)
    found = np.zeros_like(excess)
    for bad, count in counts.items():
        found += count * np.log(bad * t / m + (1.0 - bad) * (1.0 - t) / (1.0 - m))
    return np.where(excess > 0.0, found, 0.0)
