"""What a tenant may use in a minute, a day, a month, shared by any number of lanes: an owner lends, lanes use what they have.

    lane: Holder --Ask--> owner: Owner --Grant--> lane       (records between them are read once each, in order)

A limit holds in windows: UTC minutes for requests and tokens, UTC days and calendar months for money. Amounts are whole: requests, tokens,
nano-dollars. Of one window of one limit

    lent - given back = left with lanes + used + on its way  <=  limit

so what all lanes use never exceeds the limit, whatever the order and delay of records, and whichever lane is restarted: what a lane has
is a row of its partition, and a partition that moves takes it along. No clock is compared with another one: a lane uses a window's lease
only while its own clock is in that window, and what is left when the window ends has ended with it.

- A lane asks ahead of need: for what it uses in ``AHEAD_S``, when half of that is left; and for what a request is short of.
- What a lane has not used for ``IDLE_MS`` goes back, and what is more than ``MOST_S`` of use at any time.
- The owner lends what is short as far as it has it, and of the rest, ahead of need, no more than a share of it.
- Where it has not enough, the lane asks again ``DRY_MS`` later, no sooner: meanwhile it knows.
- A call's money is taken when it is sent, as much as it can cost; ``Holder.settle`` puts back what it did not cost. What it cost beyond
  (nobody can know a provider's count of tokens) is owed: ``left`` is below 0 until the owner has lent it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from math import ceil, exp
from typing import Any, Final, Literal, get_args

from router.contract.releases import by_place

Kind = Literal["requests", "tokens", "day", "month"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MONEY: Final[frozenset[Kind]] = frozenset({"day", "month"})

AHEAD_S: Final = 1.0
MOST_S: Final = 4.0
#: Between two words of a lane that nobody waits for.
CALM_MS: Final = 250
IDLE_MS: Final = 5_000
DRY_MS: Final = 1_000
#: A question that is not answered in so long is put again: its owner was away, and may lend twice then.
ASK_AGAIN_MS: Final = 10_000
#: Of what the owner has left, one lane gets at most one part in so many times the number of lanes ahead of need.
AHEAD_PART: Final = 2

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
#: Over how long a lane's pace is an average.
_PACE_S: Final = 2.0


def window_of(kind: Kind, at_ms: int) -> int:
    """Number of the window that holds ``at_ms`` (milliseconds since 1970): minutes, days, or months since the year 0.

    >>> window_of("month", 1_767_225_599_999), window_of("month", 1_767_225_600_000)
    (24311, 24312)
    """
    if kind == "month":
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return at.year * 12 + at.month - 1
    return at_ms // (_DAY_MS if kind == "day" else _MINUTE_MS)


def ends_ms(kind: Kind, window: int) -> int:
    """When the window is over, in milliseconds since 1970.

    >>> ends_ms("month", 24_311)
    1767225600000
    """
    if kind == "month":
        year, month = divmod(window + 1, 12)
        return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000
    return (window + 1) * (_DAY_MS if kind == "day" else _MINUTE_MS)


@dataclass(frozen=True, slots=True)
class Ask:
    """A lane's word on one limit: it is short of ``need``, wants ``ahead`` besides, gives ``back``, and used so much more than it said before."""

    kind: Kind
    window: int
    need: int = 0
    ahead: int = 0
    back: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """The owner's answer. ``dry``: it had less than was needed."""

    kind: Kind
    window: int
    amount: int
    dry: bool = False


@dataclass(slots=True)
class Lease:
    """What a lane has of one limit in ``window``.

    ``left``: may be used; below 0: owed. ``used`` in the window; of that ``told`` to the owner. ``asked_ms``: when it put a question
    that is not answered, else 0. ``dry_ms``: until then the owner has not enough. ``busy_ms``: when it was last used. ``pace``: used a second, lately.
    ``calm_ms``: when it last said something that nobody waits for.
    """

    window: int
    left: int = 0
    used: int = 0
    told: int = 0
    asked_ms: int = 0
    dry_ms: int = 0
    busy_ms: int = 0
    pace: float = 0.0
    calm_ms: int = 0

    def note(self, amount: int, now_ms: int) -> None:
        """So much was used now."""
        self.left -= amount
        self.used += amount
        keep = exp(-max(0, now_ms - self.busy_ms) / (_PACE_S * 1000))
        self.pace = self.pace * keep + amount / _PACE_S
        self.busy_ms = now_ms

    def pace_at(self, now_ms: int) -> float:
        """Used a second, of the last seconds, as of now."""
        return self.pace * exp(-max(0, now_ms - self.busy_ms) / (_PACE_S * 1000))


