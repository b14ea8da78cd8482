"""One word for the whole, why, and the one safe thing to do next: pure, from the figures of ``status``.

| state | means |
|---|---|
| ``failing`` | requests are lost, stand still, or fail for the most part: wake somebody |
| ``degraded`` | the system copes, but not as it should |
| ``ok`` | nothing to do; notes may say what is unusual |
| ``unknown`` | nothing is known: no broker was ever reached |

An action is proposed only where it cannot make things worse: starting a stage again, or taking a sick model out of a
pool that has another one left.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from router.contract.orders import ROLLOUT
from router.web.lanes import Row
from router.web.sums import Sums
from router.web.view import View

Severity = Literal["failing", "degraded", "note"]
ORDER: tuple[Severity, ...] = ("failing", "degraded", "note")

#: Silence of the broker that counts as its absence; longer than any election or pause we have seen.
BROKER_S = 5.0
#: Records wait and nothing is committed: a stage commits each turn, so this is no slow stage.
STUCK_S = 30.0
#: Batch work may be held back on purpose, calls may take their time.
PATIENT_S = 120.0
RECENT_MS = 300_000
#: Shares of failed results mean nothing below so many.
MIN_RESULTS = 20
FAILING_SHARE = 0.5
DEGRADED_SHARE = 0.05
OLD_S = 120.0
#: Strata that a reason names.
MOST_NAMED = 5

BY = '--by "${USER:-me}"'


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason of a verdict; ``action`` is a command ready to paste."""

    severity: Severity
    what: str
    action: str | None = None


def findings(view: View, rows: list[Row], now_ms: int) -> list[Finding]:
    """All that is worth a word, worst first."""
    found = [
        *_broker(view, now_ms),
        *_requests(view, now_ms),
        *_stages(rows, view.setup.call_s),
        *_models(view, now_ms),
        *_alerts(view),
        *_blind(view),
        *_notes(view, now_ms),
    ]
    return sorted(found, key=lambda finding: ORDER.index(finding.severity))


def state_of(found: list[Finding], view: View) -> str:
    """The verdict's word."""
    if not view.confirmed_ms:
        return "unknown"
    return next((finding.severity for finding in found if finding.severity != "note"), "ok")


def next_action(found: list[Finding]) -> str | None:
    """The command of the worst finding that has one."""
    return next((finding.action for finding in found if finding.action), None)


def _broker(view: View, now_ms: int) -> Iterator[Finding]:
    if not view.confirmed_ms:
        yield Finding("degraded", f"no answer yet from the broker {view.setup.broker}")
    elif (silent_s := (now_ms - max(view.confirmed_ms.values())) / 1000) > BROKER_S:
        yield Finding(
            "failing",
            f"broker {view.setup.broker} has not answered for {silent_s:.0f} s; figures are from then",
        )


def _requests(view: View, now_ms: int) -> Iterator[Finding]:
    lost = sum(load.overdue for load in view.loads.values())
    doubled = sum(load.doubled for load in view.loads.values())
    if lost:
        yield Finding("failing", f"requests lost (past deadline + 10 s without a result): {lost}")
    if doubled:
        yield Finding("failing", f"results doubled: {doubled}")
    recent = view.windows.since(now_ms - RECENT_MS)
    if (share := _failed_share(recent)) >= DEGRADED_SHARE:
        worst = ", ".join(f"{code} {count}" for code, count in recent.errors.most_common(3))
        yield Finding(
            "failing" if share >= FAILING_SHARE else "degraded",
            f"{share:.0%} of {recent.counts['requests']} results of the last 5 minutes failed ({worst})",
        )
    if unknown := recent.counts["cost_unknown"]:
        yield Finding(
            "degraded", f"{unknown} calls of the last 5 minutes have no known price", "pointsman config check"
        )
    oldest_ms = [load.oldest_at_ms["interactive"] for load in view.loads.values() if "interactive" in load.oldest_at_ms]
    if oldest_ms and (age_s := (now_ms - min(oldest_ms)) / 1000) > OLD_S:
        yield Finding("degraded", f"the oldest unfinished interactive request is {age_s:.0f} s old")


def _failed_share(recent: Sums) -> float:
    results = recent.counts["requests"]
    return (results - recent.counts["ok"]) / results if results >= MIN_RESULTS else 0.0


def _stages(rows: list[Row], call_s: float) -> Iterator[Finding]:
    for row in rows:
        if row.stuck_s is None:
            continue
        patient = row.lane == "batch" or row.model is not None
        if row.stuck_s < (max(PATIENT_S, call_s + STUCK_S) if patient else STUCK_S):
            continue
        if row.seen:
            what = f"{row.title} stands still: {row.lag} records wait, no commit for {row.stuck_s:.0f} s"
        else:
            what = f"{row.title} is not running: {row.lag} records wait, nobody has ever read them"
        yield Finding("degraded" if row.lane == "batch" else "failing", what, row.start_command)


def _models(view: View, now_ms: int) -> Iterator[Finding]:
    out = {
        order.record.scope.removeprefix("model:")
        for order in view.standing(now_ms)
        if order.record.scope.startswith("model:") and order.record.action in {"ban", "drain"}
    }
    down = {name for name, health in view.health.items() if health.record.state == "down"}
    for pool, models in view.setup.pools.items():
        if models and not set(models) - down - out:
            yield Finding("failing", f"pool {pool} has no model left: all are down, banned or drained")
    for name, health in view.health.items():
        state, why = health.record.state, health.record.reason
        if state == "up" or name in out:
            continue
        pools = [models for models in view.setup.pools.values() if name in models]
        spare = bool(pools) and all(set(models) - down - out - {name} for models in pools)
        action = (
            f"pointsman drain model:{name} {BY} --reason {shlex.quote(why)}" if spare and state != "probing" else None
        )
        yield Finding("degraded", f"model {name} is {state}: {why}", action)


def _alerts(view: View) -> Iterator[Finding]:
    for at in view.alerts.values():
        alert = at.record
        where = "/".join(part for part in (alert.pool, alert.stratum, alert.model) if part) or "all"
        severity: Severity = "failing" if alert.severity == "page" and alert.state == "open" else "degraded"
        yield Finding(severity, f"alert {alert.signal} on {where}", alert.action.command)


def _blind(view: View) -> Iterator[Finding]:
    for pool, at in sorted(view.sights.items()):
        blind = [one.stratum for one in at.record.strata if one.blind]
        if not blind:
            continue
        more = f" and {len(blind) - MOST_NAMED} more" if len(blind) > MOST_NAMED else ""
        yield Finding(
            "note",
            f"blind, not well: a drop of {at.record.margin:.0%} would go unseen for more than a week in"
            f" {', '.join(f'{pool}/{name}' for name in blind[:MOST_NAMED])}{more}",
            f"pointsman guard power --pool {shlex.quote(pool)}",
        )


def _notes(view: View, now_ms: int) -> Iterator[Finding]:
    if standing := [order for order in view.standing(now_ms) if order.record.by != ROLLOUT]:
        yield Finding("note", f"standing orders in force: {len(standing)}")
    if dead := sum(sum(minute.values()) for minute in view.dead.values()):
        yield Finding("note", f"dead letters in the last hour: {dead}")
    if view.unreadable:
        yield Finding("note", f"records of our own topics that could not be read: {view.unreadable}")
