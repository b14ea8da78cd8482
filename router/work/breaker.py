"""Whether an endpoint may be asked at all: its circuit breaker, with a ramp after recovery. Pure; times are seconds of one clock.

    closed --(opened)--> open --(its time has passed)--> half open --(the probe was answered)--> closed, ramping
                          ^-------------(the probe failed)----'

| state | calls |
|---|---|
| closed | all. After a failure it *rests* for 0.1, 0.2, 0.4 ... 5 s, a preference only: what fails answers quickest and would draw all traffic |
| open | none, for ``BASE_OPEN_S`` times the number of openings, at most ``MAX_OPEN_S`` |
| half open | one *probe* at a time; a probe that says nothing of the endpoint leaves the place to the next |

Once closed again, an endpoint's weight rises from ``RAMP_FROM`` to 1 in a straight line over ``RAMP_S``; an opening is forgotten
for every ``FORGET_S`` that it stays closed. Answers to calls that were begun before it opened change nothing.

Sources: Nygard, *Release It!* (2007), the circuit breaker; Envoy: ejection time times the number of ejections (outlier
detection), weight that grows with time (slow start).
"""

from __future__ import annotations

from typing import Final, Literal

State = Literal["closed", "open", "half_open"]

REST_S, MAX_REST_S = 0.1, 5.0
BASE_OPEN_S, MAX_OPEN_S = 5.0, 60.0
FORGET_S: Final = 60.0
RAMP_S, RAMP_FROM = 10.0, 0.1


class Breaker:
    """One endpoint's. Who opens it, and why, is for others to say (``endpoints``)."""

    def __init__(self) -> None:
        self.failures = 0
        self.openings = 0
        self.reason: str | None = None
        self.resting_until_s = float("-inf")
        self._open_until_s = float("-inf")
        self._closed_at_s = float("-inf")
        self._probed = False

    @property
    def closed(self) -> bool:
        return self.reason is None

    def state(self, now_s: float) -> State:
        if self.closed:
            return "closed"
        return "open" if now_s < self._open_until_s else "half_open"

    def free_at_s(self) -> float:
        """From when on the next call may start; infinity while a probe is out."""
        if self.closed:
            return float("-inf")
        return float("inf") if self._probed else self._open_until_s

    def begin(self) -> bool:
        """A call starts; true when it is a probe, which ``succeeded``, ``failed`` or ``release`` must follow."""
        if self.closed:
            return False
        self._probed = True
        return True

    def release(self) -> None:
        """The probe is over."""
        self._probed = False

    def succeeded(self, now_s: float, *, probe: bool) -> None:
        if probe and not self.closed:
            self.reason, self._closed_at_s = None, now_s
        if self.closed:
            self.failures = 0
            self.resting_until_s = float("-inf")

    def failed(self, now_s: float, *, probe: bool) -> None:
        if self.closed:
            self.failures += 1
            self.resting_until_s = now_s + min(REST_S * 2.0 ** min(self.failures - 1, 10), MAX_REST_S)
        elif probe:
            self.open("the probe failed", now_s)

    def open(self, reason: str, now_s: float) -> None:
        """No call for a while. ``reason`` is for people."""
        if self.closed:
            held_s = now_s - self._closed_at_s
            self.openings -= int(min(self.openings, held_s // FORGET_S))
        self.openings += 1
        self.reason = reason
        self._open_until_s = now_s + min(BASE_OPEN_S * self.openings, MAX_OPEN_S)

    def open_s(self, now_s: float) -> float:
        """Seconds until a probe may be sent; 0 when it may, or is closed."""
        return 0.0 if self.closed else max(0.0, self._open_until_s - now_s)

    def ramp(self, now_s: float) -> float:
        """The part of its weight that counts, ``RAMP_FROM..1``."""
        return min(1.0, max(RAMP_FROM, (now_s - self._closed_at_s) / RAMP_S))
