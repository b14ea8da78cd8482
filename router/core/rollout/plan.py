"""How long a rollout will take in a stratum, if the pilot is as good as the reference: when each gate of each stage will clear, by what is looked at a day.

The days of a stage are the most of its least time and of what each metric needs until its half width (``gates.half_width``) fits:

    quality   v(t) = v(before) + t (1 / (b (1 - b) (1/R_p + 1/R_r)) + J^2 P / spread),  half width <= margin, from ``least`` observations on
    errors    e (1 - e) (1/n_p + 1/n_r),  half width <= error_increase;    latency   95 % +- half width within the data, 200 requests an arm
    saving    30 windows; how much less the pilot costs is not known before

R: reviews a day of an arm, drawn alike in all cohorts, so the pilot has its share of them; P: judged pairs a day. It is the time of the mean: half of all pilots
that are just as good take longer, and one that is worse, but within the margin, longer still.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from router.core.guard.detector import DAY_MS
from router.core.rollout.gates import LEAST_REQUESTS, LEAST_WINDOWS, Goals, half_width
from router.core.rollout.ladder import Plan

#: Usual share of bad answers and of errors, and mean square of a verdict, where nothing is known.
BAD: Final = 0.08
ERRORS: Final = 0.01
SPREAD: Final = 0.3
_FOREVER: Final = 3650.0
_STEP: Final = 0.125


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a stratum brings a day: ``requests`` and ``reviews`` of all arms. Pairs are a share ``shadow`` of what is mirrored, ``most_pairs`` at most.

    ``holdout``: share 0..1; ``windows`` of metrics; ``bad``, ``errors``: the reference's shares.
    """

    requests: float
    reviews: float
    shadow: float = 0.0
    most_pairs: float = math.inf
    holdout: float = 0.02
    windows: float = 1440.0
    bad: float = BAD
    errors: float = ERRORS


@dataclass(frozen=True, slots=True)
class Stage:
    """``days`` at ``percent``, ``None``: for ever; ``waits``: the metric that takes longest, ``time`` if the least time does."""

    percent: float
    days: float | None
    waits: str


def planned(pace: Pace, plan: Plan) -> list[Stage]:
    """All stages but the last, where a stratum has arrived; ends with the first that never ends."""
    found: list[Stage] = []
    information = 0.0
    for percent in plan.stages[:-1]:
        share = (1.0 - pace.holdout) * percent / 100.0
        needs = {"time": plan.least_ms / DAY_MS, "quality": _quality(pace, share, plan.goals, information)}
        if percent > 0.0:
            needs |= _of_traffic(pace, share, plan.goals)
        waits = max(needs, key=lambda name: needs[name])
        days = needs[waits]
        if days >= _FOREVER:
            return [*found, Stage(percent, None, waits)]
        found.append(Stage(percent, days, waits))
        information += days * _information(pace, share, plan.goals)
    return found


def days_of(stages: list[Stage]) -> float | None:
    """Until 100 %; ``None``: never."""
    return None if any(stage.days is None for stage in stages) else sum(stage.days or 0.0 for stage in stages)


def _information(pace: Pace, share: float, goals: Goals) -> float:
    """A day, about the difference in quality."""
    pilot, reference = pace.reviews * share, pace.reviews * (1.0 - share)
    of_reviews = 1.0 / (pace.bad * (1 - pace.bad) * (1 / pilot + 1 / reference)) if min(pilot, reference) > 0 else 0.0
    return of_reviews + goals.judge_power**2 * _pairs(pace, share) / SPREAD


def _pairs(pace: Pace, share: float) -> float:
    """A day: of the pilot's requests, or of all where there is no pilot."""
    return min(pace.shadow * pace.requests * (share if share > 0.0 else 1.0), pace.most_pairs)


def _quality(pace: Pace, share: float, goals: Goals, before: float) -> float:
    """Days until the half width is the margin."""
    a_day = _information(pace, share, goals)
    if before > 0.0 and _fits(1.0 / math.sqrt(before), goals.margin, goals):
        return 0.0
    if a_day <= 0.0:
        return _FOREVER
    arm = pace.reviews * min(share, 1.0 - share)
    first = [goals.least / arm if arm > 0.0 else _FOREVER]
    if (pairs := _pairs(pace, share)) > 0.0:
        first.append(2 * goals.least / pairs)
    days = 0.0 if before > 0.0 else min(first)
    while days < _FOREVER and not _fits(1.0 / math.sqrt(before + max(days, _STEP) * a_day), goals.margin, goals):
        days = max(days, _STEP) * 1.02
    return days


def _of_traffic(pace: Pace, share: float, goals: Goals) -> dict[str, float]:
    arms = (pace.requests * share, pace.requests * (1.0 - share))
    if min(arms) <= 0.0:
        return {"errors": _FOREVER}
    each = 1.0 / arms[0] + 1.0 / arms[1]
    least = LEAST_REQUESTS / min(arms)
    found = {}
    if goals.min_saving is not None:
        found["saving"] = (LEAST_WINDOWS + 2) / min(pace.windows, *arms)
    if goals.error_increase is not None:
        spread = pace.errors * (1 - pace.errors) * each
        found["errors"] = max(least, _days(spread, goals.error_increase, goals))
    if goals.latency_ratio is not None:
        found["latency"] = max(least, _days(0.95 * 0.05 * each, 0.03, goals))
    return found


def _days(variance: float, width: float, goals: Goals) -> float:
    """Until an estimate whose variance after a day is this fits."""
    days = _STEP
    while days < _FOREVER and not _fits(math.sqrt(variance / days), width, goals):
        days *= 1.02
    return days if days > _STEP else 0.0


def _fits(error: float, width: float, goals: Goals) -> bool:
    return half_width(error, width, goals.alpha) <= width
