"""Produce requests to Kafka and read their results: what a service that uses pointsman does.

python examples/produce_and_consume.py [HOST:PORT [NUMBER]]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

PREFIX = os.environ.get("PREFIX", "llm")
DEADLINE_MS = 30_000


def request(custom_id: str, text: str) -> dict[str, object]:
    """One line of the OpenAI Batch format, with the router's options."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 64},
        "router": {"tenant": "example", "deadline_ms": DEADLINE_MS, "metadata": {"from": "produce_and_consume"}},
    }


async def run(broker: str, number: int) -> None:
    """Send ``number`` requests, print a line for each result."""
    job = uuid.uuid4().hex[:8]
    waiting = {f"{job}-{index}": f"Question {index}: how many seconds have {index} minutes?" for index in range(number)}
    consumer = AIOKafkaConsumer(
        f"{PREFIX}.results",
        bootstrap_servers=broker,
        isolation_level="read_committed",  # without it, results that were taken back would be seen too
        fetch_max_wait_ms=50,
    )
    producer = AIOKafkaProducer(bootstrap_servers=broker, enable_idempotence=True)
    async with consumer, producer:
        await consumer.seek_to_end()  # before the first request: no result can be missed
        sent = [
            await producer.send(f"{PREFIX}.requests", json.dumps(request(custom_id, text)).encode(), key=b"example")
            for custom_id, text in waiting.items()
        ]
        await asyncio.gather(*sent)
        give_up_at = time.monotonic() + DEADLINE_MS / 1000 + 10
        while waiting and time.monotonic() < give_up_at:
            batch = await consumer.getmany(timeout_ms=500)
            for record in (record for records in batch.values() for record in records):
                result = json.loads(record.value)
                if waiting.pop(result["custom_id"], None) is not None:
                    show(result)
    if waiting:
        sys.exit(f"no result for {len(waiting)} requests: is everything running? `pointsman status` says")


def show(result: dict[str, dict[str, object]]) -> None:
    """One line: who answered, for how much, how fast; or why it failed."""
    facts = result["router"]
    if result["error"]:
        print(f"{result['custom_id']}  failed: {result['error']['code']}: {result['error']['message']}")
    else:
        cost = "cost unknown" if facts["cost_unknown"] else f"{facts['cost_nano_usd']} nano-USD"
        print(f"{result['custom_id']}  {facts['model']}  {facts['stratum']}  {cost}  {facts['latency_ms']} ms")


if __name__ == "__main__":
    asyncio.run(
        run(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092", int(sys.argv[2]) if len(sys.argv) > 2 else 5)
    )
