"""Reads what ``explain`` and ``replay`` need from the topics: everything committed up to now, once, without a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from router.contract.codec import decode
from router.contract.errors import BadRecord, Unavailable
from router.contract.ids import partition_of
from router.contract.records import Decision, Outcome, Result
from router.contract.topics import Names
from router.history.explain import Account
from router.history.replay import Replay, Snapshots, replay
from router.kafka.admin import partitions_of
from router.kafka.client import Client

Take = Callable[[Any], None]


async def fetch_account(client: Client, names: Names, request_id: str) -> Account:
    """All that decisions, outcomes and results say of a request. They meet in the partition of its id, so one is read.

    Raises:
        Unavailable: there is no such installation on this cluster.
    """
    decisions: list[Decision] = []
    outcomes: list[Outcome] = []
    results: list[Result] = []
    key = request_id.encode()
    takers: dict[str, Take] = {
        names.of("decisions"): lambda record: _keep(record, record.key == key, Decision, decisions),
        names.of("outcomes"): lambda record: _keep(record, record.key == key, Outcome, outcomes),
        names.of("results"): lambda record: _keep(record, dict(record.headers).get("id") == key, Result, results),
    }
    counts = await _counts(client, takers)
    parts = [TopicPartition(topic, partition_of(key, count)) for topic, count in counts.items()]
    await _read(client, parts, takers)
    return Account(
        request_id=request_id, decisions=decisions, outcomes=outcomes, result=results[0] if results else None
    )


async def replay_all(
    client: Client, names: Names, take: Callable[[Replay], None], request_id: str | None = None
) -> None:
    """Replay every decision that is kept, or those of one request, in the order of each partition.

    Raises:
        Unavailable: there is no such installation on this cluster.
    """
    decisions, snapshots = names.of("decisions"), names.of("snapshots")
    counts = await _counts(client, [decisions, snapshots])
    stored: dict[str, bytes] = {}
    await _read(client, _parts(counts, snapshots), {snapshots: lambda record: _store(record, stored)})
    known = Snapshots(stored)
    key = None if request_id is None else request_id.encode()
    parts = _parts(counts, decisions)
    if key is not None:
        parts = [parts[partition_of(key, len(parts))]]

    def again(record: Any) -> None:
        if key is None or record.key == key:
            take(replay(record.value, known))

    await _read(client, parts, {decisions: again})


def _keep(record: Any, wanted: bool, kind: type[Any], found: list[Any]) -> None:
    if wanted:
        try:
            found.append(decode(kind, record.value))
        except BadRecord:
            return  # it went to the dead letter


def _store(record: Any, stored: dict[str, bytes]) -> None:
    if record.key is not None:
        stored[record.key.decode("utf-8", "replace")] = record.value


def _parts(counts: Mapping[str, int], topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(counts[topic])]


async def _counts(client: Client, topics: Iterable[str]) -> dict[str, int]:
    wanted = list(topics)
    counts = await partitions_of(client, wanted)
    if missing := [topic for topic in wanted if not counts.get(topic)]:
        raise Unavailable(f"there is no topic {missing[0]}: `pointsman topics create` makes it")
    return counts


async def _read(client: Client, parts: list[TopicPartition], takers: Mapping[str, Take]) -> None:
    """Give each committed record of these partitions to its topic's taker, from the first kept to the end of now."""
    consumer = AIOKafkaConsumer(
        isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest", **client.aiokafka()
    )
    await consumer.start()
    try:
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        begins = await consumer.beginning_offsets(parts)
        left = {part for part in parts if begins[part] < ends[part]}
        while left:
            for part, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                for record in records:
                    if record.value is not None:
                        takers[part.topic](record)
            left = {part for part in left if await consumer.position(part) < ends[part]}
    finally:
        await consumer.stop()
