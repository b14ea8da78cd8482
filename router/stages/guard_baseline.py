"""The alert that a pool's baseline is worse than it used to be (``core/guard/baseline``): one a pool, kept with the guard's row.

It names the baseline's model and what might be done; it orders nothing. Told again once a day, closed when nothing speaks for it any more, or by a person: then
what is now is usual, and the past begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
import xxhash

from router.contract.codec import to_rfc3339
from router.contract.records import Alert, AlertAction, Effect, Reference
from router.core.guard.alerts import OpenAlert, acknowledged, again, closed, is_over, load
from router.core.guard.baseline import Baseline, Worse
from router.kafka.unit import UnitLike

SIGNAL: Final = "baseline_past"


@dataclass(slots=True)
class BaselineWatch:
    """Of one pool. ``topic``: of alerts; ``scale``: how much faster than the clock the guard's time goes."""

    pool: str
    model: str
    topic: str
    scale: int
    unit_name: str = ""
    alert: OpenAlert | None = None

    def step(self, baseline: Baseline, now_ms: int, unit: UnitLike) -> None:
        """Once a minute: open, tell again, or close."""
        worse = baseline.worse(now_ms)
        if self.alert is None:
            if worse is not None:
                self.unit_name, self.alert = worse.unit, _opened(worse, self.pool)
                self._tell(worse, unit)
            return
        if worse is not None and worse.unit == self.unit_name and again(self.alert, "watch", now_ms):
            self._tell(worse, unit)
        if is_over(self.alert, baseline.evidence(self.unit_name), now_ms):
            self._close(unit)

    def heed(self, baseline: Baseline, said: Mapping[str, str], now_ms: int, unit: UnitLike) -> bool:
        """What a person said of it; whether something changed."""
        alert = self.alert
        act = None if alert is None else said.get(alert.id)
        if alert is None or alert.last is None:
            return False
        if act == "close":
            self._close(unit)
            baseline.restart(now_ms)
            return True
        if act == "acknowledge" and alert.state == "open":
            alert.state, alert.last = "acknowledged", acknowledged(alert.last, unit.now_ms)
            self._emit(alert.last, unit)
            return True
        return False

    def _tell(self, worse: Worse, unit: UnitLike) -> None:
        assert self.alert is not None
        self.alert.last = asdict(_record(self, self.alert, worse))
        self._emit(self.alert.last, unit)

    def _close(self, unit: UnitLike) -> None:
        if self.alert is not None and self.alert.last is not None:
            self._emit(closed(self.alert.last, unit.now_ms), unit)
        self.alert = None

    def _emit(self, record: Mapping[str, Any], unit: UnitLike) -> None:
        unit.emit(self.topic, f"{self.pool}/{self.unit_name}/{SIGNAL}".encode(), orjson.dumps(record))

    def dump(self) -> list[Any]:
        """JSON values."""
        return [self.unit_name, None if self.alert is None else self.alert.dump()]

    def load(self, found: list[Any] | None) -> None:
        """The inverse of ``dump``; of ``None``: nothing is open."""
        if found is not None:
            self.unit_name, self.alert = found[0], None if found[1] is None else load(found[1])


def _opened(worse: Worse, pool: str) -> OpenAlert:
    return OpenAlert(
        id=xxhash.xxh3_128_hexdigest(f"baseline\0{pool}\0{worse.unit}\0{worse.at_ms}".encode()),
        state="open",
        severity="watch",
        signal=SIGNAL,
        since_ms=worse.since_ms,
        opened_ms=worse.at_ms,
        told_ms=worse.at_ms,
    )


def _record(watch: BaselineWatch, alert: OpenAlert, worse: Worse) -> Alert:
    before, now, effect = worse.before, worse.now, worse.effect
    return Alert(
        id=alert.id,
        state=alert.state,
        severity="watch",
        pool=watch.pool,
        stratum=worse.unit,
        signal=SIGNAL,
        model=watch.model,
        effect=Effect(value=round(effect.value, 4), low=round(effect.low, 4), high=round(effect.high, 4)),
        reference=Reference(kind="the baseline's own past", n=effect.reference),
        since=to_rfc3339(alert.since_ms // watch.scale),
        evidence={
            "summary": (
                f"{100 * effect.value:.1f} points more of the answers of the baseline {watch.model} are bad than before"
                f" ({100 * effect.low:.1f} to {100 * effect.high:.1f}), by {effect.pilot:,} and {effect.reference:,} judged;"
                " a pilot that got worse as well would not show beside it"
            ),
            "judged": {
                "before": {"judged": round(before.n), "bad": round(before.bad, 1)},
                "since": {"judged": round(now.n), "bad": round(now.bad, 1)},
            },
            "test": {"ln_m": round(worse.evidence, 2), "alarms_at": round(worse.threshold, 2)},
        },
        traffic_share=None,
        money=None,
        action=AlertAction(
            proposed=f"look at answers of {watch.model}; where they are bad, let another model answer. Nothing is given back to it by this alert",
            command=f"pointsman pin pool:{watch.pool} MODEL --by YOU --reason WHY",
            undo=f"pointsman release pool:{watch.pool} pin --by YOU --reason WHY",
        ),
        at=to_rfc3339(worse.at_ms // watch.scale),
    )
