"""How tenants stand against their limits, in the status document: a row a limit, of the minute, day or month that runs now."""

from __future__ import annotations

from typing import Any

from router.contract.times import to_rfc3339
from router.core.lease import ends_ms, window_of
from router.web.view import View


def tenants_of(view: View, now_ms: int) -> list[dict[str, Any]]:
    """By table and limit. ``used`` of requests, tokens, or nano-dollars: with what calls that are out may cost; ``lent``: to routers, used or not.

    ``limit`` and ``soft`` are ``None`` where there is none. ``age_s``: since the owner last said so; it says what is news.
    """
    found = []
    for name, at in sorted(view.tenants.items()):
        for one in at.record.limits:
            until_ms = ends_ms(one.kind, window_of(one.kind, now_ms))
            runs = one.ends_ms >= until_ms  # else that time is over, and nothing was used since
            found.append(
                {
                    "tenant": name,
                    "kind": one.kind,
                    "limit": one.limit,
                    "soft": one.soft,
                    "used": one.used if runs else 0,
                    "lent": one.lent if runs else 0,
                    "until": to_rfc3339(until_ms),
                    "age_s": max(0, now_ms - at.at_ms) / 1000,
                }
            )
    return found
