"""Dead letters: what lies there, and the way back. A record goes back to its topic once, and no request gets two results by it.

| topic | what sees to it that nothing counts twice |
|---|---|
| requests, in both lanes | the dedupe by request id; and what has a result already stays where it is, for the dedupe forgets after its window |
| outcomes | one counts per request id, attempt and model, while the id is kept: therefore none goes back a second time, whatever is said |
| feedback | one counts per token, kind and source |

Other topics are refused: what our own stages wrote would count twice, work would be done twice, and an order of last week is no order of today.

A record and the mark that it was sent (topic ``redriven``, key ``topic/partition/offset`` of the original) are written in one transaction, by a
producer whose transactional id is the same everywhere: of two redrives at a time, the first ends with an error, and the second knows all that it sent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from router.contract.codec import BadRequest, decode, decode_request, from_rfc3339, parse, to_rfc3339
from router.contract.errors import BadRecord, Unavailable
from router.contract.ids import partition_of
from router.contract.records import DeadLetter
from router.contract.topics import Names
from router.kafka.client import MAX_REQUEST_BYTES, Client
from router.kafka.scan import scan

REQUESTS = ("requests", "requests.batch")
OUTCOMES = "outcomes"
FEEDBACK = "feedback"

#: Header of a record that was sent back: ``partition/offset`` of its dead letter.
HEADER = "redriven"

#: So many commits a second, whatever the rate.
COMMITS_A_SECOND = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dead letter lies in its topic, written ``partition/offset``."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """``at_ms``: when it was written. ``key``: of the original, its beginning if that was cut; ``None`` for none, or where it cannot be read."""

    place: Place
    at_ms: int
    record: DeadLetter
    key: bytes | None

    @property
    def origin(self) -> str:
        """``topic/partition/offset`` of the original."""
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"

    def value(self) -> bytes | None:
        """The original's value as far as it was kept. Raises ``BadRecord`` where it is no base64."""
        return _unpacked(self.record.value_base64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters; ``None`` and empty: any. ``topic``: full name of the original's. Times are of the letter, in ms; ``until_ms`` is excluded."""

    reason: str | None = None
    stage: str | None = None
    topic: str | None = None
    key: bytes | None = None
    since_ms: int = 0
    until_ms: int | None = None
    places: frozenset[Place] = frozenset()

    def holds(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        record = letter.record
        return (
            self.reason in (None, record.reason.code)
            and self.stage in (None, record.stage)
            and self.topic in (None, record.topic)
            and self.key in (None, letter.key)
            and self.since_ms <= letter.at_ms
            and (self.until_ms is None or letter.at_ms < self.until_ms)
            and (not self.places or letter.place in self.places)
        )


def read(record: ConsumerRecord) -> Letter | None:
    """The letter in a record of the dead-letter topic; ``None`` for what is none: anybody may write there."""
    try:
        found = decode(DeadLetter, record.value)
        at_ms = from_rfc3339(found.at)
        key = _unpacked(found.key_base64)
    except (BadRecord, ValueError):
        return None
    return Letter(Place(record.partition, record.offset), at_ms, found, key)


def _unpacked(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecord(f"no base64: {error}") from None


async def letters(client: Client, names: Names, wanted: Wanted) -> AsyncIterator[Letter]:
    """The letters that are wanted, in order within a partition. Raises ``Unavailable`` without a broker or the topic."""
    async for record in scan(client, [names.of("dead-letter")]):
        letter = read(record)
        if letter is not None and wanted.holds(letter):
            yield letter


async def marks(client: Client, names: Names) -> set[str]:
    """Origins of what was sent back already."""
    return {
        record.key.decode("utf-8", "replace") async for record in scan(client, [names.of("redriven")]) if record.key
    }


def hindrance(letter: Letter, names: Names) -> str | None:
    """Why it can never go back, or ``None``."""
    record = letter.record
    if record.topic not in [names.of(name) for name in (*REQUESTS, OUTCOMES, FEEDBACK)]:
        return "only requests, outcomes and feedback go back to their topic"
    if record.truncated:
        return (
            f"cut: the original has {record.value_bytes} bytes, not all are here; send it again from where it came from"
        )
    try:
        return None if letter.value() else "it has no value"
    except BadRecord as error:
        return f"its value is {error}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of a letter between choosing and sending, the value not. ``request_id``: of a request, where it has one."""

    place: Place
    origin: str
    request_id: str | None


def seen(letter: Letter, names: Names) -> Seen:
    """Of a letter without hindrance."""
    is_request = letter.record.topic in [names.of(name) for name in REQUESTS]
    return Seen(letter.place, letter.origin, _request_id(letter.value()) if is_request else None)


def _request_id(value: bytes | None) -> str | None:
    try:
        return decode_request(value).request_id
    except BadRequest as error:
        return error.request_id


@dataclass(slots=True)
class Plan:
    """What a redrive does with the letters that are wanted. ``refused``: place -> why. ``origins``: of ``send``; several stages may have given up one."""

    send: list[Seen] = field(default_factory=list)
    before: list[Place] = field(default_factory=list)
    answered: list[Place] = field(default_factory=list)
    refused: dict[Place, str] = field(default_factory=dict)
    origins: set[str] = field(default_factory=set)


def add(plan: Plan, letter: Letter, names: Names, sent: set[str], *, again: bool) -> None:
    """Put a letter where it belongs, as far as it can be told without results."""
    why = hindrance(letter, names)
    if why is not None:
        plan.refused[letter.place] = why
        return
    repeated = letter.origin in sent and not (again and letter.record.topic != names.of(OUTCOMES))
    if repeated or letter.origin in plan.origins:
        plan.before.append(letter.place)
        return
    plan.send.append(seen(letter, names))
    plan.origins.add(letter.origin)


def leave_out(plan: Plan, answered: set[str]) -> None:
    """Leave requests alone that have a result. ``answered``: request ids."""
    plan.answered += [one.place for one in plan.send if one.request_id in answered]
    plan.send = [one for one in plan.send if one.request_id not in answered]


async def plan_of(client: Client, names: Names, wanted: Wanted, *, again: bool = False) -> Plan:
    """What is to be done, from all that is committed now."""
    plan, sent = Plan(), await marks(client, names)
    async for letter in letters(client, names, wanted):
        add(plan, letter, names, sent, again=again)
    ids = {one.request_id for one in plan.send if one.request_id is not None}
    if ids:
        leave_out(plan, {one async for one in _results(client, names) if one in ids})
    return plan


async def _results(client: Client, names: Names) -> AsyncIterator[str]:
    """Request ids of all results that are kept."""
    async for record in scan(client, [names.of("results")]):
        for name, value in record.headers:
            if name == "id" and value is not None:
                yield bytes(value).decode("ascii", "replace")


async def redrive(
    client: Client, names: Names, wanted: Wanted, *, again: bool = False, per_s: float = 100.0, now_ms: int
) -> Plan:
    """Send back what is wanted, ``per_s`` records a second at most. What comes back was done, as ``Plan.send`` tells.

    Raises:
        Unavailable: no broker, a topic is missing, or somebody else began to redrive meanwhile. What was sent until then is marked.
    """
    producer = client.producer(
        names.of("requests"), transactional_id=f"{names.prefix}-redrive", max_request_size=MAX_REQUEST_BYTES
    )
    try:
        await producer.start()  # from here on an earlier one cannot commit any more: what it did is what can be read
        plan = await plan_of(client, names, wanted, again=again)
        await _send(client, names, producer, plan.send, per_s=per_s, now_ms=now_ms)
    except KafkaError as error:
        raise Unavailable(
            f"redrive at {client.bootstrap} ended, perhaps because another one began: {error!r}"
        ) from None
    finally:
        await producer.stop()
    return plan


async def _send(
    client: Client, names: Names, producer: AIOKafkaProducer, chosen: Iterable[Seen], *, per_s: float, now_ms: int
) -> None:
    places = {one.place for one in chosen}
    together, waiting = max(1, int(per_s / COMMITS_A_SECOND)), list[Letter]()
    if not places:
        return
    async for letter in letters(client, names, Wanted(places=frozenset(places))):
        waiting.append(letter)
        places.discard(letter.place)
        if len(waiting) >= together or not places:
            await _commit(names, producer, waiting, now_ms)
            if places:
                await asyncio.sleep(len(waiting) / per_s)
            waiting.clear()
        if not places:
            return


async def _commit(names: Names, producer: AIOKafkaProducer, found: list[Letter], now_ms: int) -> None:
    """Records and marks, all or nothing."""
    redriven = names.of("redriven")
    mark = orjson.dumps({"at": to_rfc3339(now_ms)})
    async with producer.transaction():
        written: list[asyncio.Future[Any]] = []
        try:
            for letter in found:
                topic = letter.record.topic
                partition = _partition(letter, names, len(await producer.partitions_for(topic)))
                headers = [(HEADER, str(letter.place).encode())]
                written.append(
                    await producer.send(topic, letter.value(), key=letter.key, partition=partition, headers=headers)
                )
                written.append(await producer.send(redriven, mark, key=letter.origin.encode()))
        finally:
            said = await asyncio.gather(*written, return_exceptions=True)
        for one in said:  # a record that the broker does not take takes its mark with it
            if isinstance(one, BaseException):
                raise one


def _partition(letter: Letter, names: Names, partitions: int) -> int:
    """Where it lay; an outcome where its request is settled, for the wrong partition may be why it is here."""
    if letter.record.topic == names.of(OUTCOMES):
        return partition_of(_settled_by(letter), partitions)
    return letter.record.partition % partitions


def _settled_by(letter: Letter) -> bytes:
    try:
        found: Any = parse(letter.value()).get("request_id")
    except BadRecord:
        found = None
    return found.encode("utf-8", "surrogatepass") if isinstance(found, str) else letter.key or b""
