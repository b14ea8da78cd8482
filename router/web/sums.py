"""Sums over metric windows, by window and slice, for one hour back.

Rules
- A row is final or the newest update of an open window. Final rows are added to the sums of their window and slice and
  forgotten; of open ones the newest is kept whole until its final row comes.
- Every figure is given twice: with open windows (``value``) and without (``final``). ``final`` can be checked against
  the topic: all rows with ``final`` true whose ``window_start`` lies in ``[from, to)``, each counted once.
- What is older than the span is dropped whole windows at a time, so memory is bounded by span x slices.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from router.contract.records import MetricWindow
from router.contract.times import from_rfc3339

#: pool, stratum, model
Slice = tuple[str, str, str]

COUNTS = (
    "requests",
    "ok",
    "attempts",
    "retries",
    "fallbacks",
    "hedges",
    "escalations",
    "shadows",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost_nano_usd",
    "baseline_cost_nano_usd",
    "cost_unknown",
    "shadows_ok",
    "surveys",
)
#: Of ``cost_nano_usd``: of cohort ``shadow``, second answers and their judging.
BESIDE = "beside_nano_usd"


@dataclass(slots=True)
class Opinion:
    """Feedback of one kind: how many were counted, the sum of their values (0..1 each), repeats that did not count."""

    n: int = 0
    total: float = 0.0
    repeats: int = 0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass(slots=True)
class Sums:
    """Counts of ``COUNTS`` and ``BESIDE`` by name, failed results by code, feedback by kind."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    feedback: dict[str, Opinion] = field(default_factory=dict)

    def add(self, row: MetricWindow) -> None:
        """Count a row in."""
        for name in COUNTS:
            self.counts[name] += getattr(row, name)
        if row.cohort == "shadow":
            self.counts[BESIDE] += row.cost_nano_usd
        self.errors.update(row.errors)
        for kind, count in row.feedback.items():
            self._opinion(kind, Opinion(count.n, (count.mean or 0.0) * count.n, count.repeats))

    def merge(self, other: Sums) -> None:
        """Add another's sums."""
        self.counts.update(other.counts)
        self.errors.update(other.errors)
        for kind, opinion in other.feedback.items():
            self._opinion(kind, opinion)

    def _opinion(self, kind: str, more: Opinion) -> None:
        mine = self.feedback.setdefault(kind, Opinion())
        mine.n += more.n
        mine.total += more.total
        mine.repeats += more.repeats


@dataclass(slots=True)
class _Window:
    length_ms: int
    final: defaultdict[Slice, Sums] = field(default_factory=lambda: defaultdict(Sums))
    open: dict[tuple[str, ...], MetricWindow] = field(default_factory=dict)


class Windows:
    """The metric windows of the last ``span_ms``."""

    def __init__(self, span_ms: int = 3_600_000) -> None:
        self._span_ms = span_ms
        self._windows: dict[int, _Window] = {}
        self._merged: dict[Slice, Sums] | None = (
            None  # of final rows: they change once a window, readers come each second
        )

    def add(self, row: MetricWindow) -> None:
        """Take one record of the metrics topic."""
        start_ms = from_rfc3339(row.window_start)
        window = self._windows.setdefault(start_ms, _Window(row.window_s * 1000))
        dimensions = (row.tenant, row.pool, row.model, row.stratum, row.cohort, row.lane)
        if row.final:
            window.open.pop(dimensions, None)
            window.final[(row.pool, row.stratum, row.model)].add(row)
            self._merged = None
        else:
            window.open[dimensions] = row

    def forget(self, now_ms: int) -> None:
        """Drop windows that began before the span."""
        for start_ms in [start_ms for start_ms in self._windows if start_ms < now_ms - self._span_ms]:
            del self._windows[start_ms]
            self._merged = None

    def covered(self) -> tuple[int, int] | None:
        """Start of the oldest and end of the newest window held, in ms; ``None`` without any."""
        if not self._windows:
            return None
        newest = max(self._windows)
        return min(self._windows), newest + self._windows[newest].length_ms

    def final_to_ms(self) -> int | None:
        """Start of the oldest window with a row that is not final, else the end of the newest; ``None`` without any."""
        covered = self.covered()
        return covered and min((start for start, window in self._windows.items() if window.open), default=covered[1])

    def final_slices(self) -> dict[Slice, Sums]:
        """Sums of final rows by slice; read only."""
        if self._merged is None:
            found: defaultdict[Slice, Sums] = defaultdict(Sums)
            for window in self._windows.values():
                for at, sums in window.final.items():
                    found[at].merge(sums)
            self._merged = dict(found)
        return self._merged

    def since(self, since_ms: int) -> Sums:
        """All of the windows that began at or after ``since_ms``, open ones too."""
        whole = Sums()
        for start_ms, window in self._windows.items():
            if start_ms >= since_ms:
                for sums in window.final.values():
                    whole.merge(sums)
                for row in window.open.values():
                    whole.add(row)
        return whole

    def open_slices(self) -> dict[Slice, Sums]:
        """Sums of the newest rows of open windows by slice."""
        found: defaultdict[Slice, Sums] = defaultdict(Sums)
        for window in self._windows.values():
            for row in window.open.values():
                found[(row.pool, row.stratum, row.model)].add(row)
        return dict(found)


def total(slices: dict[Slice, Sums]) -> Sums:
    """The sum over all slices."""
    whole = Sums()
    for sums in slices.values():
        whole.merge(sums)
    return whole
