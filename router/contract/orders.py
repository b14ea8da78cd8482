"""Standing orders: who gave them, whether they hold, and whom they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.contract.times import from_rfc3339

if TYPE_CHECKING:
    from router.contract.records import Control

#: Authors of orders that no person gives: how their names begin, the guard, and the ladder of a rollout.
OURS = "pointsman "
GUARD, ROLLOUT = f"{OURS}guard", f"{OURS}rollout"


def in_force(order: Control, now_ms: int) -> bool:
    """Whether an order is active and has not expired."""
    return order.active and (order.expires_at is None or from_rfc3339(order.expires_at) > now_ms)


def scopes_of(pool: str, stratum: str) -> tuple[str, str, str, str]:
    """Scopes of orders that concern a whole stratum, the narrowest first.

    >>> scopes_of("auto", "math/hard")
    ('stratum:auto/math/hard', 'stratum:auto/math', 'pool:auto', 'all')
    """
    return f"stratum:{pool}/{stratum}", f"stratum:{pool}/{stratum.partition('/')[0]}", f"pool:{pool}", "all"


def within(scope: str, wider: str) -> bool:
    """Whether an order of the wider scope concerns the other.

    >>> within("stratum:auto/math/hard", "pool:auto"), within("stratum:auto/math/hard", "stratum:auto/math"), within("all", "pool:auto")
    (True, True, False)
    """
    kind, _, name = wider.partition(":")
    return (
        wider in {scope, "all"}
        or (kind == "pool" and scope.startswith(f"stratum:{name}/"))
        or (kind == "stratum" and scope.startswith(f"{wider}/"))
    )
