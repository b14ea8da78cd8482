"""Exact counts and sums of one metric window and one set of dimensions; they merge by adding, in any order.

All numbers are integers: money in nano-dollars, feedback values in millionths (so that a mean does not depend on the
order of a sum), latencies in the buckets of ``core/quantiles``. Nothing here rounds.

| from | counts |
|---|---|
| result | requests, ok, errors by code, latency, surveys; the model that answered, or ``none`` |
| unique outcome | attempts (shadows apart), retries, fallbacks, hedges, escalations by reason, tokens, cost; the attempt's model |
| feedback | n, sum of values, repeats, by kind |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from router.contract.records import FeedbackCount, Latency, MetricWindow
from router.core import quantiles
from router.core.quantiles import Sketch

#: The integer sums of a metric window, by their names there.
SUMS = (
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
_AT = {name: position for position, name in enumerate(SUMS)}
_REQUESTS, _OK, _ATTEMPTS, _SHADOWS = _AT["requests"], _AT["ok"], _AT["attempts"], _AT["shadows"]
_PROMPT, _COMPLETION, _CACHED = _AT["prompt_tokens"], _AT["completion_tokens"], _AT["cached_tokens"]
_SHADOWS_OK, _SURVEYS = _AT["shadows_ok"], _AT["surveys"]
_COST, _BASELINE, _UNKNOWN = _AT["cost_nano_usd"], _AT["baseline_cost_nano_usd"], _AT["cost_unknown"]
_OF_REASON = {
    "retry": _AT["retries"],
    "fallback": _AT["fallbacks"],
    "hedge": _AT["hedges"],
    "escalate": _AT["escalations"],
    "judge": _AT["escalations"],  # what a cascade costs beyond its first call
}

#: Feedback values are summed in these.
MICRO = 1_000_000
#: JSON writers hold 64 bits. A sum beyond is nine billion dollars in a window: it stays here rather than end a process.
MAX_SUM = 2**63 - 1

NONE = "none"
OTHER = "other"


class Dimensions(NamedTuple):
    """What a metric window is about; ``none`` where something was never decided."""

    tenant: str
    pool: str
    model: str
    stratum: str
    cohort: str
    lane: str

    def key(self) -> str:
        """The record key in ``metrics``."""
        return "/".join(self)


@dataclass(slots=True)
class Counts:
    """One row, or a part of one. Mutable: it is added to in place.

    ``sums`` in the order of ``SUMS``; ``errors`` by code; ``latency`` a sketch of milliseconds; ``feedback`` by kind
    ``[n, sum of values in millionths, repeats]``.
    """

    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    errors: dict[str, int] = field(default_factory=dict)
    latency: Sketch = field(default_factory=dict)
    feedback: dict[str, list[int]] = field(default_factory=dict)

    def add_result(self, error_code: str | None, latency_ms: int, *, asks: bool = False) -> None:
        """Count one result: ``error_code`` is ``None`` for an answer; ``asks``: it has a survey."""
        self.sums[_REQUESTS] += 1
        self.sums[_SURVEYS] += asks
        if error_code is None:
            self.sums[_OK] += 1
        else:
            self.errors[error_code] = self.errors.get(error_code, 0) + 1
        quantiles.add(self.latency, latency_ms)

    def add_attempt(
        self,
        *,
        reason: str,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        cost_nano_usd: int | None,
        baseline_cost_nano_usd: int,
        beside: bool = False,
        in_time: bool = True,
    ) -> None:
        """Count one unique outcome; a shadow one counts in ``shadows`` instead of ``attempts``.

        ``beside``: it came after the result, of cohort ``shadow``; so a judge is none of a cascade's. ``in_time``: it is an answer, and not late.
        """
        sums = self.sums
        sums[_SHADOWS if reason == "shadow" else _ATTEMPTS] += 1
        if reason == "shadow":
            sums[_SHADOWS_OK] += in_time
        if not beside and (again := _OF_REASON.get(reason)) is not None:
            sums[again] += 1
        sums[_PROMPT] += prompt_tokens
        sums[_COMPLETION] += completion_tokens
        sums[_CACHED] += cached_tokens
        sums[_BASELINE] += baseline_cost_nano_usd
        if cost_nano_usd is None:
            sums[_UNKNOWN] += 1
        else:
            sums[_COST] += cost_nano_usd

    def add_feedback(self, kind: str, value: float, *, repeat: bool) -> None:
        """Count one feedback; a repeat counts as such and moves no mean."""
        of_kind = self.feedback.setdefault(kind, [0, 0, 0])
        if repeat:
            of_kind[2] += 1
        else:
            of_kind[0] += 1
            of_kind[1] += round(value * MICRO)

    def of(self, name: str) -> int:
        """A sum by its name in ``SUMS``."""
        return self.sums[_AT[name]]

    def merge(self, other: Counts) -> None:
        """Add ``other`` to this."""
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        quantiles.merge(self.latency, other.latency)
        for kind, theirs in other.feedback.items():
            mine = self.feedback.get(kind)
            self.feedback[kind] = [*theirs] if mine is None else [a + b for a, b in zip(mine, theirs, strict=True)]

    def to_json(self) -> list[Any]:
        """Compact and complete: ``[sums, errors, latency, feedback]``."""
        sums = self.sums if max(self.sums) <= MAX_SUM else [min(number, MAX_SUM) for number in self.sums]
        return [sums, self.errors, quantiles.to_json(self.latency), self.feedback]

    @classmethod
    def from_json(cls, value: list[Any]) -> Counts:
        """The inverse of ``to_json``. An earlier release had fewer sums; those that a later one has beyond are passed over."""
        sums, errors, latency, feedback, *_ = value
        return cls(
            sums=[*sums[: len(SUMS)], *[0] * (len(SUMS) - len(sums))],
            errors=errors,
            latency=quantiles.from_json(latency),
            feedback={kind: counts[:3] for kind, counts in feedback.items()},
        )


def metric_window(dimensions: Dimensions, counts: Counts, *, start: str, window_s: int, final: bool) -> MetricWindow:
    """The record of ``llm.metrics``. ``start``: RFC 3339. Quantiles are within 1 %, rounded to a tenth of a millisecond."""
    sums: dict[str, Any] = dict(zip(SUMS, (min(number, MAX_SUM) for number in counts.sums), strict=True))
    p50, p95, p99 = (None if q is None else round(q, 1) for q in quantiles.quantiles(counts.latency, (0.5, 0.95, 0.99)))
    return MetricWindow(
        window_start=start,
        window_s=window_s,
        final=final,
        **dimensions._asdict(),
        **sums,
        errors=counts.errors,
        latency_ms=Latency(p50=p50, p95=p95, p99=p99),
        feedback={
            kind: FeedbackCount(n=n, mean=min(1.0, total / MICRO / n) if n else None, repeats=repeats)
            for kind, (n, total, repeats) in counts.feedback.items()
        },
    )


class Admission:
    """At most ``max_rows`` sets of dimensions a window; what comes beyond shares rows with others.

    Full rows go to the first dimensions seen. When only a tenth of the room is left, new ones count under tenant
    ``other``; when only a twentieth, also under stratum ``other``. What then remains (pools x models x cohorts x lanes
    that are really used together) is bounded by the configuration, and is always admitted: nothing is left uncounted.
    """

    def __init__(self, max_rows: int, admitted: Iterable[tuple[int, Dimensions]] = ()) -> None:
        self._tiers = (max_rows - max_rows // 10, max_rows - max_rows // 20)
        self.windows: dict[int, set[Dimensions]] = {}
        for start_ms, dimensions in admitted:
            self.windows.setdefault(start_ms, set()).add(dimensions)

    def admit(self, start_ms: int, dimensions: Dimensions) -> tuple[Dimensions, bool]:
        """The dimensions under which to count, and whether their row is new in this window."""
        rows = self.windows.setdefault(start_ms, set())
        if dimensions in rows:
            return dimensions, False
        if len(rows) >= self._tiers[0]:
            dimensions = dimensions._replace(tenant=OTHER)
            if len(rows) >= self._tiers[1] and dimensions not in rows:
                dimensions = dimensions._replace(stratum=OTHER)
            if dimensions in rows:
                return dimensions, False
        rows.add(dimensions)
        return dimensions, True

    def close(self, to_ms: int, size_ms: int) -> list[tuple[int, Dimensions]]:
        """Forget the windows that end by ``to_ms``; returns what had been admitted in them."""
        ended = [start_ms for start_ms in self.windows if start_ms + size_ms <= to_ms]
        return [(start_ms, dimensions) for start_ms in ended for dimensions in self.windows.pop(start_ms)]
