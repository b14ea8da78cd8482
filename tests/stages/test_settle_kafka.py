"""Settle on a real broker: through a restart, and past the audit, which reads the topics itself."""

import asyncio
import time

import orjson
from aiokafka import AIOKafkaProducer

from router.config import loads
from router.contract.ids import partition_of, request_id
from router.contract.records import Origin
from router.contract.topics import Names
from router.core.slip import Keyring, Slip, sign
from router.history.audit import Ledger, ListPrice, judge, read_topics
from router.kafka.admin import TopicSpec, create_topics, end_offsets
from router.kafka.stage_app import new_stage_app
from router.stages.context import Context
from router.stages.settle import build

CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[pools.auto]
models = ["small"]
"""
RING = Keyring((b"k" * 32,))
REQUESTS = 200


async def test_one_result_each_also_after_a_restart_and_the_audit_agrees(client, prefix, tmp_path):
    names = Names(prefix)
    context = Context(config=loads(CONFIG), client=client, keyring=RING, names=names, partitions=4)
    (stage,) = build(context)
    topics = {
        name: TopicSpec(max_bytes=topic.max_bytes, append_time=topic.append_time, cleanup=topic.cleanup)
        for name, topic in names.all(["small"]).items()
    }
    await create_topics(client, topics)
    async with AIOKafkaProducer(**client.aiokafka()) as producer:
        slips = [await decided(producer, names, number) for number in range(REQUESTS)]
        app = new_stage_app(stage, client, partitions=4, data_dir=tmp_path, session_timeout_s=3.0)
        await app.start()
        for slip in slips[: REQUESTS // 2]:
            await answered(producer, names, slip)
        await written(client, names.of("usage"), REQUESTS // 2)
        await app.stop()
        (stage,) = build(context)
        app = new_stage_app(stage, client, partitions=4, data_dir=tmp_path, session_timeout_s=3.0)
        await app.start()
        try:
            for slip in slips:
                await answered(producer, names, slip)
            await written(client, names.of("usage"), REQUESTS)
        finally:
            await app.stop()
    ledger = Ledger(names, {"small": ListPrice(prompt=100, completion=400)})
    await read_topics(ledger, client)
    report = judge(ledger, now_ms=time.time_ns() // 1_000_000, window_ms=86_400_000)
    # Half of the outcomes were produced twice, and nobody counted windows here; all else agrees.
    assert {problem.split()[0] for problem in report.problems} == {"outcome", "metrics", "..."}
    assert (report.figures["results"], report.figures["ok"], report.figures["doubled"]) == (REQUESTS, REQUESTS, 0)
    assert len(ledger.usage) == REQUESTS


async def decided(producer, names, number):
    """A request and its decision, as route would leave them."""
    custom_id = f"r-{number}"
    id_ = request_id("default", custom_id)
    body = {"custom_id": custom_id, "body": {"messages": [{"role": "user", "content": "2+2"}]}}
    request = await producer.send_and_wait(names.of("requests"), orjson.dumps(body), key=b"k", partition=number % 4)
    slip = Slip(
        request_id=id_,
        attempt=1,
        model="small",
        reason="routed",
        origin=Origin(topic=request.topic, partition=request.partition, offset=request.offset),
        at_ms=request.timestamp,
        deadline_at_ms=request.timestamp + 60_000,
        key=b"k",
        tenant="default",
        custom_id=custom_id,
        metadata=None,
        lane="interactive",
        pool="auto",
        cohort="pilot",
        propensity=1.0,
        policy_version="p:1",
        first_model="small",
    )
    origin = {"topic": request.topic, "partition": request.partition, "offset": request.offset}
    value = {"request_id": id_, "attempt": 1, "model": "small", "reason": "routed", "origin": origin, "error": None}
    headers = [("slip", sign(slip, RING).encode())]
    await produced(producer, names.of("decisions"), id_, value, headers)
    return slip


async def answered(producer, names, slip):
    value = {
        "request_id": slip.request_id,
        "attempt": 1,
        "model": "small",
        "status": "ok",
        "slip": sign(slip, RING),
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "body": {"choices": []},
    }
    await produced(producer, names.of("outcomes"), slip.request_id, value, [])


async def produced(producer, topic, id_, value, headers):
    key = id_.encode()
    await producer.send_and_wait(topic, orjson.dumps(value), key=key, partition=partition_of(key, 4), headers=headers)


async def written(client, topic, count):
    """Wait until a topic holds so many records; markers of transactions count too, so this waits on, for stillness."""
    async with asyncio.timeout(60):
        before = -1
        while (now := sum((await end_offsets(client, [topic])).values())) < count or now != before:
            before = now
            await asyncio.sleep(0.5)
