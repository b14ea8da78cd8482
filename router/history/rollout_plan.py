"""What the strata of a pool bring a day, by the metric windows that are kept or by what somebody expects: what ``core/rollout/plan`` reckons with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from router.config import PoolConfig
from router.contract.codec import from_rfc3339
from router.contract.records import MetricWindow
from router.contract.topics import DAY_MS
from router.core.rollout.plan import BAD, ERRORS, Pace

_COMPARED = frozenset({"pilot", "holdout", "control"})
#: Reviews and requests that the usual shares count for.
_PRIOR_REVIEWS, _PRIOR_REQUESTS = 15, 100


def paces(windows: Iterable[MetricWindow], config: PoolConfig) -> tuple[float, dict[str, Pace]]:
    """Days that the windows cover, and each stratum's pace. Reviews are the larger of what there was and of its part of ``reviews_per_day``."""
    of: defaultdict[str, list[MetricWindow]] = defaultdict(list)
    for window in windows:
        if window.cohort in _COMPARED and window.stratum not in {"none", "other"}:
            of[window.stratum].append(window)
    if not of:
        return 0.0, {}
    starts = [(from_rfc3339(one.window_start), one.window_s * 1000) for found in of.values() for one in found]
    days = (max(start + size for start, size in starts) - min(start for start, _ in starts)) / DAY_MS
    whole = sum(one.requests for found in of.values() for one in found)
    return days, {stratum: _pace(found, days, whole, len(of), config) for stratum, found in sorted(of.items())}


def expected(requests: float, strata: int, config: PoolConfig) -> Pace:
    """Of each of so many equal strata, with so many requests a day in all."""
    return Pace(
        requests=requests / strata,
        reviews=config.reviews_per_day / strata,
        shadow=_shadow(config),
        holdout=float(config.holdout_percent) / 100.0,
    )


def _pace(found: list[MetricWindow], days: float, whole: int, strata: int, config: PoolConfig) -> Pace:
    requests, failed = sum(one.requests for one in found), sum(one.requests - one.ok for one in found)
    said = [one.feedback["review"] for one in found if "review" in one.feedback]
    reviews, bad = sum(one.n for one in said), sum(one.n * (1.0 - (one.mean or 0.0)) for one in said)
    dear = sum(one.baseline_cost_nano_usd for one in found) / max(1, requests)
    most = config.shadow_nano_usd_per_day
    return Pace(
        requests=requests / days,
        reviews=max(reviews / days, config.reviews_per_day / strata),
        shadow=_shadow(config),
        most_pairs=most / dear * requests / max(1, whole) if most is not None and dear > 0 else math.inf,
        holdout=float(config.holdout_percent) / 100.0,
        windows=DAY_MS / 1000 / found[0].window_s,
        bad=(bad + _PRIOR_REVIEWS * BAD) / (reviews + _PRIOR_REVIEWS),
        errors=(failed + _PRIOR_REQUESTS * ERRORS) / (requests + _PRIOR_REQUESTS),
    )


def _shadow(config: PoolConfig) -> float:
    """Share of what is mirrored that a judge looks at."""
    return float(config.shadow_percent) / 100.0 if config.judge is not None else 0.0
