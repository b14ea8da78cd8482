"""Records as the stages write them, with what a test says different."""

from __future__ import annotations

from typing import Any

from router.contract.records import (
    Control,
    DeadLetter,
    ErrorInfo,
    FeedbackCount,
    Health,
    Latency,
    MetricWindow,
    Weights,
)
from router.contract.times import to_rfc3339
from router.core.records import Sight, Stratum
from router.web.lag import Track
from router.web.view import Setup, View

#: A full minute, so that windows begin here.
NOW_MS = 1_764_000_000_000
MINUTE_MS = 60_000

SETUP = Setup(
    broker="127.0.0.1:9092",
    models=("small", "large"),
    pools={"auto": ("small", "large")},
    baselines={"auto": "large"},
)


def window(start_ms: int = NOW_MS - MINUTE_MS, **changed: Any) -> MetricWindow:
    """One row: 10 results of model ``small``, all ok, unless told otherwise."""
    feedback = {
        kind: FeedbackCount(n=n, mean=mean, repeats=0) for kind, (n, mean) in changed.pop("feedback", {}).items()
    }
    row: dict[str, Any] = {
        "window_start": to_rfc3339(start_ms),
        "window_s": 60,
        "final": True,
        "tenant": "acme",
        "pool": "auto",
        "model": "small",
        "stratum": "math/hard",
        "cohort": "pilot",
        "lane": "interactive",
        "requests": 10,
        "ok": 10,
        "errors": {},
        "attempts": 10,
        "retries": 0,
        "fallbacks": 0,
        "hedges": 0,
        "escalations": 0,
        "shadows": 0,
        "prompt_tokens": 1000,
        "completion_tokens": 500,
        "cached_tokens": 0,
        "cost_nano_usd": 1_000_000,
        "baseline_cost_nano_usd": 9_000_000,
        "cost_unknown": 0,
        "latency_ms": Latency(p50=80.0, p95=120.0, p99=180.0),
        "feedback": feedback,
    }
    return MetricWindow(**(row | changed))


def health(model: str = "small", state: str = "down", reason: str = "error rate 1.0", **changed: Any) -> Health:
    row: dict[str, Any] = {
        "model": model,
        "state": state,
        "reason": reason,
        "error_rate": 0.0 if state == "up" else 1.0,
        "p95_ms": 120.0,
        "queue_wait_ms": None,
        "endpoints": {},
        "until": None,
        "at": to_rfc3339(NOW_MS),
    }
    return Health(**(row | changed))


def order(scope: str = "model:small", action: str = "drain", **changed: Any) -> Control:
    row: dict[str, Any] = {
        "scope": scope,
        "action": action,
        "args": {},
        "active": True,
        "by": "anna",
        "reason": "provider incident",
        "at": to_rfc3339(NOW_MS),
    }
    return Control(**(row | changed))


def weights(stratum: str = "math/hard") -> Weights:
    return Weights(
        pool="auto",
        stratum=stratum,
        weights={"small": 0.93, "large": 0.07},
        policy_version="thompson:12",
        evidence={"small": 40.0, "large": 8.0},
        at=to_rfc3339(NOW_MS),
    )


def dead_letter(code: str = "invalid_request", stage: str = "route") -> DeadLetter:
    return DeadLetter(
        reason=ErrorInfo(code=code, message="no custom_id"),
        stage=stage,
        topic="llm.requests",
        partition=0,
        offset=7,
        at=to_rfc3339(NOW_MS),
        key_base64=None,
        value_base64=None,
        value_bytes=0,
        truncated=False,
    )


def confirmed(view: View, at_ms: int = NOW_MS) -> View:
    """As if topics and groups had just been read to their ends."""
    view.confirmed_ms = {"topics": at_ms, "groups": at_ms}
    return view


def fresh_view(**setup: Any) -> View:
    """An empty view that has just been read."""
    return confirmed(View(setup=Setup(**setup) if setup else SETUP))


def track(view: View, group: str, topic: str, partition: int = 0, **looks: Any) -> Track:
    """A partition seen twice: ``since_ms`` ago and now, at the same ``committed`` and ``end``."""
    since_ms = looks.pop("since_ms", 0)
    found = view.tracks[(group, topic, partition)] = Track(NOW_MS - since_ms)
    for at_ms in (NOW_MS - since_ms, NOW_MS):
        found.look(at_ms, looks["committed"], looks.get("begin", 0), looks["end"])
    return found


def sight(blind: tuple[str, ...] = (), seen: tuple[str, ...] = ("chat/easy",)) -> Sight:
    """Of pool ``auto``; a stratum that is seen takes two days, a blind one can only be helped by reviews."""
    strata = [
        Stratum(
            stratum=name,
            blind=name in blind,
            days=None if name in blind else 2.0,
            reviews_for_one_day=120,
            pairs_for_one_day=None if name in blind else 300,
        )
        for name in sorted({*blind, *seen})
    ]
    return Sight(pool="auto", margin=0.1, strata=strata, at_ms=NOW_MS)
