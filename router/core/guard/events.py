"""Something happens more often under the pilot than beside it: thumbs down, retries, refusals.

In one hour of one unit n1 requests were the pilot's and n0 the reference's; which is which is a matter of a hash, so as long as both fare
alike each event comes from the pilot with probability s = n1 / (n1 + n0), how rare it may be and whatever the hour does to all of them.
If the pilot has r times the rate, it is r s / (r s + 1 - s). The factor of one event is the ratio of the two,

    pilot: r / (r s + 1 - s)        reference: 1 / (r s + 1 - s)

With the counts of the hour in place of the probabilities the events are drawn without replacement, for which the expectation of the
product is no larger (Hoeffding 1963, theorem 4). An event of weight w in 0..1 has the factor 1 + w (L - 1).

Source: the conditional test of two Poisson rates (Przyborowski & Wilenski 1940), as a bet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_factors(ratios: Array, pilot: bool, share: float, weight: float = 1.0) -> Array:
    """Of one event, by alternative; ``share`` s in 0..1, ``ratios`` r >= 1 (1: the alternative says nothing of this signal).

    >>> log_factors(np.array([1.0, 2.0]), True, 0.5).round(3).tolist()
    [0.0, 0.288]
    """
    if not 0.0 < share < 1.0:
        return np.zeros_like(ratios)  # there was nothing to compare with
    factor = (ratios if pilot else 1.0) / (ratios * share + (1.0 - share))
    return np.asarray(np.log1p(weight * (factor - 1.0)))