@dataclass(frozen=True, slots=True)
class Short:
    """Why a request cannot go on: of ``kind`` there is not enough. ``final``: nor will there be before ``retry_ms``, as far as the lane knows."""

    kind: Kind
    final: bool
    retry_ms: int


@dataclass(slots=True)
class Holder:
    """One tenant's leases in one lane. ``limits``: only those that there are.

    ``kept``: what is kept for requests that wait, by their key, while they are on their way, and since when; in memory only, for it is a part of ``left``.
    """

    limits: Mapping[Kind, int]
    leases: dict[Kind, Lease] = field(default_factory=dict)
    kept: dict[bytes, tuple[Mapping[Kind, int], int]] = field(default_factory=dict)

    def take(self, need: Mapping[Kind, int], now_ms: int, *, key: bytes | None = None) -> Short | None:
        """Use all of ``need``, or nothing and say what is short. ``key``: of a request that something may be kept for."""
        if key is not None:
            self.kept.pop(key, None)
        if (short := self._short(need, now_ms)) is not None:
            return short
        for kind, amount in need.items():
            self._lease(kind, now_ms).note(amount, now_ms)
        return None

    def keep(self, key: bytes, need: Mapping[Kind, int], now_ms: int) -> bool:
        """Keep ``need`` for a request that waits, if there is enough."""
        if self._short(need, now_ms) is not None:
            return False
        self.kept[key] = need, now_ms
        return True

    def settle(self, windows: Mapping[Kind, int], taken: int, cost: int, now_ms: int) -> None:
        """A call for which ``taken`` nano-dollars were used in ``windows`` has cost ``cost``. In a window that is over, nothing changes any more."""
        for kind in MONEY & self.limits.keys():
            lease = self._lease(kind, now_ms)
            if windows.get(kind, lease.window) == lease.window:
                lease.left += taken - cost
                lease.used += cost - taken

    def granted(self, grant: Grant, now_ms: int) -> None:
        """The owner has answered."""
        if grant.kind not in self.limits:
            return
        lease = self._lease(grant.kind, now_ms)
        if lease.window == grant.window:
            lease.asked_ms = 0
            lease.left += grant.amount
            lease.dry_ms = now_ms + DRY_MS if grant.dry else 0

    def ask(self, waiting: Mapping[Kind, int], now_ms: int, *, tell: bool = False) -> list[Ask]:
        """What is to be said to the owner now. ``waiting``: what requests that wait need in all; ``tell``: also what was used, if that is news."""
        for key in [key for key, (_, since_ms) in self.kept.items() if now_ms - since_ms >= IDLE_MS]:
            del self.kept[key]
        found = (self._ask(kind, waiting.get(kind, 0), now_ms, tell) for kind in self.limits)
        return [one for one in found if one is not None]

    def quiet(self, now_ms: int) -> bool:
        """Whether nothing will be said to the owner until something is used again."""
        return not self.kept and all(
            (lease.left == 0 and not lease.asked_ms and lease.used == lease.told)
            or lease.window < window_of(kind, now_ms)
            for kind, lease in self.leases.items()
        )

    def windows(self, now_ms: int) -> dict[Kind, int]:
        """Of the money that is taken now."""
        return {kind: self._lease(kind, now_ms).window for kind in self.limits if kind in MONEY}

    def dump(self) -> dict[str, list[Any]]:
        """As JSON values, for ``load``."""
        return {kind: list(astuple(lease)) for kind, lease in self.leases.items()}

    @classmethod
    def load(cls, limits: Mapping[Kind, int], values: Mapping[Any, Iterable[Any]]) -> Holder:
        """The inverse of ``dump``; limits that are no more are left out."""
        return cls(limits, {kind: by_place(Lease, parts) for kind, parts in values.items() if kind in limits})

    def _short(self, need: Mapping[Kind, int], now_ms: int) -> Short | None:
        found = None
        for kind, amount in need.items():
            if amount <= 0:
                continue
            lease, limit = self._lease(kind, now_ms), self.limits[kind]
            if amount > limit:
                return Short(kind, final=True, retry_ms=0)
            if lease.left - sum(kept.get(kind, 0) for kept, _ in self.kept.values()) >= amount:
                continue
            if now_ms < lease.dry_ms:
                return Short(kind, final=True, retry_ms=ends_ms(kind, lease.window) - now_ms)
            found = found or Short(kind, final=False, retry_ms=ends_ms(kind, lease.window) - now_ms)
        return found

    def _lease(self, kind: Kind, now_ms: int) -> Lease:
        """That of the window of now: the one before has ended, with all that was left of it."""
        lease, window = self.leases.get(kind), window_of(kind, now_ms)
        if lease is None or lease.window < window:
            lease = self.leases[kind] = Lease(
                window, busy_ms=0 if lease is None else lease.busy_ms, pace=0.0 if lease is None else lease.pace
            )
        return lease

    def _ask(self, kind: Kind, waiting: int, now_ms: int, tell: bool) -> Ask | None:
        lease = self._lease(kind, now_ms)
        news = lease.used - lease.told
        may_ask = now_ms >= lease.dry_ms and not (lease.asked_ms and now_ms - lease.asked_ms < ASK_AGAIN_MS)
        owed = lease.left < 0 and now_ms - lease.calm_ms >= IDLE_MS  # nobody waits for that
        need = max(0, waiting - lease.left) if may_ask and (waiting or owed) else 0
        ahead = back = 0
        if may_ask and not waiting and not self.kept and now_ms - lease.calm_ms >= CALM_MS:
            idle = now_ms - lease.busy_ms >= IDLE_MS
            pace = 0.0 if idle else lease.pace_at(now_ms)
            if lease.left > MOST_S * pace:
                back = max(0, lease.left - ceil(AHEAD_S * pace))
            elif lease.left < AHEAD_S * pace / 2:
                ahead = ceil(AHEAD_S * pace)
        if not (need or ahead or back or (tell and news)):
            return None
        lease.left -= back
        lease.told = lease.used
        if need or ahead:
            lease.asked_ms = now_ms
        if ahead or back or (need and not waiting):
            lease.calm_ms = now_ms
        return Ask(kind, lease.window, need, ahead, back, news)


