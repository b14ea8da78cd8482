"""The Kafka of an installation: where it is, how to log in, its topics. Light: commands import it, no stage does."""

from __future__ import annotations

from pathlib import Path

from router.config import Config, sasl_password
from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.kafka import admin
from router.kafka.client import Client, Security

#: In the data folder: where the embedded broker of ``up`` listens.
BROKER_FILE = "broker"


def client_of(config: Config) -> Client:
    """The Kafka that the configuration names, else the one that ``pointsman up`` runs in the data folder.

    Raises:
        ConfigError: there is neither.
    """
    kafka = config.kafka
    if kafka.broker:
        return Client(kafka.broker, _security(config))
    place = kafka.data_dir / BROKER_FILE
    try:
        return Client(place.read_text().strip(), None)
    except FileNotFoundError:
        raise ConfigError(
            f"no broker: `pointsman up` starts one (and notes it in {place}), --broker HOST:PORT names one"
        ) from None


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


async def create_topics(client: Client, config: Config) -> tuple[int, int]:
    """Create what is missing; how many were, and how many were there."""
    wanted = {
        name: admin.TopicSpec(
            partitions=config.kafka.partitions,
            replication=config.kafka.replication_factor,
            cleanup=topic.cleanup,
            max_bytes=topic.max_bytes,
            append_time=topic.append_time,
            retention_ms=topic.retention_ms,
        )
        for name, topic in Names(config.kafka.prefix).all(list(config.models)).items()
    }
    missing = [one for one in await admin.describe(client, wanted) if one.found == "0"]
    await admin.create_topics(client, wanted)
    return len(missing), len(wanted) - len(missing)


async def check_partitions(client: Client, config: Config) -> None:
    """Refuse to work on topics that somebody has given more partitions: keys would no longer meet.

    Raises:
        ConfigError: names each of them.
    """
    wanted = config.kafka.partitions
    counts = await admin.partitions_of(client, Names(config.kafka.prefix).all(list(config.models)))
    if wrong := [f"{name} has {count}" for name, count in sorted(counts.items()) if count not in {0, wanted}]:
        raise ConfigError(
            f"kafka.partitions is {wanted}, but {', '.join(wrong)}. The number is fixed for good, since what belongs "
            "together meets by it: set kafka.partitions to what all topics have, or take another kafka.prefix and "
            "`pointsman topics create`"
        )
