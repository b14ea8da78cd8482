"""Requests look other to the classifier than the rows that it was fitted to: seen before anybody can have judged an answer.

Problem: whom the cheap model gets hangs on ``p_ok``, and that was fitted to the past. Where requests change, it is wrong first and answers get worse
after. So of each class the requests of a window, n of them, are compared with its m rows:

    PSI = sum over the bins of (q - p) ln(q / p)     q, p: shares of window and rows; half a request is added to each bin
    KS  = largest |Q - P| at an edge of the bins     Q, P: distribution functions
    off = share of the window that lies farther from the class's centroid than ``FAR`` of the rows do

Bins are quantiles of the rows' confidence (``core.usual``). If window and rows are independent draws of one distribution, for large n and m:

    PSI / (1/n + 1/m) has the distribution chi^2 of bins - 1                    (Yurdakul & Naranjo 2020, Statistical properties of the PSI)
    P(KS >= sqrt(ln(2/a) / 2 * (1/n + 1/m))) <= a, the less for the bins        (Smirnov; Massart 1990)
    asin sqrt(off) - asin sqrt(off of the rows) has deviation sqrt(1/n + 1/m)/2 (variance-stabilising)

A test speaks when its value reaches its floor *and* its quantile under that null, of a chance of ``FALSE_A_WINDOW`` divided by all tests of the
window, three a class (Bonferroni). So a pool without drift has a false ``watch`` in at most one window of a thousand; a window is a day, or the days
that it takes to have ``LEAST`` requests, at most ``MOST_DAYS``. Of a conversation one request a day counts (``stages.route_profiles``), for the next are no
independent draws; whoever sends one text a thousand times is seen as drift, and rightly. Nothing follows from it but an alert: it moves no traffic.

Ranges: PSI >= 0, KS and off 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

from router.core.guard.detector import DAY_MS

#: False alerts a window and pool, at most, on average.
FALSE_A_WINDOW: Final = 0.001
#: Requests of a class in a window: with 50, PSI is above .1 in three windows of four though nothing has changed.
LEAST: Final = 500
MOST_DAYS: Final = 7
#: What is smaller matters to nobody, however sure it is. The heads that are kept were fitted to a quarter more rows than those that placed the rows, which alone made
#: up to .13 of PSI and .10 of KS where a class had 500 rows; above .25 of PSI a population is commonly called another one.
PSI_FLOOR: Final = 0.25
KS_FLOOR: Final = 0.15
OFF_FLOOR: Final = 0.1
#: Share of the rows that are nearer to their centroid than what counts as far from it.
FAR: Final = 0.95
TESTS_A_CLASS: Final = 3
#: Classes that are told apart in a pool; of further ones nothing is said.
MOST_CLASSES: Final = 64
#: What was found of a class counts until its next window, but no longer than so many days.
HOLDS_DAYS: Final = 14
_SMOOTH: Final = 0.5


@dataclass(slots=True)
class Sample:
    """Requests or rows of one class. ``counts``: by bin of confidence; ``far``: how many of them are far from the centroid."""

    counts: list[int]
    far: int = 0

    @property
    def n(self) -> int:
        return sum(self.counts)

    def add(self, other: Sample) -> None:
        """``ValueError``: it has other bins."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.far += other.far


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What the three tests say of one class in one window; each value with what it is held against."""

    n: int
    rows: int
    psi: float
    psi_limit: float
    ks: float
    ks_limit: float
    off: float
    off_limit: float

    def speaks(self, signal: str) -> bool:
        """Whether ``confidence_drift`` or ``off_centroid`` is seen."""
        if signal == "off_centroid":
            return self.off >= self.off_limit
        return self.psi >= self.psi_limit or self.ks >= self.ks_limit


SIGNALS: Final = ("confidence_drift", "off_centroid")


def shift(window: Sample, rows: Sample, alpha: float) -> Shift:
    """Compare them; ``alpha``: the chance of each test to speak for nothing. Both must have requests, and the same bins.

    >>> found = shift(Sample([100, 200, 700], 40), Sample([300, 300, 300], 45), 1e-4)
    >>> round(found.psi, 2), round(found.ks, 2), found.off, found.speaks("confidence_drift"), found.speaks("off_centroid")
    (0.62, 0.37, 0.04, True, False)
    """
    n, m = window.n, rows.n
    both = 1.0 / n + 1.0 / m
    off_rows = (rows.far + 1.0) / (m + 1.0)  # mean of the share beyond a row's own distance
    z = NormalDist().inv_cdf(1.0 - alpha)
    off_null = math.sin(min(math.pi / 2, math.asin(math.sqrt(off_rows)) + z * math.sqrt(both) / 2)) ** 2
    return Shift(
        n=n,
        rows=m,
        psi=psi(window.counts, rows.counts),
        psi_limit=max(PSI_FLOOR, both * chi2_quantile(len(rows.counts) - 1, z)),
        ks=ks(window.counts, rows.counts),
        ks_limit=max(KS_FLOOR, math.sqrt(math.log(2.0 / alpha) / 2.0 * both)),
        off=window.far / n,
        off_limit=max(OFF_FLOOR, off_null),
    )


def psi(window: Sequence[int], rows: Sequence[int]) -> float:
    """Population stability index, >= 0.

    >>> psi([50, 50], [500, 500])
    0.0
    """
    n, m = (sum(counts) + _SMOOTH * len(counts) for counts in (window, rows))
    shares = [((one + _SMOOTH) / n, (other + _SMOOTH) / m) for one, other in zip(window, rows, strict=True)]
    return sum((q - p) * math.log(q / p) for q, p in shares)


def ks(window: Sequence[int], rows: Sequence[int]) -> float:
    """Largest distance of the distribution functions at the edges of the bins, 0..1."""
    n, m = sum(window), sum(rows)
    found, one, other = 0.0, 0, 0
    for count, rows_count in zip(window, rows, strict=True):
        one += count
        other += rows_count
        found = max(found, abs(one / n - other / m))
    return found


def chi2_quantile(degrees: int, z: float) -> float:
    """Of chi^2, where a normal variable has ``z`` (Wilson & Hilferty 1931: too high by 2 % at nine degrees, by 11 % at one); 0 without a degree of freedom.

    >>> round(chi2_quantile(9, 3.719), 1)  # exactly 33.7
    34.1
    """
    if degrees <= 0:
        return 0.0
    part = 2.0 / (9.0 * degrees)
    return float(degrees * (1.0 - part + z * math.sqrt(part)) ** 3)


@dataclass(slots=True)
class Window:
    """Of one class: what came since ``since_ms``, and the rows that it is held against."""

    seen: Sample
    rows: Sample
    since_ms: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The last window of a class: its test, from when to when."""

    shift: Shift
    since_ms: int
    until_ms: int


