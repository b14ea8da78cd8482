"""Feedback from a file: checked line by line before any of it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson
from aiokafka.errors import KafkaError

from router.contract.codec import decode, encode
from router.contract.errors import BadRecord, ConfigError, Unavailable
from router.contract.records import Feedback
from router.kafka.client import Client

SEND_RECORDS = 1000


def unsaid(line: bytes) -> bool:
    """Whether a line is an answer of ``cascade sample`` that nobody has labelled yet."""
    if b'"value":null' not in line.replace(b" ", b""):
        return False
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and "value" in found and found["value"] is None


def parse(lines: Iterable[bytes], name: str) -> Iterator[Feedback]:
    """One feedback a line; empty lines, and those without a value yet, are passed over.

    Raises:
        ConfigError: names the line and what is wrong with it.
    """
    for number, line in enumerate(lines, 1):
        if line.strip() and not unsaid(line):
            try:
                yield decode(Feedback, line)
            except BadRecord as error:
                raise ConfigError(f"{name}: line {number}: {error}") from None


async def send(client: Client, topic: str, feedback: Sequence[Feedback]) -> None:
    """Produce; returns when the cluster has it all. Whether it counts is the feedback stage's to say."""
    producer = client.producer(topic, linger_ms=5)
    try:
        await producer.start()
        for start in range(0, len(feedback), SEND_RECORDS):
            for one in feedback[start : start + SEND_RECORDS]:
                key = (one.request_id or one.feedback_token or "").encode()[-32:]
                await producer.send(topic, encode(one), key=key)
            await producer.flush()
    except KafkaError as error:
        raise Unavailable(f"no Kafka at {client.bootstrap}: {error}") from None
    finally:
        await producer.stop()
