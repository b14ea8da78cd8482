"""Which prompts wait in a lane to be counted exactly, and whose turn it is: a megabyte takes 0.2 s, and nobody else waits for it.

    read, too long to be counted there -> [ wait ] -> counted beside the lane, tenants in turn -> redispatch, into the lane's own partition -> decided

A request waits in the table, as its place in the log, and is read again with its count: so decisions are made of what the log has, as always, and a
crash loses nothing but a count that was under way. Texts are not kept: a tenant that sends thousands of long prompts costs a row for each.

Rows: ``n`` + place -> ``[tenant, characters, key, order, headers]``. A place is the request's offset, the attempt, and four bytes of the topic:
shadows of interactive requests lie among batch requests.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson
import xxhash

from router.contract.codec import decode, encode
from router.contract.requests import BadRequest, decode_request
from router.core.prompt import read_body
from router.core.records import Order
from router.core.tokens import TokenCount
from router.kafka.aside import Aside
from router.kafka.unit import UnitLike
from router.stages.headers import passed_on
from router.stages.route_leases import place_of

log = logging.getLogger(__name__)

WAITS: Final = b"n"
#: Requests of a lane that may wait at once, and of one tenant: rows of some hundred bytes.
MAX_WAITING: Final = 2_000
MAX_OF_TENANT: Final = MAX_WAITING // 4
#: Characters that one tenant may have waiting in a lane: some ten seconds' worth.
MAX_CHARS_OF_TENANT: Final = 48 * 2**20
#: Characters, and requests, that a lane has counted ahead of its next tick. A tenant that has its turn waits for no more than these.
AHEAD_CHARS, AHEAD = 2**20, 8

Counting = Aside[TokenCount | None]


class Waiting(NamedTuple):
    """A request whose prompt has so many ``chars``. ``order``: that by which it will be read again."""

    tenant: str
    chars: int
    key: bytes
    order: Order
    headers: Sequence[tuple[str, bytes]]


class Counts:
    """Of one lane. ``len()``: how many wait."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._waiting: dict[bytes, Waiting] = {}
        #: Those not asked yet, by tenant, oldest first; the tenant whose turn it is first.
        self._turns: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()
        self._asked: dict[bytes, int] = {}
        self._of_tenant: dict[str, list[int]] = {}
        for key, value in sorted(rows):  # by offset: as they came
            if key[:1] == WAITS:
                self._add(key[1:], _waiting(orjson.loads(value)))

    def __len__(self) -> int:
        return len(self._waiting)

    def room(self, tenant: str, chars: int) -> bool:
        """Whether one more request of the tenant may wait."""
        requests, waits = self._of_tenant.get(tenant, (0, 0))
        return (
            len(self._waiting) < MAX_WAITING
            and requests < MAX_OF_TENANT
            and (not requests or waits + chars <= MAX_CHARS_OF_TENANT)
        )

    def wait(self, order: Order, *, tenant: str, chars: int, headers: Any, unit: UnitLike) -> None:
        """Let a request wait until its prompt is counted; ``order`` will bring it back."""
        place = place_of(order.origin.offset, order.attempt) + xxhash.xxh32_digest(order.origin.topic.encode())
        if place in self._waiting:
            return  # the same order, twice
        waiting = Waiting(tenant, chars, order.request_id.encode(), order, passed_on(headers))
        self._add(place, waiting)
        unit.put(WAITS + place, _row(waiting))

    def tick(self, counting: Counting, topic: str, unit: UnitLike) -> None:
        """Those that were counted go on, to ``topic``; others have their turn."""
        for place, found in counting.take(unit.partition).items():
            if place in self._waiting:  # else it was asked before the partition was elsewhere
                self._go_on(place, found, topic, unit)
        chars = sum(self._asked.values())
        while self._turns and len(self._asked) < AHEAD and (not self._asked or chars < AHEAD_CHARS):
            tenant, places = self._turns.popitem(last=False)
            place, _ = places.popitem(last=False)
            if places:
                self._turns[tenant] = places
            waiting = self._waiting[place]
            self._asked[place] = waiting.chars
            chars += waiting.chars
            origin = waiting.order.origin
            counting.ask(unit.partition, place, (origin.topic, origin.partition, origin.offset))

    def _add(self, place: bytes, waiting: Waiting) -> None:
        self._waiting[place] = waiting
        self._turns.setdefault(waiting.tenant, OrderedDict())[place] = None
        sums = self._of_tenant.setdefault(waiting.tenant, [0, 0])
        sums[0] += 1
        sums[1] += waiting.chars

    def _go_on(self, place: bytes, found: TokenCount | None, topic: str, unit: UnitLike) -> None:
        waiting = self._waiting.pop(place)
        self._asked.pop(place, None)
        if (places := self._turns.get(waiting.tenant)) is not None:
            places.pop(place, None)
            if not places:
                del self._turns[waiting.tenant]
        sums = self._of_tenant[waiting.tenant]
        sums[0] -= 1
        sums[1] -= waiting.chars
        if not sums[0]:
            del self._of_tenant[waiting.tenant]
        order = waiting.order
        if found is not None:  # else its body is gone, as whoever reads the order will find
            order = replace(order, counted=found.tokens, counted_inexact=found.estimated)
        unit.put(WAITS + place, None)
        unit.emit(topic, waiting.key, encode(order), partition=unit.partition, headers=list(waiting.headers))


def exactly(record: Any) -> TokenCount | None:
    """What ``Counting`` does: prompt tokens of a request's record, all of them; ``None`` where there is none to be counted."""
    if record is None:
        return None
    try:
        return read_body(decode_request(record.value).request.body).tokens(exact=True)
    except BadRequest:
        return None
    except BaseException:  # a panic of the tokeniser is no Exception
        log.exception("a prompt of %d bytes cannot be counted: it is taken to have a token a byte", len(record.value))
        return TokenCount(len(record.value), estimated=True)


def _row(waiting: Waiting) -> bytes:
    headers = [[name, value.decode("latin-1")] for name, value in waiting.headers]
    order = encode(waiting.order).decode()
    return orjson.dumps([waiting.tenant, waiting.chars, waiting.key.decode("latin-1"), order, headers])


def _waiting(values: Sequence[Any]) -> Waiting:
    tenant, chars, key, order, headers = values
    travels = [(name, value.encode("latin-1")) for name, value in headers]
    return Waiting(tenant, chars, key.encode("latin-1"), decode(Order, order.encode()), travels)
