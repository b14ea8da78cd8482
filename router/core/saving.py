"""What was saved, and what it cost in quality, with intervals: ratios of sums over independent units, and what follows from them.

**Units.** A conversation draws its cohort and its model once, so it is the unit: everything is summed over each first. Of units i with
sums x_i, y_i only nine sums are kept (``Moments``), so millions of requests need no memory.

**Ratio.** r = sum y / sum x, variance sum (y_i - r x_i)^2 (1 + 2 x_i / sum x) / (sum x)^2: Taylor's (the delta method) for clusters
that were drawn with replacement, each as it would be had the ratio been made without it (the jackknife, but for terms of second order), since few
large units pull the ratio to themselves. A mean is a ratio whose x counts. Degrees of freedom: Kish's number of units, less one.

**Factor.** ``factor(reference, pilot)`` = r_reference / r_pilot: how much longer the baseline's answers are, where y is completion tokens and
x answers. Cohorts are drawn by a hash, so both are samples of one traffic, and the relative variances add. That of the pilot is in it because
its requests' own lengths on the baseline, a finite sum and not its expectation, are what is wanted: the pilot's own scatter stands for theirs. A few
dozen lengths of a skewed kind often lack the long ones, and then mean and scatter are too small together: the reference's units are taken to
scatter at least as much, relatively, as the many of the pilot do.

**Sums.** ``Uncertain`` is a number with its standard deviations by source. Two numbers that rest on one factor are wrong
together: deviations of one source add, those of different sources add in squares. The interval is made on the scale of the logarithm, with
Student's t and as many degrees of freedom as Satterthwaite gives, since money that a ratio of skewed lengths estimates is skewed.

**Quality.** A mean of values 0..1 with weights (1 / inclusion probability: Hajek), its interval Wilson's with as many
observations as would have that variance by themselves, never more than there are (at none: Kish's number of units); differences by Newcombe's
square-and-add (MOVER).

Sources: Cochran, Sampling Techniques, 1977, chapter 6; Satterthwaite 1946; Korn and Graubard, Survey Methodology 1998 (effective sizes);
Newcombe, Statistics in Medicine 1998; Hill, Algorithm 396, CACM 1970 (Student's t).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import exp, inf, isfinite, pi, sqrt, tan
from statistics import NormalDist
from typing import NamedTuple

#: Of intervals, where nothing else is asked for.
CONFIDENCE = 0.95


class Moments(NamedTuple):
    """Sums over units: how many, x, y, and their products."""

    units: float = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    xxx: float = 0.0
    xxy: float = 0.0
    xyy: float = 0.0

    @property
    def ratio(self) -> float | None:
        """Sum y / sum x; ``None`` where x is 0."""
        return self.y / self.x if self.x > 0 else None

    @property
    def variance(self) -> float | None:
        """Of the ratio; ``None`` with fewer than two units."""
        if self.units < 2 or self.x <= 0:
            return None
        r = self.y / self.x
        squares = self.yy - 2 * r * self.xy + r * r * self.xx
        pulled = self.xyy - 2 * r * self.xxy + r * r * self.xxx
        return (max(0.0, squares) + 2 * max(0.0, pulled) / self.x) / self.x**2

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance."""
        return max(1.0, self.effective - 1.0)

    @property
    def effective(self) -> float:
        """Kish's number of units: as many of equal weight are worth as much."""
        return self.x**2 / self.xx if self.xx > 0 else 0.0


class Interval(NamedTuple):
    """An estimate between its limits."""

    value: float
    low: float
    high: float


class Factor(NamedTuple):
    """A ratio of two ratios, or of two means of the same units: ``value``, its standard deviation, degrees of freedom."""

    value: float
    deviation: float
    freedom: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        return Uncertain(self.value, {None: (self.deviation, self.freedom)}).interval(confidence)


def factor(reference: Moments, pilot: Moments, *others: Moments) -> Factor | None:
    """How many times the pilot's ratio the reference's is; ``None`` where it cannot be told. ``others``: whose scatter counts, too."""
    parts = []
    for one in (reference, pilot, *others):
        if not one.ratio or one.variance is None:
            return None
        parts.append((one.variance / one.ratio**2, one.freedom))
    assert reference.ratio is not None
    assert pilot.ratio is not None
    of_many = parts[1][0] * pilot.effective / reference.effective
    parts[0] = (max(parts[0][0], of_many), parts[0][1])
    value = reference.ratio / pilot.ratio
    return Factor(value, value * sqrt(sum(variance for variance, _ in parts)), _satterthwaite(parts))


