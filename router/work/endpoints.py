"""Which endpoint of a model takes the next call: of two drawn at random, the one with fewer calls outstanding.

The power of two choices (Mitzenmacher, 2001): nearly as even as asking all, and no herd runs to the one that looked idle.

- A 429 *cools* its endpoint until the ``Retry-After`` it named, or 1 s, 2 s, 4 s ... 30 s when it named none. Nothing is
  sent to a cooling endpoint.
- ``requests_per_minute`` and ``tokens_per_minute`` are kept by token buckets of ten seconds' worth: an endpoint whose
  bucket is empty is not free until it has refilled. Each worker process keeps its own; divide a limit between them.
- An endpoint whose calls *fail* (connection, key, 5xx) answers quickest of all and would draw all traffic. It rests for
  0.1 s, 0.2 s ... 5 s; rest is a preference only: when no other is free, a resting endpoint is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

BURST_S = 10.0
COOL_S, MAX_COOL_S = 1.0, 30.0
REST_S, MAX_REST_S = 0.1, 5.0


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

    def __repr__(self) -> str:
        return f"Place({self.name}, {self.base_url})"


class Endpoint:
    """One place and how it fares. Times are seconds of the clock given to ``Endpoints``."""

    def __init__(self, place: Place, now_s: float) -> None:
        self.place = place
        self.outstanding = 0
        self.failures = 0
        self.rate_limits = 0
        self.cooling_until_s = now_s
        self.resting_until_s = now_s
        self._requests = Bucket(place.requests_per_minute, now_s) if place.requests_per_minute else None
        self._tokens = Bucket(place.tokens_per_minute, now_s) if place.tokens_per_minute else None

    def free_at_s(self) -> float:
        """The earliest time at which it may be called."""
        return max(self.cooling_until_s, *(b.free_at_s() for b in (self._requests, self._tokens) if b is not None), 0.0)

    def begin(self, tokens: int, now_s: float) -> None:
        """A call of about ``tokens`` starts."""
        self.outstanding += 1
        if self._requests is not None:
            self._requests.take(1, now_s)
        self.spend(tokens, now_s)

    def spend(self, tokens: int, now_s: float) -> None:
        """Take more tokens, or give back what was taken too much."""
        if self._tokens is not None:
            self._tokens.take(tokens, now_s)

    def end(self) -> None:
        self.outstanding -= 1

    def succeeded(self) -> None:
        self.failures = self.rate_limits = 0

    def failed(self, now_s: float) -> None:
        self.failures += 1
        self.resting_until_s = now_s + min(REST_S * 2.0 ** min(self.failures - 1, 10), MAX_REST_S)

    def cool(self, retry_after_ms: int | None, now_s: float) -> float:
        """No call before ``retry_after_ms`` have passed; returns the seconds. A shorter wait never ends a longer one."""
        self.rate_limits += 1
        wait_s = min(COOL_S * 2.0 ** min(self.rate_limits - 1, 10), MAX_COOL_S)
        if retry_after_ms is not None:
            wait_s = retry_after_ms / 1000
        self.cooling_until_s = max(self.cooling_until_s, now_s + wait_s)
        return self.cooling_until_s - now_s


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
        self.all = tuple(Endpoint(place, clock_s()) for place in places)

    def pick(self) -> Endpoint | None:
        """The endpoint for a call that starts now; ``None`` when none is free."""
        now_s = self.clock_s()
        free = [endpoint for endpoint in self.all if endpoint.free_at_s() <= now_s]
        fit = [endpoint for endpoint in free if endpoint.resting_until_s <= now_s] or free
        if len(fit) > 2:
            fit = self._dice.sample(fit, 2)
        elif len(fit) == 2 and self._dice.random() < 0.5:  # ties go to either
            fit.reverse()
        return min(fit, key=lambda endpoint: endpoint.outstanding, default=None)

    def free_in_s(self) -> float:
        """Seconds until some endpoint is free; 0 when one is."""
        return max(0.0, min(endpoint.free_at_s() for endpoint in self.all) - self.clock_s())

    def state(self) -> dict[str, dict[str, Any]]:
        """By name: ``outstanding``, ``cooling_s`` left, ``failures`` in a row."""
        now_s = self.clock_s()
        return {
            endpoint.place.name: {
                "outstanding": endpoint.outstanding,
                "cooling_s": round(max(0.0, endpoint.cooling_until_s - now_s), 3),
                "failures": endpoint.failures,
            }
            for endpoint in self.all
        }
