"""Reads what ``explain`` and ``replay`` need from the topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.ids import partition_of
from router.contract.records import Decision, Outcome, Result
from router.contract.topics import Names
from router.history.explain import Account
from router.history.replay import Replay, Snapshots, Verdict, replay
from router.kafka.admin import partitions_of
from router.kafka.client import Client
from router.kafka.scan import scan

MOST_TOLD = 20


async def account_of(client: Client, names: Names, request_id: str) -> Account:
    """The records of one request: decisions, outcomes and result lie in the partition of its id."""
    topics = [names.of(name) for name in ("decisions", "outcomes", "results")]
    partitions = (await partitions_of(client, topics[:1])).get(topics[0], 0)
    partition = partition_of(request_id.encode(), partitions) if partitions else 0
    decisions: list[Decision] = []
    outcomes: list[Outcome] = []
    result: Result | None = None
    needle = request_id.encode()
    async for record in scan(client, topics, partition=partition):
        if record.value is None or needle not in record.value:
            continue
        try:
            if record.topic == topics[0]:
                decisions += [one for one in [decode(Decision, record.value)] if one.request_id == request_id]
            elif record.topic == topics[1]:
                outcomes += [one for one in [decode(Outcome, record.value)] if one.request_id == request_id]
            elif (found := decode(Result, record.value)).id == request_id:
                result = found
        except BadRecord:
            continue  # somebody's else; it lies in the dead letter topic
    return Account(request_id=request_id, decisions=decisions, outcomes=outcomes, result=result)


@dataclass(slots=True)
class Replays:
    """All decisions of an installation, made again. ``different``: the first of them, each with its differences."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    different: list[Replay] = field(default_factory=list)


async def replay_all(client: Client, names: Names) -> Replays:
    """Every decision that is still kept, against the snapshot it names."""
    stored: dict[str, bytes] = {}
    async for record in scan(client, [names.of("snapshots")]):
        if record.key is not None and record.value is not None:
            stored[record.key.decode()] = record.value
    snapshots, found = Snapshots(stored), Replays()
    async for value in _values(client, names.of("decisions")):
        one = replay(value, snapshots)
        found.counts[one.verdict] += 1
        if one.verdict is Verdict.DIFFERENT and len(found.different) < MOST_TOLD:
            found.different.append(one)
    return found


async def _values(client: Client, topic: str) -> AsyncIterator[bytes]:
    async for record in scan(client, [topic]):
        if record.value is not None:
            yield record.value
