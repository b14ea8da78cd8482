"""What only the figures of a recorded stream may see: costs, hidden quality, and what the guard did about it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Final

from router.core.guard.alerts import QUIET_MS
from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Finding, Place
from router.core.guard.unit import Arm
from router.simulation.recorded import is_number, is_shadow

#: The true excess of a unit is a mean of its last so many requests.
TRUE_MEAN_OF: Final = 500
#: Of the traffic that was moved, this share must lie in the truly bad stratum.
RIGHT_SHARE: Final = 0.95


@dataclass(slots=True)
class Bill:
    """Of a stratum since the onset: requests and their cost. ``kept``: the pilot's that were not given back."""

    reference: list[float] = field(default_factory=lambda: [0.0, 0.0])
    pilot: list[float] = field(default_factory=lambda: [0.0, 0.0])
    kept: list[float] = field(default_factory=lambda: [0.0, 0.0])


class Ledger:
    """``truth``: the first line of the stream; ``margin`` 0..1."""

    def __init__(self, truth: dict[str, Any], margin: float) -> None:
        self._margin = margin
        stratum, onset_s = truth.get("stratum"), truth.get("onset_t_s")
        self.stratum: str | None = stratum if isinstance(stratum, str) else None
        self._onset_ms: float | None = onset_s * 1000 if is_number(onset_s) else None
        self._first_ms = self._last_ms = 0
        self._seen: set[str] = set()
        self._passes_ms: float | None = None
        self._lost: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=TRUE_MEAN_OF))
        self._bills: defaultdict[str, Bill] = defaultdict(Bill)
        self._shadow_cost = 0.0
        self._harmed = 0.0
        self._moved: Counter[str] = Counter()
        self._moved_lost: list[float] = [0.0, 0.0]
        self.findings: list[tuple[Finding, float | None]] = []
        self.baseline: list[tuple[int, str]] = []  # when, unit: the baseline is worse than it was
        self._baseline_ms = 0
        self.drift: list[tuple[int, str, str]] = []  # when, stratum, signal

    def begin(self, now_ms: int) -> None:
        """The first event."""
        self._first_ms = now_ms

    def end(self, now_ms: int) -> None:
        """The last one."""
        self._last_ms = now_ms

    def found(self, finding: Finding) -> None:
        """The guard alarms."""
        lost = self._lost.get(finding.unit)
        self.findings.append((finding, sum(lost) / len(lost) if lost else None))

    def baseline_is_worse(self, unit: str, now_ms: int) -> None:
        """What goes on is noted once."""
        if not self.baseline or now_ms > self._baseline_ms + QUIET_MS:
            self.baseline.append((now_ms, unit))
        self._baseline_ms = now_ms

    def add(self, event: dict[str, Any], arm: Arm | None, place: Place, fence: str | None, now_ms: int) -> None:
        """One event; ``fence``: the unit of it that was given back."""
        stratum, shadow = place.stratum, is_shadow(event)
        self._seen.add(stratum)
        cost = float(event["cost_nano_usd"]) if is_number(event.get("cost_nano_usd")) else 0.0
        counts = self._onset_ms is None or now_ms >= self._onset_ms
        bill = self._bills[stratum]
        if shadow and counts:
            self._shadow_cost += cost
        if arm == "reference":
            _add(bill.reference, cost)
        if arm != "pilot" or shadow:
            return
        lost = _lost(event)
        if lost is not None:
            for unit in (stratum, *place.slices):
                self._lost[unit].append(lost)
            self._look(stratum, now_ms)
        if counts:
            _add(bill.pilot, cost)
        if fence is not None:
            self._moved[stratum] += 1
            _add(self._moved_lost, lost or 0.0)
        elif counts:
            _add(bill.kept, cost)
            self._harmed += (lost or 0.0) if stratum == self.stratum else 0.0

    def score(self) -> dict[str, Any]:
        """The figures of ``simulate``, of this stream."""
        days = max((self._last_ms - self._first_ms) / DAY_MS, 1e-9)
        pages = [(one, excess) for one, excess in self.findings if one.severity == "page"]
        onset_ms = self._onset_ms if self._onset_ms is not None else float("inf")
        right = [one for one, excess in pages if self._is_right(one, excess) and one.at_ms >= onset_ms]
        false = sum(not self._is_true(one, excess) for one, excess in pages)
        alarm = None
        if self.stratum is not None and right:
            passes_ms = self._passes_ms if self._passes_ms is not None else onset_ms
            alarm = round(max(0.0, (right[0].at_ms - passes_ms) / DAY_MS), 3)
        later = [(one, excess) for one, excess in pages if one.at_ms >= onset_ms]
        return {
            "seed": None,
            "days_to_alarm": alarm,
            "days_to_rollback": alarm,
            "right_stratum": self._right_stratum(later) if self.stratum is not None else None,
            "saving_kept": self._saving_kept(),
            "false_alarms_per_100_days": round(100 * false / days, 3),
            "requests_harmed": round(self._harmed),
            "first_alarm": later[0][0].unit if later else None,
            "pages": [[round((one.at_ms - self._first_ms) / DAY_MS, 2), one.unit, one.signal] for one, _ in pages],
            "watches": len(self.findings) - len(pages),
            "drift_watches": [
                [round((at_ms - self._first_ms) / DAY_MS, 2), stratum, signal] for at_ms, stratum, signal in self.drift
            ],
            "baseline_watches": [[round((at_ms - self._first_ms) / DAY_MS, 2), unit] for at_ms, unit in self.baseline],
        }

    def _look(self, stratum: str, now_ms: int) -> None:
        """Note when the bad stratum first passes the margin."""
        lost = self._lost[stratum]
        if stratum != self.stratum or self._passes_ms is not None or len(lost) < TRUE_MEAN_OF:
            return
        if self._onset_ms is not None and now_ms >= self._onset_ms and sum(lost) / len(lost) > self._margin:
            self._passes_ms = float(now_ms)

    def _is_right(self, finding: Finding, excess: float | None) -> bool:
        """It names the bad stratum; a slice is right where the truth is no stratum of the stream, and the slice is bad."""
        if finding.unit == self.stratum:
            return True
        return self.stratum not in self._seen and finding.is_slice and (excess is None or excess > self._margin / 2)

    def _is_true(self, finding: Finding, excess: float | None) -> bool:
        """Its unit was worse then; where quality is not recorded: it is the bad stratum, after the onset."""
        if excess is not None:
            return excess > 0.0
        return finding.unit == self.stratum and self._onset_ms is not None and finding.at_ms >= self._onset_ms

    def _right_stratum(self, pages: list[tuple[Finding, float | None]]) -> bool:
        if not pages or not self._is_right(*pages[0]):
            return False
        moved = self._moved.total()
        if self.stratum in self._seen:
            return not moved or self._moved[self.stratum] / moved >= RIGHT_SHARE
        return not moved or self._moved_lost[1] / moved > self._margin / 2

    def _saving_kept(self) -> float | None:
        """Saving with the guard over saving without it, since the onset; a reference call costs what it costs in the stratum."""
        total = [sum(bill.reference[i] for bill in self._bills.values()) for i in (0, 1)]
        if not total[0]:
            return None
        guarded = unguarded = 0.0
        for bill in self._bills.values():
            n, cost = bill.reference if bill.reference[0] >= 30 else total
            price = cost / n
            unguarded += bill.pilot[0] * price - bill.pilot[1]
            guarded += bill.kept[0] * price - bill.kept[1]
        return round((guarded - self._shadow_cost) / unguarded, 4) if unguarded > 0 else None


def _lost(event: dict[str, Any]) -> float | None:
    quality, reference = event.get("quality"), event.get("reference_quality")
    return float(reference) - float(quality) if is_number(quality) and is_number(reference) else None


def _add(sums: list[float], cost: float) -> None:
    sums[0] += 1
    sums[1] += cost
