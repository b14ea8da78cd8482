"""Topics and groups from outside: create what is missing, say what differs, ask for ends and lags."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from router.contract.errors import ConfigError, Unavailable
from router.kafka.client import Client

log = logging.getLogger(__name__)

MIB = 1024 * 1024
DAY_MS = 86_400_000

#: How long a coordinator may take to come up or move.
COORDINATOR_PATIENCE_S = 15.0

#: Room for what comes around the value that ``max_bytes`` speaks of: key, headers, the batch's own header.
OVERHEAD_BYTES = 64 * 1024

#: A compacted topic is read whole by whoever starts, and Kafka compacts only what is no longer the active segment.
COMPACTED = {"segment.ms": str(10 * 60_000), "segment.bytes": str(64 * MIB), "min.cleanable.dirty.ratio": "0.2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """What a topic shall be like. ``max_bytes``: of a record's value. ``append_time``: the broker stamps records."""

    partitions: int = 4
    cleanup: Literal["delete", "compact"] = "delete"
    max_bytes: int = MIB
    append_time: bool = False
    retention_ms: int = 7 * DAY_MS
    #: Copies, in a cluster of several brokers.
    replication: int = 1

    @property
    def settings(self) -> dict[str, str]:
        found = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(self.max_bytes + OVERHEAD_BYTES),
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
        }
        return found | (COMPACTED if self.cleanup == "compact" else {"retention.ms": str(self.retention_ms)})


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting of an existing topic that is not what was asked for."""

    topic: str
    setting: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.found}, not {self.wanted}"


@asynccontextmanager
async def admin_of(client: Client) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, started; ``Unavailable`` when there is no broker."""
    admin = AIOKafkaAdminClient(**client.aiokafka())
    try:
        await admin.start()
    except KafkaError as error:
        await admin.close()
        raise Unavailable(f"no Kafka broker at {client.bootstrap}: {error}") from error
    try:
        yield admin
    finally:
        await admin.close()


async def wait_reachable(client: Client, every_s: float = 1.0) -> None:
    """Until a broker answers. Says once that it waits."""
    told = False
    while True:
        try:
            async with admin_of(client):
                return
        except Unavailable as error:
            if not told:
                log.warning("waiting: %s", error)
            told = True
            await asyncio.sleep(every_s)


async def create_topics(client: Client, topics: Mapping[str, TopicSpec]) -> list[Difference]:
    """Create those that are missing; returns what differs in those that were there.

    Raises:
        ConfigError: an existing topic has another number of partitions: that is fixed for good, keys depend on it.
    """
    async with admin_of(client) as admin:
        wanted = [
            NewTopic(name, spec.partitions, spec.replication, topic_configs=spec.settings)
            for name, spec in topics.items()
        ]
        response = await admin.create_topics(wanted)
        for name, code, *message in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise Unavailable(f"cannot create topic {name}: {for_code(code).__name__} {message[0] or ''}".strip())
        existing = [name for name, code, *_ in response.topic_errors if code]
        found = await _differences(admin, {name: topics[name] for name in existing}) if existing else []
    # Metadata follows later: what was created a moment ago may seem to have no partitions yet.
    differences = [one for one in found if (one.setting, one.found) != ("partitions", "0")]
    wrong = [str(one) for one in differences if one.setting == "partitions"]
    if wrong:
        raise ConfigError(
            "; ".join(wrong) + ". The number of partitions is fixed for good: set it in the configuration to what is "
            "there, or choose another prefix"
        )
    for one in differences:
        log.warning("topic %s", one)
    return differences


async def partitions_of(client: Client, topics: Iterable[str]) -> dict[str, int]:
    """Number of partitions of each topic; 0 where there is none."""
    async with admin_of(client) as admin:
        return await _partitions(admin, topics)


async def end_offsets(client: Client, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """High watermarks: the offset after the last record, those of open transactions included."""
    consumer = client.consumer(isolation_level="read_uncommitted")
    counts = await partitions_of(client, topics)
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps) if tps else {}
        return ends
    finally:
        await consumer.stop()


async def group_lags(client: Client, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
    """Offsets between what the group has committed and the end; where it has not, all that is there counts."""
    ends = await end_offsets(client, topics)
    marks = await committed(client, group, list(ends))
    return {tp: end - max(0, marks[tp].offset) for tp, end in ends.items()}


async def committed(
    client: Client, group: str, tps: Sequence[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's commits, with their metadata (``consumer.committed`` hides it); offset -1 where there is none."""
    if not tps:
        return {}
    async with admin_of(client) as admin:
        deadline_s = time.monotonic() + COORDINATOR_PATIENCE_S
        while True:
            try:
                found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                    group, partitions=list(tps)
                )
            except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
                if time.monotonic() > deadline_s:
                    raise
            else:
                if found.keys() >= set(tps):
                    return found
                # aiokafka overlooks an error of the whole answer: then partitions are missing in it.
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"the coordinator of group {group} does not tell its offsets")
            await asyncio.sleep(0.1)  # the first group of a broker's life waits for its topic


async def _partitions(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    found = await admin.describe_topics(list(topics))
    return {one["topic"]: len(one["partitions"]) for one in found}


async def _differences(admin: AIOKafkaAdminClient, topics: Mapping[str, TopicSpec]) -> list[Difference]:
    if not topics:
        return []
    counts = await _partitions(admin, topics)
    differences = [
        Difference(name, "partitions", str(counts.get(name, 0)), str(spec.partitions))
        for name, spec in topics.items()
        if counts.get(name, 0) != spec.partitions
    ]
    there = [name for name in topics if counts.get(name, 0)]
    for name, found in (await _settings(admin, there)).items():
        for setting, wanted in topics[name].settings.items():
            if found.get(setting, wanted) != wanted:
                differences.append(Difference(name, setting, found[setting], wanted))
    return differences


async def _settings(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    if not topics:
        return {}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, one) for one in topics]):
        for _code, _message, _kind, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
