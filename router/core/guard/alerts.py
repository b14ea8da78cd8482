"""An alert of the guard from opening to closing: opened once under one id, told again when it has news, closed when it is over.

| what happens | the alert |
|---|---|
| the unit's test alarms | is opened; or, if it is open, told again after ``TELL_EVERY_MS``, or at once where a ``watch`` becomes a ``page`` |
| a person acknowledges it | ``acknowledged``; it is told on, with that state |
| a person closes it | closed, and the unit's test begins anew |
| the unit was given back and released again | closed |
| nothing spoke for it any more for ``QUIET_MS`` | closed |
| a model answers under a new name | is no alarm: one record, closed from the start, for the timeline |

The evidence says in plain words what was seen: how many answers of each side, how many of them bad, since when, and
whose they probably are (``cause``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import xxhash

from router.contract.records import Alert, AlertAction, Effect, Money, Reference
from router.contract.times import to_rfc3339
from router.core.guard.cause import SIGNALS, Cause
from router.core.guard.detector import DAY_MS
from router.core.guard.grid import TESTS
from router.core.guard.monitor import Finding
from router.core.guard.slices import ALL
from router.core.guard.unit import Unit
from router.core.guard.versions import News
from router.core.records import NEW_NAME

TELL_EVERY_MS: Final = DAY_MS
#: An alert is over when its unit's M stayed below one for so long.
QUIET_MS: Final = 7 * DAY_MS

#: Characters of a provider's name that are shown.
_SHOWN: Final = 64

State = Literal["open", "acknowledged", "closed"]


@dataclass(slots=True)
class OpenAlert:
    """One that is not closed. ``ordered_ms``: when the guard gave its unit back, by the clock; ``quiet_since_ms``: since when nothing speaks for it."""

    id: str
    state: State
    severity: Literal["page", "watch"]
    signal: str
    since_ms: int
    opened_ms: int
    told_ms: int
    ordered_ms: int | None = None
    quiet_since_ms: int | None = None
    last: dict[str, Any] | None = None

    def dump(self) -> list[Any]:
        """JSON values."""
        return [
            self.id,
            self.state,
            self.severity,
            self.signal,
            self.since_ms,
            self.opened_ms,
            self.told_ms,
            self.ordered_ms,
            self.quiet_since_ms,
            self.last,
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """Of a unit, a day: requests of the pilot and of all, nano-dollars that the pilot saves, and what one bad answer costs."""

    pilot_requests: float
    requests: float
    pool_requests: float
    saving_nano_usd: float
    bad_answer_nano_usd: float


def opened(finding: Finding, pool: str) -> OpenAlert:
    """A new one. Its id depends on pool, unit and the moment only: made again it is the same."""
    name = f"guard\0{pool}\0{finding.unit}\0{finding.at_ms}"
    return OpenAlert(
        id=xxhash.xxh3_128_hexdigest(name.encode()),
        state="open",
        severity=finding.severity,
        signal=finding.signal,
        since_ms=finding.since_ms,
        opened_ms=finding.at_ms,
        told_ms=finding.at_ms,
    )


def record_of(alert: OpenAlert, finding: Finding, unit: Unit, stakes: Stakes, pool: str) -> Alert:
    """What is published of it now."""
    effect, scope, ordered = finding.effect, scope_of(pool, finding.unit), alert.ordered_ms is not None
    excess, cause = max(0.0, effect.value), cause_of(finding, unit)
    action = AlertAction(
        taken="its pilot traffic goes to the baseline" if ordered else None,
        proposed=None if ordered else "give its pilot traffic back to the baseline; the saving elsewhere stays",
        command=f"pointsman rollback {scope} --by YOU --reason WHY",
        undo=f"pointsman release {scope} rollback --by YOU --reason WHY",
    )
    return Alert(
        id=alert.id,
        state=alert.state,
        severity=alert.severity,
        pool=pool,
        stratum=finding.unit,
        signal=alert.signal,
        model=cause.model,
        effect=Effect(value=round(effect.value, 4), low=round(effect.low, 4), high=round(effect.high, 4)),
        reference=Reference(
            kind="the pilot's own past" if finding.signal == "past" else "concurrent baseline traffic",
            n=effect.reference,
        ),
        since=to_rfc3339(alert.since_ms),
        evidence=evidence(finding, unit)
        | {"cause": cause.why, "models": {one.model: one.as_evidence() for one in cause.shares}},
        traffic_share=round(min(1.0, stakes.requests / stakes.pool_requests), 4) if stakes.pool_requests else None,
        money=Money(
            at_risk_nano_usd_per_day=round(excess * stakes.pilot_requests * stakes.bad_answer_nano_usd),
            saving_nano_usd_per_day=max(0, round(stakes.saving_nano_usd)),
        ),
        action=action,
        at=to_rfc3339(finding.at_ms),
    )


def cause_of(finding: Finding, unit: Unit) -> Cause:
    """Whose answers are probably bad, by what was judged since it began."""
    judged = [unit.since(signal, finding.since_ms)[0] for signal in sorted(SIGNALS)]
    return unit.causes.cause(finding.since_ms, sum(one.n for one in judged), sum(one.bad for one in judged))


def evidence(finding: Finding, unit: Unit) -> dict[str, Any]:
    """What was seen since it began, in numbers and in a sentence."""
    found: dict[str, Any] = {}
    for signal in TESTS:
        reference, pilot = unit.since(signal, finding.since_ms)
        if reference.n or pilot.n:
            found[signal] = _counts(signal, reference.n, reference.bad, pilot.n, pilot.bad)
    requests = unit.since("requests", finding.since_ms)
    effect, than = finding.effect, "before" if finding.signal == "past" else "of the baseline's"
    return {
        "summary": (
            f"{100 * effect.value:.1f} points more of the pilot's answers are bad than {than}"
            f" ({100 * effect.low:.1f} to {100 * effect.high:.1f}), by {effect.pilot:,} and {effect.reference:,} judged"
        ),
        "signals": found,
        "requests": {"pilot": round(requests[1].n), "reference": round(requests[0].n)},
        "test": {"ln_m": round(finding.evidence, 2), "alarms_at": round(finding.threshold, 2)},
    }


def _counts(signal: str, n0: float, bad0: float, n1: float, bad1: float) -> dict[str, float]:
    if TESTS[signal] == "pairs":
        return {"pairs": round(n1), "worse_less_better": round(bad1, 1)}
    if TESTS[signal] == "events":
        return {"pilot": round(bad1, 1), "reference": round(bad0, 1)}
    return {
        "pilot_judged": round(n1),
        "pilot_bad": round(bad1, 1),
        "reference_judged": round(n0),
        "reference_bad": round(bad0, 1),
    }


def scope_of(pool: str, unit: str) -> str:
    """The scope of control orders that gives a unit back: of all the pool, of a tenant's slice the tenant, else the stratum.

    >>> scope_of("auto", "math/hard"), scope_of("auto", "slice/tenant=acme")
    ('stratum:auto/math/hard', 'tenant:acme')
    """
    if unit == ALL:
        return f"pool:{pool}"
    tenant = unit.removeprefix("slice/tenant=")
    return f"tenant:{tenant}" if tenant != unit else f"stratum:{pool}/{unit}"


def of_news(news: News, pool: str) -> Alert:
    """That a model answers under a new name: closed as soon as it is told, for nobody has to do anything."""
    seen = f"{news.model} answers as {_readable(news.name)}, never heard before; until now as {_readable(news.before)}"
    at = to_rfc3339(news.at_ms)
    return Alert(
        id=xxhash.xxh3_128_hexdigest(f"version\0{pool}\0{news.model}\0{news.name}\0{news.at_ms}".encode()),
        state="closed",
        severity="watch",
        pool=pool,
        stratum=None,
        signal=NEW_NAME,
        model=news.model,
        effect=None,
        reference=None,
        since=at,
        evidence={"summary": seen, "served_model": news.name, "before": news.before},
        traffic_share=None,
        money=None,
        action=AlertAction(taken="a further test began in every stratum"),
        at=at,
    )


def _readable(name: str) -> str:
    """A provider's word, short and without what would move a cursor."""
    return "".join(one if one.isprintable() else "?" for one in name[:_SHOWN]) + ("..." if len(name) > _SHOWN else "")


