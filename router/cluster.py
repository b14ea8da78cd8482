"""The Kafka of an installation: where it is, how to log in, its topics. Light: commands import it, no stage does."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.config import Config, sasl_password
from router.contract.errors import ConfigError
from router.contract.topics import DAY_MS, HOUR_MS, Names
from router.kafka import admin
from router.kafka.client import Client, Codec, Security

#: In the data folder: where the embedded broker of ``up`` listens.
BROKER_FILE = "broker"

#: Of new topics, when the configuration does not say: some processes a stage can share them.
PARTITIONS = 4
#: The same on the embedded broker. There each stage is one process, and every partition more is a commit more: with four, a
#: request waits two to six times as long, and a batch takes half as long again (``benchmarks/latency.py --partitions 4``).
EMBEDDED_PARTITIONS = 1

#: With ``compression = "auto"``: of topics that only we read (``docs/scale.md``, Compression).
OWN_CODEC: Codec = "snappy"

log = logging.getLogger(__name__)


def client_of(config: Config) -> Client:
    """The Kafka that the configuration names, else the one that ``pointsman up`` runs in the data folder.

    Raises:
        ConfigError: there is neither.
    """
    kafka = config.kafka
    if kafka.broker:
        return Client(kafka.broker, _security(config), _codec(config))
    place = kafka.data_dir / BROKER_FILE
    try:
        return Client(place.read_text().strip(), None, _codec(config))
    except FileNotFoundError:
        raise ConfigError(
            f"no broker: `pointsman up` starts one (and notes it in {place}), --broker HOST:PORT names one"
        ) from None


def _codec(config: Config) -> Callable[[str], Codec]:
    """Of each topic, as ``kafka.compression`` has it."""
    asked, names = config.kafka.compression, Names(config.kafka.prefix)
    if asked != "auto":
        return lambda _: asked
    return lambda topic: "none" if names.read_elsewhere(topic) else OWN_CODEC


def _security(config: Config) -> Security | None:
    kafka = config.kafka
    if kafka.security_protocol == "PLAINTEXT":
        return None
    return Security(
        protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_username,
        password=sasl_password(config),
        cafile=_text(kafka.ssl_cafile),
        certfile=_text(kafka.ssl_certfile),
        keyfile=_text(kafka.ssl_keyfile),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


@dataclass(frozen=True, slots=True)
class Topics:
    """What ``create_topics`` found and did. ``partitions``: of each topic."""

    created: int
    there: int
    partitions: int

    def __str__(self) -> str:
        return f"{self.created} topics created, {self.there} were there; partitions of each: {self.partitions}"


async def create_topics(client: Client, config: Config) -> Topics:
    """Create what is missing.

    Raises:
        ConfigError: one that is there has another number of partitions.
    """
    there = await partitions_there(client, config)
    fresh = config.kafka.partitions or (PARTITIONS if config.kafka.broker else EMBEDDED_PARTITIONS)
    partitions = max(there.values()) or fresh
    names = Names(config.kafka.prefix)
    otherwise_ms = _kept_ms(config, names)
    wanted = {
        name: admin.TopicSpec(
            partitions=partitions,
            replication=config.kafka.replication_factor,
            cleanup=topic.cleanup,
            max_bytes=topic.max_bytes,
            append_time=topic.append_time,
            retention_ms=otherwise_ms.get(name, topic.retention_ms),
        )
        for name, topic in names.all(list(config.models)).items()
    }
    _refuse_short(config, names, await admin.create_topics(client, wanted))
    missing = sum(not count for count in there.values())
    return Topics(missing, len(wanted) - missing, partitions)


def _kept_ms(config: Config, names: Names) -> dict[str, int]:
    """By topic, how long records are kept where that is not as the registry says; what tells that a review is done no shorter than the item."""
    reviews_ms = config.reviews.retention_days * DAY_MS
    found = {names.of(name): reviews_ms for name in ("reviews", "reviews.wanted")}
    found |= {names.of(name): max(reviews_ms, 7 * DAY_MS) for name in ("feedback.counted", "pairs")}
    for name, hours in config.kafka.retention_hours.items():
        works = [names.work(model, lane) for model in config.models for lane in ("interactive", "batch")]
        found |= dict.fromkeys(works if name == "work" else [names.of(name)], hours * HOUR_MS)
    return found


def kept_ms(config: Config) -> dict[str, int]:
    """Retention of every topic that is not compacted, by full name, as `topics create` makes it."""
    names = Names(config.kafka.prefix)
    every = names.all(list(config.models)).items()
    return {name: topic.retention_ms for name, topic in every if topic.cleanup == "delete"} | _kept_ms(config, names)


def _refuse_short(config: Config, names: Names, differences: Sequence[admin.Difference]) -> None:
    """``ConfigError`` when a topic that is there forgets what is still needed. -1 is for ever."""
    registry = names.all(list(config.models))
    short = [
        f"{one.topic}: retention.ms is {one.found}, and {least_ms} is the least"
        for one in differences
        if one.setting == "retention.ms" and 0 <= int(one.found) < (least_ms := registry[one.topic].least_retention_ms)
    ]
    if short:
        raise ConfigError("; ".join(short) + ": a request's body would be gone before its answer is there")


async def partitions_there(client: Client, config: Config) -> dict[str, int]:
    """How many partitions each topic of the installation has: all that are there the same, 0 those that are not.

    Raises:
        ConfigError: names each topic that has another number than ``kafka.partitions``, or than most when that is not set:
            somebody has given it more, and keys would no longer meet.
    """
    found = await admin.partitions_of(client, Names(config.kafka.prefix).all(list(config.models)))
    counts = {name: count for name, count in sorted(found.items()) if count}
    if not counts:
        return found
    wanted = config.kafka.partitions
    usual = wanted or Counter(counts.values()).most_common(1)[0][0]
    if wrong := [f"{name} has {count}" for name, count in counts.items() if count != usual]:
        expected = (
            f"kafka.partitions is {usual}" if wanted else f"the topics of this installation have {usual} partitions"
        )
        raise ConfigError(
            f"{expected}, but {', '.join(wrong)}. The number is fixed for good, since what belongs together meets by it: "
            "set kafka.partitions to what all topics have, or take another kafka.prefix and `pointsman topics create`"
        )
    return found


async def wait_for_topics(client: Client, config: Config, every_s: float = 1.0) -> int:
    """Until a broker answers and has the topics; how many partitions each has. Says once what it waits for.

    Raises:
        ConfigError: as ``partitions_there``.
    """
    await admin.wait_reachable(client, every_s)
    told = False
    while not (count := max((await partitions_there(client, config)).values())):
        if not told:
            log.warning(
                "waiting: no topic %s.* at %s yet: `pointsman topics create`", config.kafka.prefix, client.bootstrap
            )
        told = True
        await asyncio.sleep(every_s)
    return count