@dataclass(slots=True)
class Drift:
    """One pool. ``version``: of what says what is usual; with another one all begins anew."""

    version: str
    stepped_ms: int
    windows: dict[str, Window] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)

    def add(self, name: str, seen: Sample, rows: Sample, at_ms: int) -> None:
        """Some requests of a class. ``ValueError``: bins that do not fit, or rows without any."""
        if len(seen.counts) != len(rows.counts) or not rows.n or min(*seen.counts, *rows.counts, seen.far) < 0:
            raise ValueError(f"class {name!r}: {len(seen.counts)} and {len(rows.counts)} bins, {rows.n} rows")
        window = self.windows.get(name)
        if window is None or len(window.seen.counts) != len(seen.counts):
            if len(self.windows) >= MOST_CLASSES and name not in self.windows:
                return
            window = self.windows[name] = Window(Sample([0] * len(seen.counts)), rows, at_ms)
        window.seen.add(seen)
        window.rows = rows

    def step(self, now_ms: int) -> bool:
        """Judge the windows that have ended: once a day, by the records' own time. Whether a day ended."""
        if now_ms // DAY_MS <= self.stepped_ms // DAY_MS:
            return False
        self.stepped_ms = now_ms
        alpha = FALSE_A_WINDOW / (TESTS_A_CLASS * max(1, len(self.windows)))
        for name, window in list(self.windows.items()):
            if window.seen.n >= LEAST:
                self.judged[name] = Judged(shift(window.seen, window.rows, alpha), window.since_ms, now_ms)
            elif now_ms - window.since_ms < MOST_DAYS * DAY_MS:
                continue
            self.windows[name] = Window(Sample([0] * len(window.rows.counts)), window.rows, now_ms)
        for name in [name for name, one in self.judged.items() if now_ms - one.until_ms > HOLDS_DAYS * DAY_MS]:
            del self.judged[name]
        return True

    def speaking(self, signal: str) -> dict[str, Judged]:
        """The classes in whose last window the signal was seen, the farthest first."""
        found = {name: one for name, one in self.judged.items() if one.shift.speaks(signal)}
        far = signal == "off_centroid"
        return dict(sorted(found.items(), key=lambda item: -(item[1].shift.off if far else item[1].shift.psi)))

    def dump(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "version": self.version,
            "stepped_ms": self.stepped_ms,
            "windows": {
                name: [one.seen.counts, one.seen.far, one.rows.counts, one.rows.far, one.since_ms]
                for name, one in self.windows.items()
            },
            "judged": {
                name: [
                    {field: getattr(one.shift, field) for field in Shift.__dataclass_fields__},
                    one.since_ms,
                    one.until_ms,
                ]
                for name, one in self.judged.items()
            },
        }

    @classmethod
    def load(cls, found: Mapping[str, Any]) -> Drift:
        """The inverse of ``dump``."""
        return cls(
            found["version"],
            found["stepped_ms"],
            {
                name: Window(Sample(counts, far), Sample(rows, rows_far), since_ms)
                for name, (counts, far, rows, rows_far, since_ms) in found["windows"].items()
            },
            {
                name: Judged(Shift(**one), since_ms, until_ms)
                for name, (one, since_ms, until_ms) in found["judged"].items()
            },
        )
