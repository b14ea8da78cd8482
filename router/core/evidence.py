"""What the attempts of one second say about a model: counts that lanes make apart and that one place adds up.

| status of an attempt | counts as |
|---|---|
| ok | ok, and its latency |
| error, timeout, truncated | error |
| rate_limited | rate_limited: a limit is no failure |
| refused; error with a code of ``NEUTRAL`` | nothing: the request is at fault, or nobody called the model |

An attempt also says when it began: after an outage the answers of calls made during it still come in for a minute, and
they must not count against the model that has come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.core import quantiles
from router.core.quantiles import Sketch

#: Error codes of attempts that say nothing about the model.
NEUTRAL = frozenset(
    {"banned", "cancelled", "invalid_request", "request_too_large", "context_length_exceeded", "answer_too_large"}
)
#: No attempt is believed to have begun longer ago than this: a worker's latency is only its word.
MAX_AGE_MS = 120_000
#: Endpoints of a model that are counted apart; further ones, of a worker that makes up names, count together.
MOST_ENDPOINTS = 32
OTHER_ENDPOINT = "other"


@dataclass(slots=True)
class Served:
    """Attempts that one endpoint ended: ok, errors, rate-limited, and the latencies of the ok ones."""

    ok: int = 0
    errors: int = 0
    rate_limited: int = 0
    latency: Sketch = field(default_factory=dict)

    def merge(self, other: Served) -> None:
        self.ok += other.ok
        self.errors += other.errors
        self.rate_limited += other.rate_limited
        quantiles.merge(self.latency, other.latency)


@dataclass(slots=True)
class Evidence:
    """Attempts on one model that ended in the same second (``second``, since the epoch).

    ``trailing_errors``: errors since the last ok, in the order of reading. ``ok_began_ms``: when the earliest of the ok
    ones began; ``error_began_ms``: when the latest of the failed ones did; 0 without any. ``priced``, ``unpriced``:
    attempts with and without a known cost. ``endpoints``: by the name that the worker gave; attempts that name none are in no part.
    """

    second: int
    ok: int = 0
    errors: int = 0
    rate_limited: int = 0
    trailing_errors: int = 0
    ok_began_ms: int = 0
    error_began_ms: int = 0
    priced: int = 0
    unpriced: int = 0
    latency: Sketch = field(default_factory=dict)
    endpoints: dict[str, Served] = field(default_factory=dict)

    def add(
        self,
        status: str,
        error_code: str | None,
        *,
        at_ms: int,
        latency_ms: int | None,
        cost_nano_usd: int | None,
        endpoint: str | None = None,
    ) -> None:
        """Count one attempt; ``at_ms`` is when it ended."""
        if cost_nano_usd is None:
            self.unpriced += 1
        else:
            self.priced += 1
        if status == "refused" or error_code in NEUTRAL:
            return
        served = Served() if endpoint is None else self._served(endpoint)
        began_ms = at_ms - min(latency_ms or 0, MAX_AGE_MS)
        if status == "ok":
            self.ok += 1
            self.trailing_errors = 0
            self.ok_began_ms = min(self.ok_began_ms or began_ms, began_ms)
            served.ok += 1
            if latency_ms is not None:
                quantiles.add(self.latency, latency_ms)
                quantiles.add(served.latency, latency_ms)
        elif status == "rate_limited":
            self.rate_limited += 1
            served.rate_limited += 1
        else:
            self.errors += 1
            served.errors += 1
            self.trailing_errors += 1
            self.error_began_ms = max(self.error_began_ms, began_ms)

    def merge(self, other: Evidence) -> None:
        """Add what was read later about the same second."""
        self.trailing_errors = other.trailing_errors + (0 if other.ok else self.trailing_errors)
        if other.ok:
            self.ok_began_ms = min(self.ok_began_ms or other.ok_began_ms, other.ok_began_ms)
        self.error_began_ms = max(self.error_began_ms, other.error_began_ms)
        self.ok += other.ok
        self.errors += other.errors
        self.rate_limited += other.rate_limited
        self.priced += other.priced
        self.unpriced += other.unpriced
        quantiles.merge(self.latency, other.latency)
        for name, served in other.endpoints.items():
            self._served(name).merge(served)

    def _served(self, endpoint: str) -> Served:
        name = endpoint if endpoint in self.endpoints or len(self.endpoints) < MOST_ENDPOINTS else OTHER_ENDPOINT
        return self.endpoints.setdefault(name, Served())

    def to_json(self) -> list[Any]:
        """Compact and complete."""
        return [
            self.second,
            self.ok,
            self.errors,
            self.rate_limited,
            self.trailing_errors,
            self.ok_began_ms,
            self.error_began_ms,
            self.priced,
            self.unpriced,
            quantiles.to_json(self.latency),
            {
                name: [each.ok, each.errors, each.rate_limited, quantiles.to_json(each.latency)]
                for name, each in self.endpoints.items()
            },
        ]

    @classmethod
    def from_json(cls, value: list[Any]) -> Evidence:
        """The inverse of ``to_json``. Older ones say nothing of endpoints; what newer ones say beyond is passed over."""
        *counts, latency = value[:10]
        evidence = cls(*counts)
        evidence.latency = quantiles.from_json(latency)
        if len(value) > 10:
            evidence.endpoints = {
                name: Served(ok, errors, limited, quantiles.from_json(sketch))
                for name, (ok, errors, limited, sketch, *_) in value[10].items()
            }
        return evidence
