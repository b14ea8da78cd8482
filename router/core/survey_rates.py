"""What a survey says of those who answered, and how little of those who did not.

- **Response rate** of the asked whose time to answer is over; who has not answered by then is *silent*, who was asked lately *waits* and counts neither way.
  Intervals of shares and means: ``review_rates.rate_of`` (Wilson's; each asking stands for 1 / inclusion).
- **Mean of those who answered**: of all only if the silent ones think alike, which nobody knows.
- **Mean of all who were asked**: whatever the silent ones think, it lies between ``worst``, where each of them had said 0, and ``best``, where each
  had said 1 (Manski 1989: the bounds of a mean with answers missing). No assumption makes it narrower; only a higher response rate does.
- **Pilot beside reference** (holdout and control, who get the baseline's answers): where one is answered more often than the other, those who speak
  are not of the same mix, and the difference of their means is of people as well as of answers. So the difference of the response rates stands beside it,
  with Newcombe's interval of two Wilson ones (1998, method 10), and the bounds of the difference of all who were asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

from router.core.review_rates import Rate, rate_of

PILOT: Final = frozenset({"pilot"})
REFERENCE: Final = frozenset({"holdout", "control"})


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody was asked, ``value`` 0..1 what was said in time, ``None`` if nothing; ``inclusion``: probability with which the request was drawn."""

    cohort: str
    inclusion: float
    value: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two shares or means, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def shows(self) -> bool:
        """Whether chance alone does not make it."""
        return self.low > 0.0 or self.high < 0.0


@dataclass(frozen=True, slots=True)
class Responses:
    """Of one group of people who were asked. ``mean``: of those who answered, ``None`` if nobody did; ``worst``, ``best``: of all, see above."""

    asked: int
    answered: int
    rate: Rate
    mean: Rate | None
    worst: Rate
    best: Rate


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pilot less reference. ``mean``: of those who answered; ``low``, ``high``: bounds of the difference of all who were asked."""

    rate: Difference
    mean: Difference | None
    low: float
    high: float


def responses(of: Sequence[Asked]) -> Responses | None:
    """``None`` without anybody.

    >>> found = responses([Asked("pilot", 0.1, 1.0), *[Asked("pilot", 0.1, None)] * 3])
    >>> found.answered, found.rate.value, found.worst.value, found.best.value
    (1, 0.25, 0.25, 1.0)
    """
    rate = rate_of((float(one.value is not None), one.inclusion) for one in of)
    worst = rate_of((one.value or 0.0, one.inclusion) for one in of)
    best = rate_of((1.0 if one.value is None else one.value, one.inclusion) for one in of)
    if rate is None or worst is None or best is None:
        return None
    said = [(one.value, one.inclusion) for one in of if one.value is not None]
    return Responses(rate.n, len(said), rate, rate_of(said), worst, best)


def compared(of: Iterable[Asked]) -> Comparison | None:
    """Pilot beside reference; ``None`` where one of them was not asked."""
    people = list(of)
    pilot = responses([one for one in people if one.cohort in PILOT])
    reference = responses([one for one in people if one.cohort in REFERENCE])
    if pilot is None or reference is None:
        return None
    mean = None
    if pilot.mean is not None and reference.mean is not None:
        mean = difference(pilot.mean, reference.mean)
    low = pilot.worst.value - reference.best.value
    return Comparison(difference(pilot.rate, reference.rate), mean, low, pilot.best.value - reference.worst.value)


def difference(one: Rate, other: Rate) -> Difference:
    """One less the other, with an interval from both of theirs.

    >>> from router.core.review_rates import wilson
    >>> one, other = (Rate(n, yes / n, *wilson(yes / n, n), n) for yes, n in ((56, 70), (48, 80)))
    >>> found = difference(one, other)
    >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    value = one.value - other.value
    low = value - sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    high = value + sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Difference(value, max(-1.0, low), min(1.0, high))
