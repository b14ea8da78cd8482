"""Rows of the report: what is known of a stratum in a week, a stratum, a pool; what may be told of it, and from how much on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.core.saving import CONFIDENCE, Factor, Interval, Moments, Uncertain, difference, share
from router.history.report_data import Cell, Key

#: Units (conversations, else requests) of reference that a ratio of lengths is made from, and pairs of shadow answers.
LEAST_REFERENCE = LEAST_PAIRS = 20
#: Units that were judged, in each arm, below which quality is unknown; of thumbs: units in each arm, and thumbs in both.
LEAST_JUDGED, LEAST_QUIET, LEAST_THUMBS = 10, 30, 10
#: Share of the pilot's answers that must have a reference in their stratum and week.
LEAST_COMPARED = 0.9
#: Share of its answers whose cost on the baseline may be unknown, or known but for their length: they count as nothing, or as they are.
MOST_UNPRICED = 0.01


@dataclass(frozen=True, slots=True)
class Quality:
    """``kind`` of evidence, observations ``n`` and moments of both arms."""

    kind: str
    n_pilot: int
    n_reference: int
    pilot: Moments
    reference: Moments

    def change(self, confidence: float = CONFIDENCE) -> Interval:
        """The pilot's quality less the reference's."""
        return difference(*self.arms(confidence))

    def arms(self, confidence: float = CONFIDENCE) -> tuple[Interval, Interval]:
        """Of the pilot, of the reference."""
        return (
            share(self.pilot, confidence, observations=self.n_pilot),
            share(self.reference, confidence, observations=self.n_reference),
        )


@dataclass(slots=True)
class Row:
    """One line of the report. ``counterfactual``: of the pilot alone; ``None`` where it is not known, ``why`` says so."""

    key: Key
    cell: Cell
    counterfactual: Uncertain | None
    lengths_from: set[str]
    ratio: Factor | None
    repeats: Uncertain
    reference_units: int
    pairs: int
    quality: Quality | None
    qualities: tuple[Quality, ...]
    why: list[str] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """All that was spent, nano-dollars."""
        return sum(self.cell.parts.values())

    @property
    def known(self) -> bool:
        """Whether a saving may be told."""
        return not self.why

    def baseline(self, confidence: float = CONFIDENCE) -> Interval | None:
        """What everything would have cost on the baseline."""
        if self.counterfactual is None:
            return None
        beside = self.cell.reference_cost + self.cell.pinned_cost
        value, low, high = self.counterfactual.interval(confidence)
        return Interval(value + beside, low + beside, high + beside)

    def saving(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Nano-dollars."""
        found = self.baseline(confidence)
        if not self.known or found is None:
            return None
        return Interval(*(each - self.cost for each in found))

    def saving_share(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Of what the baseline would have cost."""
        found = self.baseline(confidence)
        if not self.known or found is None or found.low <= 0:
            return None
        return Interval(*(1.0 - self.cost / each for each in found))


@dataclass(frozen=True, slots=True)
class Report:
    """``rows``: strata by week, strata, pools by week, pools, everything; in this order."""

    rows: tuple[Row, ...]
    outside: Mapping[str, int]
    first_ms: int | None
    last_ms: int | None

    def of(self, *, pool: bool, stratum: bool, week: bool) -> list[Row]:
        """Rows that name these, and nothing else."""
        wanted = (pool, stratum, week)
        return [row for row in self.rows if tuple(name is not None for name in row.key) == wanted]
