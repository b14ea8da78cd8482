"""What a lane of route has of its tenants' limits, which requests wait for more, and what calls that are out may cost.

    decided -> [ admit ] -> goes on | is refused | waits -> grant -> redispatch, into the lane's own partition -> [ admit ]

A request that is short of something that the owner may still have waits in the table, as its place in the log, for at most
``WAIT_MS``; then it is read again, and goes or is refused. It never holds up what is behind it. Requests of tenants without limits never get here.

Rows: ``l`` + table -> its leases (``core.lease.Holder``); ``h`` + place -> ``[table, nano-dollars, windows, until]`` of a call that is out;
``w`` + place -> ``[table, need, since, key, order, headers]`` of a request that waits. A place is the request's offset and the attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from router.contract.codec import encode
from router.contract.errors import Code
from router.contract.records import Lane
from router.core.facts import Choice, Refusal, RequestFacts
from router.core.lease import MONEY, Holder, Kind, Short
from router.core.price import Price
from router.core.records import Order, TenantNews, Wanted
from router.kafka.unit import UnitLike
from router.stages.due import Due
from router.stages.headers import passed_on
from router.stages.tenants import Limits, Tenants

LEASES: Final = b"l"
OUT: Final = b"h"
WAITS: Final = b"w"
#: A request waits no longer for a lease: by then its owner has answered, however busy the machine, or is away.
WAIT_MS: Final = 5_000
#: Requests of a lane that wait at once; a further one is refused.
MAX_WAITING: Final = 5_000
#: Between two looks at what is to be asked, given back and told; and between two words on what was used.
LOOK_EVERY_MS, TELL_EVERY_MS = 100, 1_000
#: How long after its deadline a call's money may come back as what it did not cost; what comes later is counted on top.
GRACE_MS: Final = 60_000

_LIMITS: Final[Mapping[Kind, str]] = {
    "requests": "requests a minute",
    "tokens": "prompt tokens a minute",
    "day": "spending a day",
    "month": "spending a month",
}


class Waiting(NamedTuple):
    """A request that waits since ``since_ms``; ``order``: that by which it will be read again, as JSON."""

    table: str
    need: Mapping[Kind, int]
    since_ms: int
    key: bytes
    order: bytes
    headers: Sequence[tuple[str, bytes]]


class Leases:
    """Of one lane."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._kept: dict[str, Any] = {}
        self._out: dict[bytes, list[Any]] = {}
        self._waiting: dict[bytes, Waiting] = {}
        for key, value in rows:
            if key[:1] == LEASES:
                self._kept[key[1:].decode()] = orjson.loads(value)
            elif key[:1] == OUT:
                self._out[key[1:]] = orjson.loads(value)
            elif key[:1] == WAITS:
                self._waiting[key[1:]] = _waiting(orjson.loads(value))
        self._until = Due(lambda place: self._out[place][3] if place in self._out else None, self._out)
        self._short: dict[str, Counter[Kind]] = {}
        for one in self._waiting.values():
            self._short.setdefault(one.table, Counter()).update(one.need)
        self._holders: dict[str, Holder] = {}
        self._live: set[str] = set(self._kept)
        self._changed: set[str] = set()
        self._asking: set[str] = set(self._short)
        self._looked_ms = self._told_ms = 0

    def holder(self, limits: Limits) -> Holder:
        """The leases of a table."""
        holder = self._holders.get(limits.name)
        if holder is None:
            kept = self._kept.pop(limits.name, {})
            holder = self._holders[limits.name] = Holder.load(limits.kinds, kept)
        return holder

    def take(self, limits: Limits, place: bytes, need: Mapping[Kind, int], now_ms: int) -> Short | None:
        """For the request at ``place``."""
        short = self.holder(limits).take(need, now_ms, key=place)
        self._live.add(limits.name)
        if short is None:
            self._changed.add(limits.name)
        return short

    def send(self, limits: Limits, place: bytes, nano_usd: int, until_ms: int, unit: UnitLike) -> None:
        """A call was made that may cost ``nano_usd``, which were taken for it."""
        row = self._out[place] = [limits.name, nano_usd, self.holder(limits).windows(unit.now_ms), until_ms]
        self._until.push(until_ms, place)
        unit.put(OUT + place, orjson.dumps(row))

    def come_back(self, limits: Limits, place: bytes, cost: int, unit: UnitLike) -> None:
        """A call has cost ``cost`` nano-dollars."""
        row = self._out.pop(place, None)
        taken, windows = (0, {}) if row is None else (row[1], row[2])
        if row is not None:
            unit.put(OUT + place, None)
        self.holder(limits).settle(windows, taken, cost, unit.now_ms)
        self._live.add(limits.name)
        self._changed.add(limits.name)

    def wait(self, place: bytes, waiting: Waiting, unit: UnitLike) -> bool:
        """Whether there is room for one more to wait."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting[place] = waiting
        self._short.setdefault(waiting.table, Counter()).update(waiting.need)
        self._asking.add(waiting.table)
        unit.put(
            WAITS + place,
            orjson.dumps(
                [
                    waiting.table,
                    waiting.need,
                    waiting.since_ms,
                    waiting.key.decode("latin-1"),
                    waiting.order.decode(),
                    [[name, value.decode("latin-1")] for name, value in waiting.headers],
                ]
            ),
        )
        return True

    def heard(self, limits: Limits, news: TenantNews, topic: str, unit: UnitLike) -> None:
        """The owner has answered, or calls have come back. Who waited goes on, to ``topic``."""
        holder = self.holder(limits)
        for grant in news.grants:
            holder.granted(grant, unit.now_ms)
        for offset, attempt, cost in news.charges:
            self.come_back(limits, place_of(offset, attempt), cost, unit)
        self._changed.add(limits.name)
        self._live.add(limits.name)
        if news.grants and limits.name in self._short:
            dry = any(grant.dry for grant in news.grants)
            for place, one in [(place, one) for place, one in self._waiting.items() if one.table == limits.name]:
                if not holder.keep(place, one.need, unit.now_ms) and not dry:
                    self._asking.add(limits.name)  # of another limit, or of more than was granted
                    break
                self._go_on(place, topic, unit)

    def tick(self, tenants: Tenants, topic: str, unit: UnitLike) -> None:
        """Who has waited for too long is read again; what is due is let go."""
        if not (self._live or self._waiting or self._out):
            return
        late_ms = unit.now_ms - WAIT_MS
        for place in [place for place, one in self._waiting.items() if one.since_ms <= late_ms]:
            self._go_on(place, topic, unit)
        for place in list(self._until.pop_until(unit.now_ms)):
            limits = tenants.limits.get(self._out[place][0])
            if limits is not None:
                self.come_back(limits, place, 0, unit)
            else:
                del self._out[place]
                unit.put(OUT + place, None)

    def tell(self, tenants: Tenants, topic: str, lane: Lane, unit: UnitLike, *, look: bool) -> None:
        """Ask the owners for what is short; with ``look`` also ahead, and give back, as often as that is due. Then store what changed."""
        names, told = self._asking, False
        if look and unit.now_ms - self._looked_ms >= LOOK_EVERY_MS:
            self._looked_ms = unit.now_ms
            names, told = self._live | self._asking, unit.now_ms - self._told_ms >= TELL_EVERY_MS
            self._told_ms = unit.now_ms if told else self._told_ms
        for name in sorted(names):
            limits = tenants.limits.get(name)
            if limits is None:  # a table that is no more, or limits nothing
                self._live.discard(name)
                unit.put(LEASES + name.encode(), None)
                continue
            holder = self.holder(limits)
            asks = holder.ask(self._short.get(name, {}), unit.now_ms, tell=told)
            if asks:
                wanted = Wanted(tenant=name, lane=lane, partition=unit.partition, asks=asks)
                key = name.encode()
                unit.emit(topic, key, encode(wanted), partition=unit.by_key(topic, key))
                self._changed.add(name)
            elif told and holder.quiet(unit.now_ms):
                self._live.discard(name)
        self._asking.clear()
        for name in sorted(self._changed):
            unit.put(LEASES + name.encode(), orjson.dumps(self._holders[name].dump()))
        self._changed.clear()

    def _go_on(self, place: bytes, topic: str, unit: UnitLike) -> None:
        one = self._waiting.pop(place)
        short = self._short[one.table]
        short.subtract(one.need)
        if not any(short.values()):
            del self._short[one.table]
        unit.put(WAITS + place, None)
        unit.emit(topic, one.key, one.order, partition=unit.partition, headers=list(one.headers))


class Gate:
    """The stage's side: what a request needs, and what becomes of one that cannot have it.

    ``prices``: of each model, with the longest answer that it gives.
    """

    def __init__(self, tenants: Tenants, prices: Mapping[str, tuple[Price, int]], lane: Lane) -> None:
        self.tenants = tenants
        self._prices = prices
        self._lane: Lane = lane

    def admit(
        self, limits: Limits, facts: RequestFacts, choice: Choice, order: Order, unit: UnitLike, *, headers: Any
    ) -> Choice | Refusal | None:
        """The choice, once all of the request's need was taken; a refusal; or ``None``: it waits, and ``order`` will bring it back, with ``headers``.

        Requests and tokens are those of the first attempt, money is of each.
        """
        leases: Leases = unit.index.leases
        place = place_of(order.origin.offset, order.attempt)
        most = self._most_nano_usd(facts, choice.model) if limits.money else 0
        first = {"requests": 1, "tokens": facts.prompt_tokens} if facts.first is None else {}
        asked: dict[Kind, int] = {"day": most, "month": most, **first}  # type: ignore[dict-item] # of a literal
        need = {kind: asked[kind] for kind in limits.kinds if asked.get(kind)}
        short = leases.take(limits, place, need, unit.now_ms)
        if short is None:
            if most:
                leases.send(limits, place, most, facts.deadline_at_ms + GRACE_MS, unit)
            return choice
        since_ms = unit.now_ms if order.parked_ms is None else order.parked_ms
        if not short.final and unit.now_ms - since_ms < WAIT_MS:
            again = encode(replace(order, parked_ms=since_ms))
            waiting = Waiting(limits.name, need, since_ms, order.request_id.encode(), again, passed_on(headers))
            if leases.wait(place, waiting, unit):
                return None
        return _refusal(limits, short, need[short.kind]) if short.final else _unanswered(limits, short)

    def _most_nano_usd(self, facts: RequestFacts, model: str) -> int:
        """What a call can cost, as far as tokens can be counted here; 0 where nobody knows the price."""
        price, longest = self._prices[model]
        if price.unpriced:
            return 0
        dearest = max(price.input_nano_usd_per_token, price.cache_write_nano_usd_per_token or 0)
        answer = min(facts.completion_tokens or longest, longest) * facts.answers
        return facts.prompt_tokens * dearest + answer * price.output_nano_usd_per_token


def place_of(offset: int, attempt: int) -> bytes:
    """Of an attempt, within a lane."""
    return offset.to_bytes(8) + attempt.to_bytes(4)


def _waiting(values: list[Any]) -> Waiting:
    table, need, since_ms, key, order, headers, *_ = values
    travels = [(name, value.encode("latin-1")) for name, value in headers]
    return Waiting(table, need, since_ms, key.encode("latin-1"), order.encode(), travels)


def _refusal(limits: Limits, short: Short, need: int) -> Refusal:
    """With the word when to try again, where it is known."""
    money = short.kind in MONEY
    code = Code.BUDGET_EXCEEDED if money else Code.RATE_LIMITED
    limit, alone = (_shown(amount, money) for amount in (limits.kinds[short.kind], need))
    what = f"the limit of {limit} {_LIMITS[short.kind]} (tenants.{limits.name})"
    if need > limits.kinds[short.kind]:
        return Refusal(code, f"this call alone may use {alone}, more than {what}")
    retry_s = -(-short.retry_ms // 1000)
    return Refusal(code, f"{what} is reached; try again in {retry_s} s", retry_s * 1000)


def _unanswered(limits: Limits, short: Short) -> Refusal:
    """Nobody has said that the limit is reached: its owner did not answer, or too many wait for him."""
    code = Code.BUDGET_EXCEEDED if short.kind in MONEY else Code.RATE_LIMITED
    limit = f"the limit of {_shown(limits.kinds[short.kind], short.kind in MONEY)} {_LIMITS[short.kind]} (tenants.{limits.name})"
    return Refusal(code, f"{limit} could not be asked in time; try again in {WAIT_MS // 1000} s", WAIT_MS)


def _shown(amount: int, money: bool) -> str:
    return f"{Decimal(amount) / 1_000_000_000:f} USD" if money else str(amount)
