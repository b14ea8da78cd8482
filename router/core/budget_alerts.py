"""Alerts of a tenant's budget: ``watch`` when its soft limit is reached, ``page`` when requests were refused by the hard one.

| signal | severity | opens | closes |
|---|---|---|---|
| budget_day, budget_month | watch | the soft limit is reached | the day or month is over, or the limit was raised |
| budget_day_spent, budget_month_spent | page | a lane was short of money, and the owner had none | the same |

One is opened once a window and closed once, under one id, however often it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

import xxhash

from router.contract.records import Alert, AlertAction
from router.contract.times import to_rfc3339
from router.core.lease import MONEY, Account, Kind, Owner, ends_ms, window_of

SIGNALS: Final = ("budget_day", "budget_month", "budget_day_spent", "budget_month_spent")
#: A page stays open so long at least: money that comes back from calls is soon spent again.
STAYS_MS = 60_000
#: Of a limit, what must be free again for its page to close before the window ends.
_ROOM = 10


def alerts_of(tenant: str, owner: Owner, soft: Mapping[Kind, int], now_ms: int) -> Iterator[Alert]:
    """Those that are to be opened or closed now; ``owner`` remembers it."""
    for kind in sorted(MONEY & owner.accounts.keys()):
        for window, account in owner.accounts[kind].items():
            over = now_ms >= ends_ms(kind, window)
            about = _Window(tenant, kind, window, account, now_ms)
            yield from _soft(about, None if over else soft.get(kind))
            yield from _hard(about, None if over else owner.limits.get(kind))


def refused(owner: Owner, kind: Kind, window: int, now_ms: int) -> None:
    """A lane was told that there is no money left: a page is due."""
    account = owner.accounts.get(kind, {}).get(window)
    if kind in MONEY and account is not None and not account.hard_ms:
        account.hard_ms = -now_ms  # not told yet


class _Window(NamedTuple):
    tenant: str
    kind: Kind
    window: int
    account: Account
    now_ms: int


def _soft(about: _Window, limit: int | None) -> Iterator[Alert]:
    account = about.account
    if limit is not None and account.used >= limit and not account.soft_ms:
        account.soft_ms = about.now_ms
        yield _alert(about, "watch", "open", account.soft_ms, limit)
    elif account.soft_ms and (limit is None or account.used < limit - limit // _ROOM):
        since_ms, account.soft_ms = account.soft_ms, 0
        yield _alert(about, "watch", "closed", since_ms, limit)


def _hard(about: _Window, limit: int | None) -> Iterator[Alert]:
    account = about.account
    if account.hard_ms < 0:
        account.hard_ms = -account.hard_ms
        yield _alert(about, "page", "open", account.hard_ms, limit)
    elif account.hard_ms and (
        limit is None or (account.used < limit - limit // _ROOM and about.now_ms - account.hard_ms >= STAYS_MS)
    ):
        since_ms, account.hard_ms = account.hard_ms, 0
        yield _alert(about, "page", "closed", since_ms, limit)


def _alert(
    about: _Window,
    severity: Literal["watch", "page"],
    state: Literal["open", "closed"],
    since_ms: int,
    limit: int | None,
) -> Alert:
    tenant, kind, window, account, now_ms = about
    hard = severity == "page"
    signal = f"budget_{kind}_spent" if hard else f"budget_{kind}"
    spent, of = _usd(account.used), "" if limit is None else f" of {_usd(limit)}"
    over = "" if window == window_of(kind, now_ms) else f"; the {kind} is over"
    refusing = "; requests are refused" if hard and state == "open" else ""
    return Alert(
        id=xxhash.xxh3_128_hexdigest(f"{signal}\0{tenant}\0{window}\0{since_ms}".encode()),
        state=state,
        severity=severity,
        pool=None,
        stratum=None,
        signal=signal,
        model=None,
        effect=None,
        reference=None,
        since=to_rfc3339(since_ms),
        evidence={
            "summary": f"tenant {tenant} has spent {spent}{of} of the {kind}{over}{refusing}",
            "tenant": tenant,
            "used_nano_usd": account.used,
            "limit_nano_usd": limit,
            "until": to_rfc3339(ends_ms(kind, window)),
        },
        traffic_share=None,
        money=None,
        action=AlertAction(
            taken="refused with budget_exceeded until the budget is raised or the time is over" if hard else None,
            proposed=f"raise tenants.{tenant}.{'budget' if hard else 'soft'}_usd_per_{kind}, or see who spends it",
            command="pointsman status",
        ),
        at=to_rfc3339(now_ms),
    )


def _usd(nano_usd: int) -> str:
    return f"{nano_usd / 1e9:,.2f} USD"