def load(values: list[Any]) -> OpenAlert:
    """The inverse of ``dump``."""
    return OpenAlert(*values)


def again(alert: OpenAlert, severity: Literal["page", "watch"], now_ms: int) -> bool:
    """Whether an open alert whose unit alarms again is to be told; it then has that severity."""
    worse = severity == "page" and alert.severity == "watch"
    if not worse and now_ms < alert.told_ms + TELL_EVERY_MS:
        return False
    alert.severity = "page" if worse else alert.severity
    alert.told_ms = now_ms
    return True


def is_over(alert: OpenAlert, evidence_now: float, now_ms: int) -> bool:
    """Whether nothing has spoken for it for long; called with ln M of its unit at each step."""
    if alert.ordered_ms is not None or evidence_now > 0.0:
        alert.quiet_since_ms = None
        return False
    if alert.quiet_since_ms is None:
        alert.quiet_since_ms = now_ms
    return now_ms >= alert.quiet_since_ms + QUIET_MS


def acknowledged(last: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """The record of an alert that somebody looks after."""
    return {**last, "state": "acknowledged", "at": to_rfc3339(now_ms)}


def closed(last: Mapping[str, Any], at_ms: int) -> dict[str, Any]:
    """The last record of an alert, closed."""
    return {**last, "state": "closed", "at": to_rfc3339(at_ms)}
