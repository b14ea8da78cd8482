"""Is a model up? A circuit breaker with half-open probing, and a slow lane beside it, over a sliding window of 30 s.

The figures are the defaults of ``Limits``, which the configuration may set for each model.

| state | goes to | when |
|---|---|---|
| up, degraded | down | 8 errors in a row, or of at least 10 attempts in the window half or more are errors, or p95 is above the model's own limit, if it has one |
| up | degraded | of at least 10 attempts a tenth or more are errors or rate-limited, or p95 is above 3 times its usual value |
| degraded | up | errors and rate limits are under a twentieth, p95 under 2.4 times (or there is nothing to judge by) |
| down | probing | the cool-down is over: 5 s, doubled at each further failure up to 60 s |
| probing | up | 3 successes in a row; the window starts empty |
| probing | down | one error, or an answer slower than the model's own limit |
| any | down | it is silent: an attempt waits for 8 s (or 3 times the usual p95) and nothing is answered meanwhile; down as long as that is so |

- The error rate is errors / (ok + errors): what is rate-limited was not answered, so it counts in its own share only.
- In probing, and after it, an attempt that began before the probing is ignored: it tells about the outage.
- Evidence older than the window when it is read (watch was down) is ignored: it says nothing about now.
- A model that was up for 2 minutes starts again with a cool-down of 5 s.
- The usual p95 is its long-run median, followed by a step of 0.1 % up or down a second (larger in the first minutes), and used after 60 such steps. It follows a lasting change within some 20 minutes a doubling; while a model is down it
  stands still. Source of the estimator: Ma, Muthukrishnan, Sandler, "Frugal streaming for estimating quantiles", 2013.
- Silence (``core/backlog``) is one of three: no worker lives, all its calls hang, or they are slower than ever before. Whichever it is, others answer sooner.
  It ends with the first answer, then the model is probed at once, or when nothing waits any more, then after the cool-down.
- ``down`` ends by time alone (silence is told anew all the time), ``probing`` with whatever the next attempts say: nothing here can be stuck.

The machine is a value that its caller stores; ``observe`` and ``tick`` change it in place (and ``observe`` keeps what it is given). Times are
milliseconds since the epoch and need not be in order; the window is cut at the newest ``now_ms`` seen.
Source of the breaker: Nygard, "Release It!", 2nd ed. 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from router.contract.records import HealthState, Saturation
from router.core import quantiles
from router.core.backlog import Queue
from router.core.evidence import Evidence, Served
from router.core.quantiles import Sketch
from router.core.saturation import saturation

WINDOW_S = 30
MIN_ATTEMPTS = 10
DOWN_ERROR_RATE = 0.5
DOWN_ERRORS_IN_A_ROW = 8
DEGRADED_SHARE = 0.1
RECOVERED_SHARE = 0.05
SLOW_FACTOR = 3.0
NO_LONGER_SLOW_FACTOR = 2.4
FIRST_COOL_DOWN_MS = 5_000
LONGEST_COOL_DOWN_MS = 60_000
FORGIVEN_AFTER_MS = 120_000
PROBES = 3
USUAL_STEPS = 60
SILENT_AFTER_MS = 8_000
#: What is left of a silent model's rest when it is made longer again: the word must reach every router before it ends.
EXTEND_MS = 3_000
#: Over how long the rate is taken at which attempts end, and how many make one.
RATE_S, RATE_ATTEMPTS = 10, 10
_SMALLEST_STEP = 0.001


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond which traffic goes elsewhere.

    ``error_rate`` 0..1; ``p95_ms``: ``None`` for no limit; ``silent_after_ms``: without any answer while something waits.
    """

    error_rate: float = DOWN_ERROR_RATE
    p95_ms: int | None = None
    silent_after_ms: int = SILENT_AFTER_MS


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class ModelHealth:
    """The state of one model. ``error_rate``, ``rate_limited_share``, ``p50_ms``, ``p95_ms``, ``p99_ms`` are those of the window, ``None``: no attempts.

    ``saturated``: ``core/saturation``, as it was at the last look. ``queue_wait_ms``: how long an interactive request would wait for a free slot, ``None`` while it need not, or nothing is known. ``silent``: see above.

    ``since_ms``: when the state began; ``until_ms``: when the cool-down ends; ``fresh_ms``: attempts that began earlier
    are ignored; ``in_a_row``: errors, while probing successes; ``usual_log``: natural logarithm of the usual p95.
    """

    state: HealthState = "up"
    reason: str = "no complaint"
    since_ms: int = 0
    until_ms: int | None = None
    cool_down_ms: int = FIRST_COOL_DOWN_MS
    fresh_ms: int = 0
    in_a_row: int = 0
    error_rate: float | None = None
    rate_limited_share: float | None = None
    p95_ms: float | None = None
    usual_log: float = 0.0
    usual_steps: int = 0
    window: list[Evidence] = field(default_factory=list)
    judged_second: int = 0
    silent: bool = False
    queue_wait_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    saturated: Saturation | None = None
    limits: Limits = DEFAULT_LIMITS

    def observe(self, evidence: Evidence, now_ms: int) -> None:
        """Take in the attempts of one second."""
        if evidence.second < now_ms // 1000 - WINDOW_S:
            return
        evidence.second = min(evidence.second, now_ms // 1000)  # a clock ahead must not hold the window open
        self._forget_outage(evidence)
        self._keep(evidence)
        if self.state == "probing":
            self._probe(evidence, now_ms)
        elif self.state in ("up", "degraded"):
            self.in_a_row = evidence.trailing_errors + (0 if evidence.ok else self.in_a_row)
            self._judge(now_ms)

    def stand(self, queue: Queue, now_ms: int) -> None:
        """Take in what is open, as settle told; to be called every second, also when it told nothing."""
        self._wait(queue, now_ms)
        self.saturated = saturation(queue, self.window, self.p95_ms, now_ms)
        silent_ms = queue.silent_ms(now_ms)
        if silent_ms >= max(self.limits.silent_after_ms, SLOW_FACTOR * self._known_p95_ms()):
            if not self.silent or self.state != "down":
                n = queue.open(now_ms)
                self._fail(
                    f"silent for {silent_ms // 1000} s with {n} open: no worker takes its work, or all its calls hang",
                    now_ms,
                )
                self.silent = True
            elif (self.until_ms or 0) - now_ms < EXTEND_MS:
                self.until_ms = now_ms + max(self.cool_down_ms, 2 * EXTEND_MS)
        elif self.silent:
            self.silent = False
            if self.state == "down" and queue.answers_since(self.since_ms):
                self.until_ms = now_ms

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """Figures of each endpoint that answered within the window."""
        merged: dict[str, Served] = {}
        for kept in self.window:
            for name, served in kept.endpoints.items():
                merged.setdefault(name, Served()).merge(served)
        return {name: _figures(merged[name]) for name in sorted(merged)}

    def tick(self, now_ms: int) -> None:
        """Let time pass: ends a cool-down, empties the window."""
        if self.state == "down":
            if self.until_ms is None or now_ms >= self.until_ms:
                self._turn("probing", f"cool-down of {self.cool_down_ms // 1000} s is over", now_ms)
                self.fresh_ms = now_ms
        elif now_ms // 1000 != self.judged_second and (self.window or self._shows_figures()):
            self._judge(now_ms)

    def to_json(self) -> list[Any]:
        """Compact and complete."""
        return [
            [self.state, self.reason, self.since_ms, self.until_ms, self.cool_down_ms, self.fresh_ms, self.in_a_row],
            [self.error_rate, self.rate_limited_share, self.p95_ms, self.usual_log, self.usual_steps],
            [evidence.to_json() for evidence in self.window],
            [self.silent, self.queue_wait_ms, self.p50_ms, self.p99_ms],
        ]

    @classmethod
    def from_json(cls, value: list[Any], limits: Limits = DEFAULT_LIMITS) -> ModelHealth:
        """The inverse of ``to_json``, but for the limits, which are not kept. Older ones say nothing of queues; what newer ones say beyond is passed over."""
        head, seen, window, *queue = value
        health = cls(*head[:7], *seen[:5])
        health.limits = limits
        if queue:
            health.silent, health.queue_wait_ms, health.p50_ms, health.p99_ms = queue[0][:4]
        health.window = [Evidence.from_json(evidence) for evidence in window]
        return health

    def _forget_outage(self, evidence: Evidence) -> None:
        """Leave out attempts that began before the probing did."""
        if evidence.error_began_ms < self.fresh_ms:
            evidence.errors = evidence.trailing_errors = 0
        if evidence.ok_began_ms < self.fresh_ms:
            evidence.ok, evidence.latency = 0, {}

    def _keep(self, evidence: Evidence) -> None:
        for kept in reversed(self.window):
            if kept.second == evidence.second:
                kept.merge(evidence)
                return
        self.window.append(evidence)

    def _probe(self, evidence: Evidence, now_ms: int) -> None:
        if evidence.errors:
            self.cool_down_ms = min(2 * self.cool_down_ms, LONGEST_COOL_DOWN_MS)
            self._down("failed while probing", now_ms)
            return
        limit_ms, p50_ms = self.limits.p95_ms, quantiles.quantile(evidence.latency, 0.5)
        if limit_ms is not None and p50_ms is not None and p50_ms > limit_ms:
            self.cool_down_ms = min(2 * self.cool_down_ms, LONGEST_COOL_DOWN_MS)
            self._down(f"still slow while probing: {p50_ms:.0f} ms", now_ms)
            return
        self.in_a_row += evidence.ok
        if self.in_a_row >= PROBES:
            self._turn("up", f"{PROBES} successes in a row", now_ms)
            self.window = []

    def _judge(self, now_ms: int) -> None:
        """Measure the window; go down, be degraded, or be up."""
        self._measure(now_ms)
        ok, errors, limited = self._totals()
        if self.state == "probing":
            return
        if self.in_a_row >= DOWN_ERRORS_IN_A_ROW:
            self._fail(f"{self.in_a_row} errors in a row", now_ms)
        elif ok + errors >= MIN_ATTEMPTS and errors >= self.limits.error_rate * (ok + errors):
            self._fail(f"{errors} errors of {ok + errors} attempts in {WINDOW_S} s", now_ms)
        elif ok >= MIN_ATTEMPTS and self.limits.p95_ms is not None and (self.p95_ms or 0.0) > self.limits.p95_ms:
            self._fail(f"p95 {self.p95_ms:.0f} ms in {WINDOW_S} s, its limit is {self.limits.p95_ms} ms", now_ms)
        elif ok + errors + limited >= MIN_ATTEMPTS and (why := self._complaint()) is not None:
            if self.state == "up":
                self._turn("degraded", why, now_ms)
        elif self.state == "degraded":
            self._turn("up", "recovered", now_ms)

    def _measure(self, now_ms: int) -> None:
        """Cut the window and take its figures; p95 and its usual value once a second."""
        second = now_ms // 1000
        self.window = [kept for kept in self.window if kept.second >= second - WINDOW_S]
        ok, errors, limited = self._totals()
        self.error_rate = errors / (ok + errors) if ok + errors else None
        self.rate_limited_share = limited / (ok + errors + limited) if ok + errors + limited else None
        if second != self.judged_second:
            self.judged_second = second
            merged: Sketch = {}
            for kept in self.window:
                quantiles.merge(merged, kept.latency)
            self.p50_ms, self.p95_ms, self.p99_ms = quantiles.quantiles(merged, (0.5, 0.95, 0.99))
            if ok >= MIN_ATTEMPTS and self.p95_ms:
                self._follow(math.log(self.p95_ms))

    def _follow(self, log: float) -> None:
        """One step of the running median of p95, in logarithms."""
        if self.usual_steps == 0:
            self.usual_log = log
        step = max(_SMALLEST_STEP, 0.5 / (self.usual_steps + 1))
        self.usual_log += math.copysign(min(step, abs(log - self.usual_log)), log - self.usual_log)
        self.usual_steps += 1

    def _wait(self, queue: Queue, now_ms: int) -> None:
        """The wait for a free slot, by what ended in the last whole seconds."""
        second = now_ms // 1000
        recent = [kept for kept in self.window if second - RATE_S <= kept.second < second]
        ended = sum(kept.ok + kept.errors + kept.rate_limited for kept in recent)
        self.queue_wait_ms = None
        if ended >= RATE_ATTEMPTS:
            merged: Sketch = {}
            for kept in recent:
                quantiles.merge(merged, kept.latency)
            seconds = second - min(kept.second for kept in recent)
            wait_ms = queue.wait_ms(now_ms, ended=ended, seconds=seconds, call_ms=quantiles.mean(merged) or 0.0)
            self.queue_wait_ms = wait_ms or None

    def _known_p95_ms(self) -> float:
        return max(self.p95_ms or 0.0, math.exp(self.usual_log) if self.usual_steps else 0.0)

    def _complaint(self) -> str | None:
        """Why a model that answers is not well; a degraded one must be clearly better before it counts as up."""
        share = DEGRADED_SHARE if self.state == "up" else RECOVERED_SHARE
        if (self.error_rate or 0.0) >= share:
            return f"error rate {self.error_rate:.2f} in {WINDOW_S} s"
        if (self.rate_limited_share or 0.0) >= share:
            return f"rate-limited {self.rate_limited_share:.2f} in {WINDOW_S} s"
        factor = SLOW_FACTOR if self.state == "up" else NO_LONGER_SLOW_FACTOR
        usual_ms = math.exp(self.usual_log)
        if self.usual_steps >= USUAL_STEPS and (self.p95_ms or 0.0) > factor * usual_ms:
            return f"p95 {self.p95_ms:.0f} ms, usually {usual_ms:.0f} ms"
        return None

    def _shows_figures(self) -> bool:
        return (self.error_rate, self.rate_limited_share, self.p95_ms) != (None, None, None)

    def _totals(self) -> tuple[int, int, int]:
        return (
            sum(kept.ok for kept in self.window),
            sum(kept.errors for kept in self.window),
            sum(kept.rate_limited for kept in self.window),
        )

    def _fail(self, reason: str, now_ms: int) -> None:
        """Down from up or degraded: a first failure, or again soon after the last."""
        again = self.fresh_ms > 0 and now_ms - self.fresh_ms < FORGIVEN_AFTER_MS
        self.cool_down_ms = min(2 * self.cool_down_ms, LONGEST_COOL_DOWN_MS) if again else FIRST_COOL_DOWN_MS
        self._down(reason, now_ms)

    def _down(self, reason: str, now_ms: int) -> None:
        self._turn("down", reason, now_ms)
        self.until_ms = now_ms + self.cool_down_ms

    def _turn(self, state: HealthState, reason: str, now_ms: int) -> None:
        self.state, self.reason, self.since_ms, self.until_ms, self.in_a_row = state, reason, now_ms, None, 0
        self.silent = False


def _figures(served: Served) -> dict[str, Any]:
    attempts = served.ok + served.errors
    p50, p95, p99 = (
        None if found is None else round(found, 1) for found in quantiles.quantiles(served.latency, (0.5, 0.95, 0.99))
    )
    return {
        "attempts": attempts + served.rate_limited,
        "error_rate": round(served.errors / attempts, 4) if attempts else None,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }
