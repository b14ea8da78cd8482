"""What an alert of drift says: which classes, by how much against which limit, over how many requests; and what to look at next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import xxhash

from router.contract.records import Alert, AlertAction, Reference
from router.contract.times import to_rfc3339
from router.core.guard.drift import Drift, Judged, Shift

_WHAT: Final = {
    "confidence_drift": "the classifier's confidence in {model} is spread otherwise than over the rows that it was fitted to",
    "off_centroid": "more requests than usual are far from the rows that the classifier was fitted to",
}


def record_of(drift: Drift, signal: str, *, pool: str, scale: int, now_ms: int) -> Alert:
    """An open one, of the classes that show ``signal``, at least one. ``scale``: how much faster than the clock the times of ``drift`` go.

    Its id depends on pool, signal, classifier and beginning only: made again it is the same.
    """
    speaking = drift.speaking(signal)
    worst, first = next((name, one.shift) for name, one in speaking.items())
    version, _, model = drift.version.partition("/")
    since_ms = min(one.since_ms for one in speaking.values()) // scale
    n = sum(one.shift.n for one in speaking.values())
    what = _WHAT[signal].format(model=model)
    name = f"drift\0{pool}\0{signal}\0{since_ms}\0{drift.version}"
    return Alert(
        id=xxhash.xxh3_128_hexdigest(name.encode()),
        state="open",
        severity="watch",
        pool=pool,
        stratum=None,
        signal=signal,
        model=None,
        effect=None,
        reference=Reference(
            kind="rows that the classifier was fitted to", n=sum(one.shift.rows for one in speaking.values())
        ),
        since=to_rfc3339(since_ms),
        evidence={
            "summary": f"{what}: {', '.join(speaking)}; most in {worst}, {_size(first, signal)}, by {first.n:,} requests",
            "classifier": version,
            "classes": {name: _evidence(one, scale) for name, one in speaking.items()},
        },
        traffic_share=round(n / sum(one.shift.n for one in drift.judged.values()), 4),
        money=None,
        action=AlertAction(
            proposed="judge the classifier on answers to requests of these days, and fit it anew where it is wrong; no traffic was moved",
            command="pointsman evaluate ROWS.jsonl --model CLASSIFIER.npz",
        ),
        at=to_rfc3339(now_ms),
    )


def _size(shift: Shift, signal: str) -> str:
    if signal == "off_centroid":
        return f"{shift.off:.0%} of them (limit {shift.off_limit:.0%})"
    return f"PSI {shift.psi:.2f} (limit {shift.psi_limit:.2f}) and KS {shift.ks:.2f} (limit {shift.ks_limit:.2f})"


def _evidence(one: Judged, scale: int) -> dict[str, Any]:
    numbers = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(one.shift).items()
    }
    return numbers | {"from": to_rfc3339(one.since_ms // scale), "to": to_rfc3339(one.until_ms // scale)}
