"""Whose limits hold for a request: those of its tenant's table, or of the table ``other``, which all without one share.

So there are never more names than the configuration has, whatever requests call their tenants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.config import Config
from router.contract.ids import OTHER
from router.contract.records import MAX_INT
from router.core.lease import MONEY, Kind


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the table ``name``. ``kinds``: what is counted, and up to where: a soft limit alone counts without end."""

    name: str
    kinds: Mapping[Kind, int]
    soft: Mapping[Kind, int]

    @property
    def money(self) -> bool:
        """Whether calls' costs are counted."""
        return not MONEY.isdisjoint(self.kinds)


class Tenants:
    """The tables that limit something. False where none does."""

    def __init__(self, config: Config) -> None:
        self.limits: dict[str, Limits] = {}
        for name, tenant in config.tenants.items():
            soft: dict[Kind, int] = {**tenant.soft_limits}
            kinds: dict[Kind, int] = {**dict.fromkeys(soft, MAX_INT), **tenant.limits}
            if kinds:
                self.limits[name] = Limits(name, kinds, soft)
        others = self.limits.get(OTHER)
        self._of: dict[str, Limits | None] = {name: self.limits.get(name) for name in config.tenants}
        self._others = others

    def __bool__(self) -> bool:
        return bool(self.limits)

    def of(self, tenant: str) -> Limits | None:
        """What limits the tenant; one look-up."""
        return self._of.get(tenant, self._others)