def paired_factor(pairs: Moments) -> Factor | None:
    """The same from answers of both to the same requests: x of the one, y of the other."""
    if not pairs.ratio or pairs.variance is None:
        return None
    return Factor(pairs.ratio, sqrt(pairs.variance), pairs.freedom)


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A number; by source its signed standard deviation and degrees of freedom."""

    value: float = 0.0
    deviations: Mapping[Hashable, tuple[float, float]] = field(default_factory=dict)

    def __add__(self, other: Uncertain) -> Uncertain:
        found = dict(self.deviations)
        for source, (deviation, freedom) in other.deviations.items():
            mine = found.get(source, (0.0, freedom))
            found[source] = (mine[0] + deviation, freedom)
        return Uncertain(self.value + other.value, found)

    def times(self, by: float) -> Uncertain:
        """Multiplied by what is known."""
        return Uncertain(
            self.value * by, {key: (each * by, freedom) for key, (each, freedom) in self.deviations.items()}
        )

    def grown(self, source: Hashable, by: Factor) -> Uncertain:
        """Multiplied by what ``source`` estimates."""
        own = self.times(by.value)
        return own + Uncertain(0.0, {source: (self.value * by.deviation, by.freedom)})

    @property
    def deviation(self) -> float:
        return sqrt(sum(each * each for each, _ in self.deviations.values()))

    @property
    def freedom(self) -> float:
        return _satterthwaite([(each * each, freedom) for each, freedom in self.deviations.values()])

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Two-sided; symmetric in the logarithm where the number is positive."""
        reach = student(0.5 + confidence / 2, self.freedom) * self.deviation
        if self.value <= 0.0 or not isfinite(reach):
            return Interval(self.value, self.value - reach, self.value + reach)
        grown = exp(min(reach / self.value, 50.0))
        return Interval(self.value, self.value / grown, self.value * grown)


def share(of: Moments, confidence: float = CONFIDENCE, *, observations: float = inf) -> Interval:
    """The interval of a mean of values 0..1; it is never worth more than that many ``observations``, as evenly weighted as units are."""
    if of.ratio is None:
        return Interval(0.0, 0.0, 1.0)
    p, variance, kish = min(max(of.ratio, 0.0), 1.0), of.variance, of.effective
    n = p * (1 - p) / variance if variance and 0.0 < p < 1.0 else kish
    n = min(n, observations * kish / of.units) if of.units else n
    t = student(0.5 + confidence / 2, of.freedom)
    z = t * t / n
    middle, reach = (p + z / 2) / (1 + z), t * sqrt(p * (1 - p) / n + z / (4 * n)) / (1 + z)
    return Interval(p, max(0.0, min(p, middle - reach)), min(1.0, max(p, middle + reach)))


def difference(a: Interval, b: Interval) -> Interval:
    """The first less the second, of shares of different units."""
    value = a.value - b.value
    low = value - sqrt((a.value - a.low) ** 2 + (b.high - b.value) ** 2)
    high = value + sqrt((a.high - a.value) ** 2 + (b.value - b.low) ** 2)
    return Interval(value, max(-1.0, low), min(1.0, high))


def student(quantile: float, freedom: float) -> float:
    """Quantile of Student's t for ``quantile`` 0.5..1, within 0.5 % from three degrees of freedom on; exact at one and two."""
    if not 0.5 <= quantile < 1.0:
        raise ValueError(f"quantile {quantile}: 0.5..1 is wanted")
    if freedom < 1.5:
        return tan(pi * (quantile - 0.5))
    if freedom < 2.5:
        centred = 2 * quantile - 1
        return centred * sqrt(2 / (1 - centred * centred))
    if freedom == inf:
        return NormalDist().inv_cdf(quantile)
    return _hill(2 * (1 - quantile), freedom)


def _hill(two_tailed: float, n: float) -> float:
    a = 1 / (n - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * sqrt(a * pi / 2) * n
    x = d * two_tailed
    y = x ** (2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(two_tailed / 2) if two_tailed < 1 else 0.0
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y * y
        y = exp(y) - 1 if y > 0.002 else 0.5 * y * y + y
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return sqrt(n * y)


def _satterthwaite(parts: list[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    total = sum(variance for variance, _ in parts)
    spread = sum(variance * variance / max(freedom, 1.0) for variance, freedom in parts)
    return total * total / spread if spread > 0 else inf
