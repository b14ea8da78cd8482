"""Which endpoint of a model takes the next call: of two drawn by weight, the one with less to do for what it can do.

    load = (calls outstanding + 1) x slowness / weight

The power of two choices (Mitzenmacher, 2001): nearly as even as asking all, and no herd runs to the one that looked idle.

- *weight*: what the configuration says (``weight``); else how its limits compare with the largest of the model's endpoints. Times
  a *share* that a 429 halves and each answer raises a little again (AIMD; Chiu and Jain, 1989), times the ramp after recovery.
- *slowness*: its latency beside that of all, ``1/MAX_SLOWNESS..MAX_SLOWNESS`` in steps of 1.4, as in Finagle's peak EWMA balancer. It fades when
  nothing new is heard (``outliers.Tally``), so that a slow endpoint is asked again.
- A 429 *cools* its endpoint until the ``Retry-After`` it named, or 1 s, 2 s, 4 s ... 30 s when it named none. Nothing is
  sent to a cooling endpoint.
- ``requests_per_minute`` and ``tokens_per_minute`` are kept by token buckets of ten seconds' worth: an endpoint whose
  bucket is empty is not free until it has refilled; one with ``concurrency`` calls outstanding until one has ended. Each worker
  process keeps its own; divide a limit between them.
- Its ``breaker`` opens after ``FAILURES`` failures in a row (connection, key, 5xx, no answer in time, no whole answer), or when it stands
  out (``outliers``). Never more than half of the endpoints are open or half open, so a single one never is: whatever fails,
  somebody is asked. Whether a model as a whole is well is the watch stage's to say.
- A half-open endpoint gets the next call, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, log2
from random import Random
from typing import Any, Final

from router.work.breaker import Breaker
from router.work.outliers import Tally, stands_out

BURST_S = 10.0
COOL_S, MAX_COOL_S = 1.0, 30.0
#: Failures in a row that open a breaker, as in Envoy.
FAILURES: Final = 5
#: What a 429 leaves of an endpoint's share, the least that is left, and what each answer gives back.
LESS, MIN_SHARE, MORE = 0.5, 0.1, 0.02
MAX_SLOWNESS: Final = 4.0
#: Calls after which half of what their latency says is believed.
BELIEF_CALLS: Final = 3.0
#: When to look again at an endpoint whose slots are all taken.
FULL_S: Final = 0.02


class Bucket:
    """A token bucket that may go into debt: what is taken is known only roughly, or afterwards."""

    def __init__(self, per_minute: float, now_s: float, *, burst_s: float = BURST_S) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate * burst_s)
        self._level, self._at_s = self._most, now_s

    def take(self, amount: float, now_s: float) -> None:
        self._level = min(self._most, self._level + (now_s - self._at_s) * self._rate) - amount
        self._at_s = now_s

    def free_at_s(self) -> float:
        """When the level is at least one again; not later than the last ``take`` when it is."""
        return self._at_s + max(0.0, 1 - self._level) / self._rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a model is served. ``key`` is a secret: it must not show in a message or a log."""

    name: str
    base_url: str
    key: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    weight: float | None = None

    def __repr__(self) -> str:
        return f"Place({self.name}, {self.base_url})"


def weights(places: Sequence[Place]) -> list[float]:
    """Of each place, above 0: its own, else the least of its limits as a part of the largest such limit of all.

    >>> weights([Place(name="a", base_url="", concurrency=8), Place(name="b", base_url="", concurrency=2)])
    [1.0, 0.25]
    """
    limits = [(one.requests_per_minute, one.tokens_per_minute, one.concurrency) for one in places]
    largest = [max((value for value in kind if value), default=1) for kind in zip(*limits, strict=True)]
    by_limits = [min([1.0, *(v / most for v, most in zip(own, largest, strict=True) if v)]) for own in limits]
    return [found if one.weight is None else one.weight for one, found in zip(places, by_limits, strict=True)]


