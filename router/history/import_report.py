"""What past logs say, as one JSON document: money in whole nano-dollars, shares 0..1.

A saving never stands alone: beside it is the expected change of quality, or that it is unknown. What the classifier does not know of a
call (no prompt in the log) stays on the baseline in every plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.contract.times import to_rfc3339
from router.core.hindsight import Plan
from router.core.quantiles import Sketch, quantiles
from router.history.import_lines import Count, Fault
from router.history.import_read import Reading, refused
from router.history.import_sums import NO_STRATUM, Judged, Paired, Slice, Sums


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What figures rest on. ``knows``: models of the pool that the classifier has ``p_ok`` of; ``card``: of the classifier."""

    config: str
    pool: str
    margin: float
    holdout_percent: float
    classifier: str
    knows: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)


def document(reading: Reading, sums: Sums, about: About) -> dict[str, Any]:
    """The report."""
    said = sums.pool.baseline in about.knows and len(about.knows) > 1
    refusals, left_out = refused(reading.faults)
    return {
        "files": reading.names,
        "lines": {"read": reading.read, "refused": refusals, "left_out": left_out},
        "calls": sums.calls,
        "faults": [_fault(fault, count, reading.names) for fault, count in _in_order(reading)],
        "from": None if sums.from_ms is None else to_rfc3339(sums.from_ms),
        "to": None if sums.to_ms is None else to_rfc3339(sums.to_ms),
        "config": about.config,
        "pool": about.pool,
        "baseline": sums.pool.baseline,
        "models": [
            {
                "logged_as": name,
                "model": one.asks or None,
                "calls": one.calls,
                "prompt_tokens": one.prompt_tokens,
                "completion_tokens": one.completion_tokens,
                "logged_calls": one.logged_calls,
                "logged_nano_usd": one.logged if one.logged_calls else None,
                "by_price_calls": one.by_price_calls,
                "by_price_nano_usd": one.by_price if one.by_price_calls else None,
            }
            for name, one in sorted(sums.models.items(), key=lambda item: (-item[1].calls, item[0]))
        ],
        "as_logged": _paired(sums.logged),
        "by_price": _paired(sums.by_price),
        "all": _slice(sums.all, sums, said=said),
        "strata": [
            {"stratum": None if name == NO_STRATUM else name} | _slice(one, sums, said=said)
            for name, one in sorted(sums.strata.items(), key=lambda item: (item[0] == NO_STRATUM, item[0]))
        ],
        "quality": _quality(sums, about, said=said),
    }


def _in_order(reading: Reading) -> list[tuple[Fault, Count]]:
    return sorted(reading.faults.items(), key=lambda item: list(Fault).index(item[0]))


def _fault(fault: Fault, count: Count, names: list[str]) -> dict[str, Any]:
    return {
        "fault": fault.name.lower(),
        "what": fault.value,
        "sort": fault.sort.value,
        "count": count.count,
        "first": f"{names[count.first.file]}:{count.first.line}",
        "detail": count.detail or None,
    }


def _paired(one: Paired) -> dict[str, Any] | None:
    """What calls cost, and the same calls on the baseline."""
    if not one.calls:
        return None
    return {"calls": one.calls, "nano_usd": one.cost_nano_usd, "baseline_nano_usd": one.baseline_nano_usd}


def _slice(one: Slice, sums: Sums, *, said: bool) -> dict[str, Any]:
    baseline = one.on[sums.pool.baseline].cost_nano_usd if one.on else None
    return {
        "calls": one.calls,
        "counted": one.counted,
        "prompt_tokens": _lengths(one.prompt_tokens),
        "completion_tokens": _lengths(one.completion_tokens),
        "on": {name: _plan(plan, baseline, one.known if said else 0) for name, plan in one.on.items()},
        "bound": None if baseline is None else _plan(one.least, baseline, one.known if said else 0),
        "plans": [
            {"margin": margin} | _plan(plan, baseline, one.counted if one.known else 0)
            for margin, plan in one.plans.items()
            if said
        ],
    }


def _lengths(sketch: Sketch) -> dict[str, int] | None:
    if not sketch:
        return None
    median, p95 = (round(value or 0.0) for value in quantiles(sketch, (0.5, 0.95)))
    return {"p50": median, "p95": p95}


def _plan(plan: Plan, baseline: int | None, known: int) -> dict[str, Any]:
    """``known``: calls that the change of quality is the mean over."""
    saved = 0 if baseline is None else baseline - plan.cost_nano_usd
    return {
        "nano_usd": plan.cost_nano_usd,
        "saved_nano_usd": saved,
        "saved_share": round(saved / baseline, 6) if baseline else 0.0,
        "moved": plan.moved,
        "quality_change": round(plan.gain / known, 6) if known else None,
    }


def _quality(sums: Sums, about: About, *, said: bool) -> dict[str, Any]:
    return {
        "known": said,
        "classifier": about.classifier,
        "knows": list(about.knows),
        "margin": about.margin,
        "holdout_percent": about.holdout_percent,
        "fitted_rows": about.card.get("rows"),
        "calibration_error": _errors(about),
        "judged": {name: _judged(one) for name, one in sorted(sums.judged.items())},
    }


def _errors(about: About) -> dict[str, float]:
    """As the card tells them; a card may say anything."""
    found: Any = about.card
    for name in ("held_out", "ece"):
        found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    values = {name: one.get("value") for name in about.knows if isinstance(one := found.get(name), Mapping)}
    return {name: value for name, value in values.items() if isinstance(value, float)}


def _judged(one: Judged) -> dict[str, Any]:
    known = one.p_ok_calls
    return {
        "calls": one.calls,
        "quality": round(one.quality / one.calls, 6),
        "with_p_ok": known,
        "p_ok": round(one.p_ok / known, 6) if known else None,
        "quality_there": round(one.quality_where_p_ok / known, 6) if known else None,
    }
