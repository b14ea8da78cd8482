"""What settle may ask beyond first attempts: how many retries, which hedges.

Budgets are of a lane, a pool and a model (of hedges: of a lane and a pool), in memory, each with its part of what is always allowed; together they are
those of the installation. A hedge is due once its request has waited longer than p95 of its model, as that was when the attempt was seen first. A lane that
moves forgets both: it begins with the few that are always allowed, and what is under way then is not hedged.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from functools import partial

from router.config import Config
from router.config.model import PoolConfig
from router.core.backoff import Policy
from router.core.further import WINDOW_S, Further
from router.core.hedging import may_hedge
from router.core.settlement import Row
from router.stages.settle_book import Book
from router.stages.settle_health import ModelHealth

#: Of a request that names a model directly: it has no pool to say so.
DIRECT_ATTEMPTS = 4
DIRECT_RETRY_PERCENT = 20.0
#: Always allowed, over all partitions: retries a second of a pool's model, hedges a second of a pool.
RETRIES_PER_S, HEDGES_PER_S = 10.0, 0.2
#: Batch requests a second that try whether a model is well again, of those that wait for one.
PROBES_PER_S = 1.0
#: Hedges that a tick looks at.
A_TICK = 200


class FurtherAttempts:
    """The rules of all pools, and what the lanes of this process have used of them."""

    def __init__(self, config: Config, partitions: int, health: ModelHealth) -> None:
        self._health = health
        windows = {name: model.context_window for name, model in config.models.items()}
        self._policies = {name: policy_of(pool, windows) for name, pool in config.pools.items()}
        self._direct = Policy(DIRECT_ATTEMPTS)
        self._least = WINDOW_S / max(1, partitions)
        self._retry_percent = {name: pool.fallback.retry_percent for name, pool in config.pools.items()}
        self._hedge_percent = {
            name: pool.fallback.hedge_percent for name, pool in config.pools.items() if pool.fallback.hedge_percent
        }

    def policy(self, pool: str | None) -> Policy:
        """What may be tried for a request of a pool; ``None``: it names a model."""
        return self._policies.get(pool or "", self._direct)

    def began(self, book: Book, row: Row, now_ms: int) -> None:
        """A request was opened by its first attempt."""
        slip = row.slip
        if slip.model is None:
            return
        self._retries(book, slip.pool, slip.model).first(now_ms)
        if slip.pool in self._hedge_percent and may_hedge(row, now_ms=now_ms, policy=self._policies[slip.pool]):
            self._hedges(book, slip.pool).first(now_ms)
            tail_ms = self._health.tail_ms(slip.model)
            if tail_ms is not None:
                heapq.heappush(book.tails, (now_ms + int(tail_ms) + 1, bytes.fromhex(slip.request_id)))

    def take(self, book: Book, row: Row, model: str, now_ms: int) -> Callable[[], bool]:
        """Asks the budget for one more attempt after one of ``model`` has failed."""
        return partial(self._retries(book, row.slip.pool, model).take, now_ms)

    def shut(self, book: Book, row: Row, now_ms: int, *, waited: bool = False) -> frozenset[str]:
        """Models that the request should not be asked of again now. One that has time (batch) lets few others try those that are recovering."""
        if row.slip.lane != "batch":
            return self._health.down(now_ms)
        unwell = self._health.unwell(now_ms)
        if not waited or not unwell:
            return unwell
        if book.probes is None:
            book.probes = Further(0.0, PROBES_PER_S * self._least)
        return self._health.down(now_ms) if book.probes.take(now_ms) else unwell

    def tails(self, book: Book, now_ms: int) -> Iterator[tuple[bytes, Row, Policy]]:
        """Requests that are to be asked a second time now."""
        looked = 0
        while book.tails and book.tails[0][0] <= now_ms and looked < A_TICK:
            looked += 1
            _, id16 = heapq.heappop(book.tails)
            row = book.open.get(id16)
            if row is None or row.slip.pool not in self._hedge_percent:
                continue
            policy = self._policies[row.slip.pool]
            if (
                may_hedge(row, now_ms=now_ms, policy=policy)
                and self._health.calm(row.tries[0].model)
                and self._health.calm(policy.hedge_to or "")
                and self._hedges(book, row.slip.pool).take(now_ms)
            ):
                yield id16, row, policy

    def _retries(self, book: Book, pool: str | None, model: str) -> Further:
        percent = self._retry_percent.get(pool or "", DIRECT_RETRY_PERCENT)
        return self._budget(book, (pool, model), percent, RETRIES_PER_S)

    def _hedges(self, book: Book, pool: str) -> Further:
        return self._budget(book, (pool, None), self._hedge_percent[pool], HEDGES_PER_S)

    def _budget(self, book: Book, key: tuple[str | None, str | None], percent: float, per_s: float) -> Further:
        """The lane's, made when it is first asked for."""
        found = book.further.get(key)
        if found is None:
            found = book.further[key] = Further(percent / 100, per_s * self._least)
        return found


def policy_of(pool: PoolConfig, windows: dict[str, int]) -> Policy:
    """What may be tried for a request of the pool."""
    rules = pool.fallback
    return Policy(
        pool.max_attempts,
        frozenset(pool.models),
        chains=rules.chains,
        windows=windows,
        hedges=rules.hedge_percent > 0,
        hedge_to=rules.hedge_to,
    )
