"""The programs in ``examples/`` keep to the contract, on a real Kafka."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from router.contract.codec import decode, decode_request, encode
from router.contract.ids import request_id
from router.contract.records import Attempt, Outcome, Response, Result, ResultRouter, Work
from router.contract.topics import Names
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PATIENCE_S = 30


@asynccontextmanager
async def clients(client: Client, topic: str) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    """A producer, and a consumer of all of ``topic``."""
    producer = AIOKafkaProducer(**client.aiokafka())
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="earliest", **client.aiokafka())
    async with producer, consumer:
        yield producer, consumer


async def read(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    return [await asyncio.wait_for(consumer.getone(), PATIENCE_S) for _ in range(count)]


def start(example: str, prefix: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    return subprocess.Popen(command, env={**os.environ, "PREFIX": prefix}, text=True, stdout=subprocess.PIPE)


def work(number: int, **changes: object) -> bytes:
    body = {"model": "auto", "messages": [{"role": "user", "content": "three words here"}]}
    facts = {
        "request_id": request_id("t", str(number)),
        "attempt": 1,
        "model": "words",
        "provider_model": "words-1",
        "url": "/v1/chat/completions",
        "body": body,
        "deadline_at_ms": int(time.time() * 1000) + 60_000,
        "reason": "routed",
        "outcome_partition": number,
        "slip": f"slip {number}",
    }
    return encode(Work(**{**facts, **changes}))


async def test_the_minimal_worker_gives_an_outcome_for_each_attempt_in_the_partition_it_was_told(
    client: Client, prefix: str
) -> None:
    names = Names(prefix)
    topics = [names.work("words"), names.work("words", "batch"), names.of("outcomes")]
    await create_topics(client, {topic: TopicSpec() for topic in topics})
    worker = start("worker_minimal.py", prefix, "words", client.bootstrap)
    try:
        async with clients(client, names.of("outcomes")) as (producer, consumer):
            traced = [("traceparent", b"00-trace")]
            await producer.send_and_wait(topics[0], work(0), headers=traced)
            await producer.send_and_wait(topics[1], work(1, deadline_at_ms=1))
            await producer.send_and_wait(topics[0], work(2, body={"messages": "not a list"}))
            records = sorted(await read(consumer, 3), key=lambda record: record.partition)
    finally:
        worker.terminate()
        worker.communicate()
    outcomes = [decode(Outcome, record.value) for record in records]
    assert [record.partition for record in records] == [0, 1, 2]
    assert [outcome.slip for outcome in outcomes] == ["slip 0", "slip 1", "slip 2"]
    assert [outcome.status for outcome in outcomes] == ["ok", "timeout", "error"]
    assert [record.key.decode() for record in records] == [outcome.request_id for outcome in outcomes]
    assert records[0].headers == tuple(traced)


def result(custom_id: str) -> bytes:
    attempt = Attempt(
        attempt=1,
        model="words",
        endpoint=None,
        served_model=None,
        status="ok",
        reason="routed",
        latency_ms=5,
        cost_nano_usd=7,
        price_version=None,
    )
    id_ = request_id("example", custom_id)
    facts = ResultRouter(
        tenant="example",
        pool="auto",
        model="words",
        stratum="general/easy",
        cohort="pilot",
        propensity=1.0,
        policy_version="fixed:1",
        cost_nano_usd=7,
        cost_unknown=False,
        latency_ms=12,
        feedback_token=None,
        metadata=None,
        attempts=[attempt],
    )
    response = Response(status_code=200, request_id=id_, body={})
    return encode(Result(id=id_, custom_id=custom_id, response=response, error=None, router=facts))


async def test_the_example_client_sends_valid_requests_and_shows_each_result(client: Client, prefix: str) -> None:
    names = Names(prefix)
    await create_topics(client, {names.of(name): TopicSpec() for name in ("requests", "results")})
    example = start("produce_and_consume.py", prefix, client.bootstrap, "3")
    async with clients(client, names.of("requests")) as (producer, consumer):
        requests = [decode_request(record.value).request for record in await read(consumer, 3)]
        for request in requests:
            await producer.send_and_wait(names.of("results"), result(request.custom_id))
    printed, _ = await asyncio.to_thread(example.communicate, timeout=PATIENCE_S)
    assert example.returncode == 0
    assert sorted(line.split()[0] for line in printed.splitlines()) == sorted(one.custom_id for one in requests)
    assert all("7 nano-USD" in line for line in printed.splitlines())
