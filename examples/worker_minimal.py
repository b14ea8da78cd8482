"""A worker in plain aiokafka: it answers the work of one model by itself, here by counting words.

Run ``python examples/worker_minimal.py MODEL [HOST:PORT]``.

It is the whole of what a worker in another language does; docs/writing-a-worker.md explains each step. The model needs
`provider = "external"` in the configuration. It calls at least once: after a crash some calls are made again, and of
their outcomes one counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

PREFIX = os.environ.get("PREFIX", "llm")


async def call(work: dict[str, Any]) -> dict[str, Any]:
    """One attempt: the part to replace. Returns what an outcome says beside the echoed fields."""
    left_s = work["deadline_at_ms"] / 1000 - time.time()
    if left_s <= 0:
        return {"status": "timeout", "error": {"code": "too_late", "message": "read after its deadline"}}
    prompt = str(work["body"].get("messages", [{}])[-1].get("content", ""))
    answer = {"role": "assistant", "content": f"You wrote {len(prompt.split())} words."}
    body = {
        "object": "chat.completion",
        "model": work["provider_model"],
        "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}],
    }
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 4}
    return {"status": "ok", "body": body, "usage": usage}


async def serve(record: ConsumerRecord, producer: AIOKafkaProducer) -> None:
    """Make the attempt and produce its outcome, whatever happened."""
    work, began = json.loads(record.value), time.monotonic()
    try:
        said = await call(work)
    except Exception as error:  # noqa: BLE001 - an attempt without an outcome would wait for its deadline
        said = {"status": "error", "error": {"code": type(error).__name__, "message": str(error)}}
    outcome = {key: work[key] for key in ("request_id", "attempt", "model", "slip")} | said
    outcome["latency_ms"] = round((time.monotonic() - began) * 1000)
    await producer.send_and_wait(
        f"{PREFIX}.outcomes",
        json.dumps(outcome).encode(),
        key=work["request_id"].encode(),
        partition=work["outcome_partition"],
        headers=[(name, value) for name, value in record.headers if name == "traceparent"],
    )


async def run(model: str, broker: str) -> None:
    """Serve the model's interactive and batch work until interrupted."""
    topics = [f"{PREFIX}.work.{model}", f"{PREFIX}.work.{model}.batch"]
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=broker,
        group_id=f"{PREFIX}-worker-{model}",
        isolation_level="read_committed",  # work of a turn that was taken back was never ordered
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True, max_request_size=4 * 1024 * 1024)
    async with consumer, producer:
        while True:
            batch = await consumer.getmany(timeout_ms=1000, max_records=32)
            records = [record for records in batch.values() for record in records]
            await asyncio.gather(*(serve(record, producer) for record in records))
            if records:
                await consumer.commit()  # only now: a crash before it makes the calls again


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:9092"))