class Endpoint:
    """One place and how it fares. Times are seconds of the clock given to ``Endpoints``."""

    def __init__(self, place: Place, weight: float, now_s: float) -> None:
        self.place = place
        self.outstanding = 0
        self.rate_limits = 0
        self.cooling_until_s = now_s
        self.breaker = Breaker()
        self.tally = Tally(now_s)
        self._weight, self._share = weight, 1.0
        self._requests = Bucket(place.requests_per_minute, now_s) if place.requests_per_minute else None
        self._tokens = Bucket(place.tokens_per_minute, now_s) if place.tokens_per_minute else None

    def free_at_s(self, now_s: float) -> float:
        """The earliest time at which it may be called; not later than ``now_s`` when it may now."""
        times = [self.cooling_until_s, self.breaker.free_at_s()]
        times += [bucket.free_at_s() for bucket in (self._requests, self._tokens) if bucket is not None]
        if self.place.concurrency is not None and self.outstanding >= self.place.concurrency:
            times.append(now_s + FULL_S)
        return max(times)

    def begin(self, tokens: int, now_s: float) -> bool:
        """A call of about ``tokens`` starts; true when it is the breaker's probe."""
        self.outstanding += 1
        if self._requests is not None:
            self._requests.take(1, now_s)
        self.spend(tokens, now_s)
        return self.breaker.begin()

    def spend(self, tokens: int, now_s: float) -> None:
        """Take more tokens, or give back what was taken too much."""
        if self._tokens is not None:
            self._tokens.take(tokens, now_s)

    def end(self, *, probe: bool = False) -> None:
        self.outstanding -= 1
        if probe:
            self.breaker.release()

    def succeeded(self, latency_s: float, now_s: float, *, probe: bool = False) -> None:
        self.rate_limits = 0
        self._share = min(1.0, self._share + MORE)
        self.breaker.succeeded(now_s, probe=probe)
        self.tally.add(now_s, failed=False, latency_s=latency_s)

    def failed(self, now_s: float, *, probe: bool = False) -> None:
        self.breaker.failed(now_s, probe=probe)
        self.tally.add(now_s, failed=True)

    def cool(self, retry_after_ms: int | None, now_s: float) -> float:
        """No call before ``retry_after_ms`` have passed; returns the seconds. A shorter wait never ends a longer one."""
        if self.cooling_until_s <= now_s:  # the calls that were under way are turned down for the same reason
            self._share = max(MIN_SHARE, self._share * LESS)
        self.rate_limits += 1
        wait_s = min(COOL_S * 2.0 ** min(self.rate_limits - 1, 10), MAX_COOL_S)
        if retry_after_ms is not None:
            wait_s = retry_after_ms / 1000
        self.cooling_until_s = max(self.cooling_until_s, now_s + wait_s)
        return self.cooling_until_s - now_s

    def weight(self, now_s: float) -> float:
        """As it counts now, above 0."""
        return self._weight * self._share * self.breaker.ramp(now_s)

    def load(self, typical_s: float | None, now_s: float) -> float:
        """What it has to do, one more call included, for what it can do; ``typical_s``: latency of the model's endpoints."""
        return (self.outstanding + 1) * self._slowness(typical_s) / self.weight(now_s)

    def _slowness(self, typical_s: float | None) -> float:
        latency_s, timed = self.tally.latency_s, self.tally.timed
        if latency_s is None or typical_s is None:
            return 1.0
        steps = round(
            2 * log2(latency_s / typical_s) * timed / (timed + BELIEF_CALLS)
        )  # else noise would break all ties
        return float(max(1 / MAX_SLOWNESS, min(2.0 ** (steps / 2), MAX_SLOWNESS)))

    def state(self, now_s: float) -> dict[str, Any]:
        latency_s = self.tally.latency_s
        return {
            "outstanding": self.outstanding,
            "cooling_s": round(max(0.0, self.cooling_until_s - now_s), 3),
            "failures": self.breaker.failures,
            "state": self.breaker.state(now_s),
            "reason": self.breaker.reason,
            "open_s": round(self.breaker.open_s(now_s), 3),
            "openings": self.breaker.openings,
            "weight": round(self.weight(now_s), 3),
            "error_rate": round(self.tally.failure_rate, 3),
            "usual_ms": None if latency_s is None else round(latency_s * 1000),
        }


class Endpoints:
    """The endpoints of one model.

    Args:
        places: at least one, with distinct names.
        clock_s: monotonic seconds.
        dice: draws the two candidates.
    """

    def __init__(self, places: Sequence[Place], clock_s: Callable[[], float], dice: Random) -> None:
        self.clock_s = clock_s
        self._dice = dice
        now_s = clock_s()
        self.all = tuple(Endpoint(*one, now_s) for one in zip(places, weights(places), strict=True))

    def pick(self) -> Endpoint | None:
        """The endpoint for a call that starts now; ``None`` when none is free."""
        now_s = self.clock_s()
        free = [endpoint for endpoint in self.all if endpoint.free_at_s(now_s) <= now_s]
        probed = next((endpoint for endpoint in free if not endpoint.breaker.closed), None)
        if probed is not None:
            return probed
        fit = [endpoint for endpoint in free if endpoint.breaker.resting_until_s <= now_s] or free
        if len(fit) < 2:
            return fit[0] if fit else None
        # Two without replacement, each in proportion to its weight (Efraimidis and Spirakis, 2006). Ties go to either.
        drawn = sorted(fit, key=lambda one: log(1 - self._dice.random()) / one.weight(now_s), reverse=True)[:2]
        typical_s = self._typical_s(now_s)
        return min(drawn, key=lambda endpoint: endpoint.load(typical_s, now_s))

    def free_in_s(self) -> float:
        """Seconds until some endpoint is free; 0 when one is."""
        now_s = self.clock_s()
        return max(0.0, min(endpoint.free_at_s(now_s) for endpoint in self.all) - now_s)

    def judge(self, endpoint: Endpoint) -> None:
        """Open its breaker if it failed too often in a row or stands out, and fewer than half of all are open already."""
        ejected = sum(not one.breaker.closed for one in self.all)
        if not endpoint.breaker.closed or 2 * (ejected + 1) > len(self.all):
            return
        now_s = self.clock_s()
        for one in self.all:
            one.tally.fade(now_s)
        why: str | None = f"{endpoint.breaker.failures} failures in a row"
        if endpoint.breaker.failures < FAILURES:
            why = stands_out(endpoint.tally, [one.tally for one in self.all if one is not endpoint])
        if why is not None:
            endpoint.breaker.open(why, now_s)
            endpoint.tally.clear(now_s)

    def state(self) -> dict[str, dict[str, Any]]:
        """By name: ``outstanding``, ``cooling_s`` left, ``failures`` in a row, and what ``provider.Provider.state`` names."""
        now_s = self.clock_s()
        return {endpoint.place.name: endpoint.state(now_s) for endpoint in self.all}

    def _typical_s(self, now_s: float) -> float | None:
        """The geometric mean of the endpoints' usual latencies."""
        for one in self.all:
            one.tally.fade(now_s)
        known = [log(one.tally.latency_s) for one in self.all if one.tally.latency_s is not None]
        return exp(sum(known) / len(known)) if known else None
