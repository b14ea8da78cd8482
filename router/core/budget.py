"""Spending at most so much a request: a ledger that never lends more than a burst, and a price of money that paces it.

**Ledger**: each request brings the budget B, and owes what it is expected to cost until that is known. Calls cost ``dearer`` times
what is expected of them, as the last ones have shown: an answer is seldom as long as it may be. A model may be asked only if

    dearer expected <= B (n + 1) + burst - spent - dearer owed,        burst = max(``BURST`` B n, one call of the dearest model)

or if it is the cheapest that can be asked: a request is answered, whatever the ledger says.

**Price of money** ``lam``: a model's value is its quality less ``lam`` times cost over B. Of the last ``WINDOW`` requests it is known
what each model would have been worth and would have cost; ``lam`` is the least with which their expected cost is the target

    target = B + left / HORIZON       (within a quarter and twice of B; ``left`` is what the ledger has not spent)

so a change of prices or of traffic is in it at once, and what was saved or overdrawn is spread over the next ``HORIZON`` requests.
Dual pacing with a step (Agrawal and Devanur 2014; Balseiro and Gur 2019) follows the same target from one side, slowly where prices
of models differ by a hundredfold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WINDOW = 200
HORIZON = 200
#: Of what all requests have brought: what may be overdrawn for a while, and what is kept back on purpose.
BURST, RESERVE = 0.01, 0.005
_MOST_DEARER = 100.0
#: Requests between two looks for the price; at first it is looked for more often.
LOOK_EVERY = 128
_FIRST_LOOKS = frozenset({1, 2, 4, 8, 16, 32, 64})
#: Bounds of ``lam``: quality is 0..1, so with the upper one a thousandth of B is worth any answer.
LEAST, MOST = 1e-6, 1e3
#: It is looked for within this factor of the last one first, and found to within the second.
_NEAR, _CLOSE = 1.2, 1.001


@dataclass(slots=True)
class Ledger:
    """Of one pool, in nano-dollars.

    ``requests`` decided; ``spent`` by those whose cost is known; ``owed``: expected of the others. ``lately_expected`` and
    ``lately_spent``: of the last ``WINDOW`` that are done.
    """

    budget: int
    requests: int = 0
    spent: int = 0
    owed: int = 0
    lately_expected: float = 0.0
    lately_spent: float = 0.0

    @property
    def dearer(self) -> float:
        """How many times what is expected of them calls cost; 1 before anything is known."""
        if self.lately_expected <= 0.0:
            return 1.0
        return min(max(self.lately_spent / self.lately_expected, 1.0 / _MOST_DEARER), _MOST_DEARER)

    @property
    def left(self) -> int:
        """What the requests so far have brought and neither used nor need; negative when overdrawn."""
        return self.budget * self.requests - self.spent - round(self.owed * self.dearer)

    @property
    def burst(self) -> int:
        """What may be overdrawn for a while, if it is more than one call of the dearest model."""
        return int(BURST * self.budget * self.requests)

    def charge(self, expected: int) -> None:
        """A request was decided."""
        self.requests += 1
        self.owed += expected

    def correct(self, requests: int, expected: int, cost: int) -> None:
        """Of requests so many are done, of which so much was expected; ``cost`` of calls became known."""
        self.owed -= expected
        self.spent += cost
        keep = (1.0 - 1.0 / WINDOW) ** requests
        self.lately_expected = self.lately_expected * keep + expected
        self.lately_spent = self.lately_spent * keep + cost


class Pacer:
    """The price of money of one pool, from its last requests."""

    def __init__(self, ledger: Ledger, price: float = 0.0) -> None:
        self.ledger = ledger
        self.price = price
        self._models: tuple[str, ...] = ()
        self._seen: deque[tuple[float, ...]] = deque(maxlen=WINDOW)
        self._fresh = 0

    def note(self, quality: Mapping[str, float], cost: Mapping[str, float], gamma: float) -> None:
        """A request as it was decided: expected quality and cost (above 0) of each model that could be asked."""
        models = tuple(quality)
        if models != self._models:
            self._models = models
            self._seen.clear()
        self._seen.append((*quality.values(), *cost.values(), gamma))
        self._fresh += 1
        if self._fresh >= LOOK_EVERY or len(self._seen) in _FIRST_LOOKS:
            self._fresh = 0
            self.price = self._found()

    def _found(self) -> float:
        """The least price with which the expected cost of the last requests is the target."""
        ledger, count = self.ledger, len(self._models)
        budget = float(ledger.budget)
        reserve = RESERVE * budget * ledger.requests
        target = min(max(budget + (ledger.left - reserve) / HORIZON, budget / 4.0), 2.0 * budget) / ledger.dearer
        seen = np.array(self._seen).T
        quality, cost, gammas = seen[:count], seen[count:-1], seen[-1]

        def over(price: float) -> bool:
            return _expected_cost(quality - (price / budget) * cost, cost, gammas) > target

        if not over(0.0):
            return 0.0
        low, high = (self.price / _NEAR, self.price * _NEAR) if self.price > LEAST else (LEAST, MOST)
        low, high = low if over(low) else LEAST, high if not over(high) else MOST
        while high > low * _CLOSE:
            middle = sqrt(low * high)
            low, high = (middle, high) if over(middle) else (low, middle)
        return high


def _expected_cost(values: Array, cost: Array, gammas: Array) -> float:
    """Mean cost of requests (models, n) when each is decided by inverse-gap weights."""
    best = values.max(axis=0)
    weights = 1.0 / (len(values) + gammas * (best - values))
    is_best = values == best
    rest = np.where(is_best, 0.0, weights)
    share = (1.0 - rest.sum(axis=0)) / is_best.sum(axis=0)
    return float((np.where(is_best, share, rest) * cost).sum() / values.shape[1])