@dataclass(slots=True)
class Account:
    """One window of a limit, as its owner has it: ``out`` is lent and did not come back; ``used``, as lanes have told.

    ``soft_ms``, ``hard_ms``: since when an alert of it is open, 0: none is.
    """

    out: int = 0
    used: int = 0
    soft_ms: int = 0
    hard_ms: int = 0


@dataclass(slots=True)
class Owner:
    """One tenant's limits. ``lanes``: how many may ask, at least 1."""

    limits: Mapping[Kind, int]
    lanes: int
    accounts: dict[Kind, dict[int, Account]] = field(default_factory=dict)

    def answer(self, ask: Ask, now_ms: int) -> Grant | None:
        """Lend, or take back; ``None`` where nothing was asked. A window that is not near the owner's own gets nothing."""
        asks = ask.need > 0 or ask.ahead > 0
        limit, near = self.limits.get(ask.kind), window_of(ask.kind, now_ms)
        if limit is None or abs(ask.window - near) > 1:
            return Grant(ask.kind, ask.window, 0) if asks else None
        account = self._account(ask.kind, ask.window, near)
        account.out -= ask.back
        account.used += ask.used
        if not asks:
            return None
        free = max(0, limit - account.out)
        amount = min(ask.need, free)
        amount += min(ask.ahead, (free - amount) // (AHEAD_PART * self.lanes))
        account.out += amount
        return Grant(ask.kind, ask.window, amount, dry=amount < ask.need)

    def current(self, kind: Kind, now_ms: int) -> Account:
        """How the window of now stands."""
        return self.accounts.get(kind, {}).get(window_of(kind, now_ms)) or Account()

    def dump(self) -> dict[str, dict[str, list[Any]]]:
        """As JSON values, for ``load``."""
        return {
            kind: {str(window): list(astuple(account)) for window, account in accounts.items()}
            for kind, accounts in self.accounts.items()
        }

    @classmethod
    def load(cls, limits: Mapping[Kind, int], lanes: int, values: Mapping[Any, Mapping[str, Iterable[Any]]]) -> Owner:
        """The inverse of ``dump``; limits that are no more are left out."""
        accounts = {
            kind: {int(window): by_place(Account, parts) for window, parts in windows.items()}
            for kind, windows in values.items()
            if kind in limits
        }
        return cls(limits, lanes, accounts)

    def _account(self, kind: Kind, window: int, near: int) -> Account:
        """Kept while a lane may ask for it: the window of now, the one before, the one behind."""
        accounts = self.accounts.setdefault(kind, {})
        if window not in accounts:
            accounts[window] = Account()
            for old, one in list(accounts.items()):
                if old < near - 1 and not (one.soft_ms or one.hard_ms):
                    del accounts[old]
        return accounts[window]
