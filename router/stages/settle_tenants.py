"""What calls of tenants with a budget have cost, told to the lane of route that took the money for them (``core.lease``).

Each outcome is told once it is priced, late ones too; a repeated one with no cost: all that it can do is to put money back that is
still taken. Shadows and judges of pairs are the pool's expense, not the tenant's.
"""

from __future__ import annotations

from collections import defaultdict

from router.config import Config
from router.contract.codec import encode
from router.contract.topics import Names
from router.core.records import TenantNews
from router.core.slip import Slip
from router.kafka.unit import UnitLike
from router.stages.tenants import Tenants


class Charges:
    """Of one turn's handler: noted and told before it returns. ``outputs``: what it may write."""

    def __init__(self, config: Config, names: Names) -> None:
        self._tenants = Tenants(config)
        self._topics = {"interactive": names.of("leases"), "batch": names.of("leases.batch")}
        self.outputs = frozenset(self._topics.values() if self._tenants else ())
        self._noted: defaultdict[tuple[str, int, str], list[tuple[int, int, int]]] = defaultdict(list)

    def note(self, slip: Slip, cost_nano_usd: int) -> None:
        """An outcome was read; ``cost_nano_usd`` is 0 for one that was priced before, or has no price."""
        if not self._tenants or slip.beside:
            return
        limits = self._tenants.of(slip.tenant)
        if limits is not None and limits.money:
            at = slip.origin
            self._noted[slip.lane, at.partition, limits.name].append((at.offset, slip.attempt, cost_nano_usd))

    def tell(self, unit: UnitLike) -> None:
        """One record a lane and tenant."""
        for (lane, partition, name), charges in self._noted.items():
            news = TenantNews(tenant=name, charges=charges)
            unit.emit(self._topics[lane], name.encode(), encode(news), partition=partition)
        self._noted.clear()
