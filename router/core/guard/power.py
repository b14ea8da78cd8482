"""What the guard can see, and when: per unit the smallest drop that is seen within some days, and what would make it one day.

If the pilot is worse by e from today on, what is observed in a day adds on average I(e) to ln M of the alternative that fits it, and the alarm comes when
ln M has grown to the unit's threshold plus ``SLACK``, what the mixture over alternatives costs, and what was said has come in:

    days(e) = (threshold + SLACK) / I(e) + DELAY_DAYS

    reviews   I = sum of the two arms' Kullback-Leibler divergences from their common mean
    pairs     I = J b (J e - J b / 2) / spread          the judge sees J of a difference; spread: mean of d^2
    thumbs    I = rate of each arm times the divergence of a Poisson rate from the common one

The largest alternative bets on b = ``LARGEST_BET`` margins: of a larger drop I is what that bet gains, else b = e. This is the mean of a random walk, not
its distribution: half of the alarms come later. ``benchmarks/guard_power.py`` plants such drops; ``docs/guard.md`` has how many were seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SLACK: Final = 1.5
#: Until an opinion of an answer is there: a few hours.
DELAY_DAYS: Final = 0.2
#: In margins: the largest excess that an alternative bets on (``grid``).
LARGEST_BET: Final = 2.0
#: Days within which a drop of the margin must be seen; else the unit is *blind*.
BLIND_DAYS: Final = 7.0
#: Reviewers' words are taken as they are; of each thumb: how its rate grows with the share of bad answers.
THUMBS_PER_EXCESS: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What a unit brings a day.

    ``pilot``, ``reference``: requests; ``reviews`` of both arms, half of them of the reference; ``pairs`` judged; ``thumbs_rate``: thumbs down a
    request; ``bad``: usual share of bad answers by review; ``threshold``: logarithm of M at which it alarms; ``spread``: mean square of a verdict.
    """

    pilot: float
    reference: float
    reviews: float
    pairs: float
    thumbs_rate: float
    bad: float
    threshold: float
    judge_power: float = 0.7
    spread: float = 0.3


@dataclass(frozen=True, slots=True)
class Power:
    """``drops``: days -> the smallest excess of bad answers seen within them, ``None`` if none; ``days``: until a drop of the margin is seen.

    ``reviews_for_one_day``, ``pairs_for_one_day``: how many a day would make it one day, each alone beside what there is.
    """

    drops: dict[int, float | None]
    days: float | None
    blind: bool
    reviews_for_one_day: int | None
    pairs_for_one_day: int | None
    by_signal: dict[str, float]


def power(volume: Volume, margin: float) -> Power:
    """Of one unit, for drops of the size of ``margin`` (0..1)."""
    needed = volume.threshold + SLACK
    by_signal = information(volume, margin, margin)
    total = sum(by_signal.values())
    days = needed / total + DELAY_DAYS if total > 0 else None
    lacking = max(0.0, needed / (1.0 - DELAY_DAYS) - total)
    a_review = _reviews(volume, margin, margin, 1.0)
    a_pair = _pairs(volume, margin, margin, 1.0)
    return Power(
        drops={days_: _smallest(volume, needed / (days_ - DELAY_DAYS), margin) for days_ in (1, 7, 30)},
        days=days,
        blind=days is None or days > BLIND_DAYS,
        reviews_for_one_day=math.ceil(volume.reviews + lacking / a_review) if a_review > 0 else None,
        pairs_for_one_day=math.ceil(volume.pairs + lacking / a_pair) if a_pair > 0 and volume.pilot > 0 else None,
        by_signal=by_signal,
    )


def information(volume: Volume, excess: float, margin: float) -> dict[str, float]:
    """Nats a day by signal, if the pilot's share of bad answers is higher by ``excess``.

    >>> volume = Volume(pilot=2000, reference=2000, reviews=25, pairs=20, thumbs_rate=0.003, bad=0.08, threshold=7.6)
    >>> {name: round(nats, 2) for name, nats in information(volume, 0.1, 0.1).items()}
    {'reviews': 0.28, 'pairs': 0.16, 'thumbs': 0.2}
    """
    bet = min(excess, LARGEST_BET * margin)
    return {
        "reviews": _reviews(volume, excess, bet, volume.reviews),
        "pairs": _pairs(volume, excess, bet, volume.pairs),
        "thumbs": _thumbs(volume, excess, bet),
    }


def _reviews(volume: Volume, excess: float, bet: float, reviews: float) -> float:
    p0 = min(max(volume.bad, 0.005), 0.9)
    p1, q1 = min(p0 + excess, 0.98), min(p0 + bet, 0.98)
    q = (p0 + q1) / 2
    return reviews / 2 * (_divergence(p1, q) - _divergence(p1, q1) + _divergence(p0, q))


def _pairs(volume: Volume, excess: float, bet: float, pairs: float) -> float:
    seen, staked = volume.judge_power * excess, volume.judge_power * bet
    return pairs * staked * (seen - staked / 2) / max(volume.spread, 0.05)


def _thumbs(volume: Volume, excess: float, bet: float) -> float:
    n1, n0, rate = volume.pilot, volume.reference, volume.thumbs_rate
    if min(n1, n0, rate) <= 0:
        return 0.0
    grown, ratio = 1.0 + THUMBS_PER_EXCESS * excess, 1.0 + THUMBS_PER_EXCESS * bet
    mean = (n1 * ratio + n0) / (n1 + n0)
    return rate * (n1 * grown * math.log(ratio / mean) - n0 * math.log(mean))


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def _smallest(volume: Volume, nats_a_day: float, margin: float) -> float | None:
    """The smallest excess that brings so many nats a day, by bisection; ``None`` above 0.9."""
    low, high = 0.0, 0.9
    if sum(information(volume, high, margin).values()) < nats_a_day:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if sum(information(volume, middle, margin).values()) < nats_a_day:
            low = middle
        else:
            high = middle
    return round(high, 4)
