"""What a sample of opinions says of all answers, and what a judge's word is worth beside people's.

**Rate.** Each opinion stands for 1 / inclusion answers (Hajek's estimator):

    rate = sum(w y) / sum(w),   w = 1 / inclusion

Its interval is Wilson's, at the number of even draws that would be as sure: the smaller of Kish's (sum w)^2 / sum w^2 and what the
linearised variance sum w^2 (y - rate)^2 / (sum w)^2 amounts to (Korn and Graubard 1998 do the same with another interval). So no rate is
called certain because nothing bad was among few.

**Judge.** Where people have looked at the same pairs: sensitivity, the share of what they find worse that the judge finds worse, and
specificity, the share of the rest that it leaves. A rate that the judge reports is corrected for both (Rogan and Gladen 1978),

    corrected = (reported + specificity - 1) / (sensitivity + specificity - 1),

with the interval of Lang and Reiczigel (2014), which knows that the two are estimates. A judge that is hardly better than a coin corrects nothing.

**Judge's power.** What the guard needs to know of a judge: how much of a difference in bad answers its mean verdict shows. It is the slope of its
verdicts (-1..1) on what people found of the same pairs (-1..1), by least squares with a constant, which is its taste; the interval is the robust one
(White 1980). People err, too, which makes the slope smaller than it is: the guard then is slower to let a stratum come back, not quicker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

#: Of a normal distribution, for intervals of 95 %.
Z: Final = 1.959964
#: Pairs of which people found one answer better than the other, below which a judge's power is not known.
LEAST_DIFFERENT: Final = 20
#: sensitivity + specificity - 1 below which a judge says nothing.
LEAST_SKILL: Final = 0.1


@dataclass(frozen=True, slots=True)
class Rate:
    """A share 0..1 with its 95 % interval; ``n`` opinions, as sure as ``effective`` even draws."""

    n: int
    value: float
    low: float
    high: float
    effective: float


@dataclass(frozen=True, slots=True)
class JudgeError:
    """A judge beside people; ``None`` where there is nothing to tell it by."""

    sensitivity: Rate | None
    specificity: Rate | None


def rate_of(opinions: Iterable[tuple[float, float]]) -> Rate | None:
    """From pairs of what was found (0..1) and inclusion probability; ``None`` without any.

    >>> found = rate_of([(1.0, 0.5), (0.0, 0.5), (0.0, 0.25), (0.0, 1.0)])
    >>> round(found.value, 3), round(found.low, 2), round(found.high, 2)
    (0.222, 0.03, 0.72)
    """
    known = [(value, 1.0 / inclusion) for value, inclusion in opinions if inclusion > 0.0]
    if not known:
        return None
    total = sum(weight for _, weight in known)
    squares = sum(weight * weight for _, weight in known)
    value = sum(found * weight for found, weight in known) / total
    effective = total * total / squares
    spread = sum((weight * (found - value)) ** 2 for found, weight in known) / (total * total)
    if len(known) > 1 and spread > 0.0:
        effective = min(effective, value * (1.0 - value) * (len(known) - 1) / (spread * len(known)))
    low, high = wilson(value, effective)
    return Rate(len(known), value, low, high, effective)


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share that was seen in ``n`` even draws.

    >>> [round(bound, 3) for bound in wilson(0.0, 20)]
    [0.0, 0.161]
    """
    square = Z * Z
    middle = (share + square / (2.0 * n)) / (1.0 + square / n)
    half = Z / (1.0 + square / n) * sqrt(share * (1.0 - share) / n + square / (4.0 * n * n))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def judge_error(seen: Sequence[tuple[bool, bool]]) -> JudgeError:
    """From pairs of what people found and what the judge found of it: whether the answer is the worse one."""
    return JudgeError(
        sensitivity=rate_of((float(said), 1.0) for truth, said in seen if truth),
        specificity=rate_of((float(not said), 1.0) for truth, said in seen if not truth),
    )


def judge_power(seen: Sequence[tuple[float, float]]) -> Rate | None:
    """From pairs of what people found and the judge's verdict, -1..1 both, above 0: worse. ``None`` where people found too few to differ.

    >>> found = judge_power([(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (-1.0, 0.0), (-1.0, -1.0)] * 10)
    >>> found.value, found.n
    (0.5, 50)
    """
    n = len(seen)
    if sum(people != 0.0 for people, _ in seen) < LEAST_DIFFERENT:
        return None
    mean, level = sum(people for people, _ in seen) / n, sum(verdict for _, verdict in seen) / n
    squares = sum((people - mean) ** 2 for people, _ in seen)
    if squares <= 0.0:
        return None
    slope = sum((people - mean) * (verdict - level) for people, verdict in seen) / squares
    rest = [(people - mean) * (verdict - level - slope * (people - mean)) for people, verdict in seen]
    error = sqrt(sum(one * one for one in rest) * n / (n - 2)) / squares
    return Rate(n, _within(slope), _within(slope - Z * error), _within(slope + Z * error), float(n))


def corrected(reported: Rate, error: JudgeError) -> Rate | None:
    """What a judge's rate amounts to, ``None`` where its error is not known or it is as good as none."""
    if error.sensitivity is None or error.specificity is None:
        return None
    hits, n_hits = _shrunk(error.sensitivity)
    passes, n_passes = _shrunk(error.specificity)
    skill = hits + passes - 1.0
    if skill < LEAST_SKILL:
        return None
    square, n = Z * Z, reported.effective + Z * Z
    share = (reported.effective * reported.value + square / 2.0) / n
    value = (share + passes - 1.0) / skill
    of_hits, of_passes = hits * (1.0 - hits) / n_hits, passes * (1.0 - passes) / n_passes
    shift = 2.0 * square * (value * of_hits - (1.0 - value) * of_passes)
    half = Z / skill * sqrt(share * (1.0 - share) / n + value**2 * of_hits + (1.0 - value) ** 2 * of_passes)
    plain = (reported.value + error.specificity.value - 1.0) / (error.sensitivity.value + error.specificity.value - 1.0)
    low, high = _within(value + shift - half), _within(value + shift + half)
    return Rate(reported.n, min(max(_within(plain), low), high), low, high, reported.effective)


def _shrunk(rate: Rate) -> tuple[float, float]:
    """A share with one case more on each side, and of how many."""
    n = rate.effective + 2.0
    return (rate.effective * rate.value + 1.0) / n, n


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
