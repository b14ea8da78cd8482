"""Open or closed: what is wrong with one model apart from its answers, as alerts that come in pairs.

| signal | severity | opens | closes |
|---|---|---|---|
| model_down | page | the model goes down | it is up again (probing leaves it open) |
| cost_unknown | watch | an attempt has no price | an hour has passed without one |

At most one alert a signal and model is open: it is opened once and closed once, under one id.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import xxhash

from router.contract.records import Alert, AlertAction, HealthState
from router.contract.times import to_rfc3339

UNPRICED_FORGOTTEN_MS = 3_600_000
SIGNALS: Final = ("model_down", "cost_unknown")

AlertState = Literal["open", "closed"]


@dataclass(slots=True)
class Incidents:
    """Since when each is open, ms since the epoch; ``None``: closed. ``unpriced``: attempts since then."""

    down_since_ms: int | None = None
    unpriced_since_ms: int | None = None
    unpriced_last_ms: int = 0
    unpriced: int = 0

    def on_state(self, model: str, state: HealthState, reason: str, now_ms: int) -> Alert | None:
        """The model's health says ``state``."""
        if state == "down" and self.down_since_ms is None:
            self.down_since_ms = now_ms
            return self._down(model, "open", reason, now_ms)
        if state in ("up", "degraded") and self.down_since_ms is not None:
            alert = self._down(model, "closed", reason, now_ms)
            self.down_since_ms = None
            return alert
        return None

    def on_unpriced(self, model: str, attempts: int, now_ms: int) -> Alert | None:
        """``attempts`` more have no known cost."""
        self.unpriced += attempts
        self.unpriced_last_ms = now_ms
        if self.unpriced_since_ms is not None:
            return None
        self.unpriced_since_ms = now_ms
        return self._unpriced(model, "open", now_ms)

    def on_time(self, model: str, now_ms: int) -> Alert | None:
        """Time has passed."""
        if self.unpriced_since_ms is None or now_ms < self.unpriced_last_ms + UNPRICED_FORGOTTEN_MS:
            return None
        alert = self._unpriced(model, "closed", now_ms)
        self.unpriced_since_ms, self.unpriced = None, 0
        return alert

    def to_json(self) -> list[Any]:
        """Compact and complete."""
        return [self.down_since_ms, self.unpriced_since_ms, self.unpriced_last_ms, self.unpriced]

    def _down(self, model: str, state: AlertState, reason: str, now_ms: int) -> Alert:
        taken = "its requests go to other models of their pools; a few probe whether it is back"
        alert = _alert("model_down", model, state, self.down_since_ms or now_ms, now_ms)
        return replace(alert, severity="page", evidence={"reason": reason}, action=AlertAction(taken=taken))

    def _unpriced(self, model: str, state: AlertState, now_ms: int) -> Alert:
        action = AlertAction(proposed=f"give model {model} a price", command="pointsman config check")
        alert = _alert("cost_unknown", model, state, self.unpriced_since_ms or now_ms, now_ms)
        return replace(alert, evidence={"attempts": self.unpriced}, action=action)


def _alert(signal: str, model: str, state: AlertState, since_ms: int, at_ms: int) -> Alert:
    return Alert(
        id=xxhash.xxh3_128_hexdigest(f"{signal}\0{model}\0{since_ms}".encode()),
        state=state,
        severity="watch",
        pool=None,
        stratum=None,
        signal=signal,
        model=model,
        effect=None,
        reference=None,
        since=to_rfc3339(since_ms),
        evidence={},
        traffic_share=None,
        money=None,
        action=AlertAction(),
        at=to_rfc3339(at_ms),
    )
