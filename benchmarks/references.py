"""What the router is compared with, each in a process of its own, as it would be written without it.

    python benchmarks/references.py NAME --bootstrap HOST:PORT --source TOPIC --outputs TOPIC TOPIC TOPIC --records N

``bare``: one aiokafka loop: decode, choose an output by the id's hash, encode a smaller record, ``producer.send``; at
least once. ``stock``: the same as an agent of Faust as it comes. ``caller``: a loop that also calls a provider over
HTTP for each request and sends the answer to the first output; it runs until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import faust
import orjson
import xxhash
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from router.kafka.embedded import dying_with_parent

FLUSH_AT = 8000
TIMEOUT_S = 120.0


@dataclass(slots=True)
class Meter:
    """From the first record on: wall clock and CPU time of this process."""

    began_s: float = 0.0
    began_cpu_s: float = 0.0

    def start(self) -> None:
        if not self.began_s:
            self.began_s, self.began_cpu_s = time.perf_counter(), time.process_time()

    def tell(self, done: int) -> None:
        per_s = done / (time.perf_counter() - self.began_s)
        cpu_us = (time.process_time() - self.began_cpu_s) / done * 1e6
        os.write(1, b"\nRATE %f %f\n" % (per_s, cpu_us))  # Faust takes what is printed for a log line


@dataclass(frozen=True, slots=True)
class Rate:
    """Records a second, and CPU microseconds a record in the process."""

    per_s: float
    cpu_us: float


def work(value: bytes, outputs: Sequence[str]) -> tuple[str, bytes]:
    """What is done to a record: output topic and value."""
    body = orjson.loads(value)
    digest = xxhash.xxh3_64_intdigest(body["custom_id"].encode())
    text = body["body"]["messages"][0]["content"][:100]
    return outputs[digest % len(outputs)], orjson.dumps({"id": body["custom_id"], "h": digest, "text": text})


async def bare(options: argparse.Namespace) -> None:
    consumer = AIOKafkaConsumer(
        options.source,
        bootstrap_servers=options.bootstrap,
        group_id=f"bare-{time.time_ns()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap, linger_ms=5, max_batch_size=131072)
    async with consumer, producer:
        done, sent, meter = 0, [], Meter()
        while done < options.records:
            fetched = await consumer.getmany(timeout_ms=500, max_records=4000)
            meter.start()
            for records in fetched.values():
                for record in records:
                    topic, value = work(record.value, options.outputs)
                    sent.append(await producer.send(topic, value, key=record.key))
            if len(sent) > FLUSH_AT or done + len(sent) >= options.records:
                await asyncio.gather(*sent)
                await consumer.commit()
                done, sent = done + len(sent), []
        meter.tell(done)


def stock(options: argparse.Namespace) -> None:
    app = faust.App(
        f"stock-{time.time_ns()}",
        broker=f"kafka://{options.bootstrap}",
        value_serializer="raw",
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
        consumer_auto_offset_reset="earliest",
    )
    raw = {"value_serializer": "raw", "key_serializer": "raw"}
    sinks = {name: app.topic(name, **raw) for name in options.outputs}

    @app.agent(app.topic(options.source, **raw))
    async def route(stream: Any) -> None:
        done, meter = 0, Meter()
        async for event in stream.events():
            meter.start()
            topic, value = work(event.value, options.outputs)
            await sinks[topic].send(key=event.key, value=value)
            done += 1
            if done >= options.records:
                meter.tell(done)
                os._exit(0)

    sys.argv[1:] = ["worker", "--loglevel", "error", "--without-web"]
    app.main()


async def caller(options: argparse.Namespace) -> None:
    consumer = AIOKafkaConsumer(
        options.source, bootstrap_servers=options.bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=20
    )
    producer = AIOKafkaProducer(bootstrap_servers=options.bootstrap)
    async with consumer, producer, aiohttp.ClientSession() as session:
        running: set[asyncio.Task[None]] = set()

        async def call(record: Any) -> None:
            asked = orjson.loads(record.value)
            body = orjson.dumps(asked["body"] | {"model": "small"})
            headers = {"Content-Type": "application/json", "Idempotency-Key": asked["custom_id"]}
            async with session.post(options.url, data=body, headers=headers) as answer:
                found = orjson.loads(await answer.read())
            result = {"custom_id": asked["custom_id"], "body": found}
            await producer.send(options.outputs[0], orjson.dumps(result), key=record.key)

        for tp in consumer.assignment():
            await consumer.position(tp)
        print("READY", flush=True)
        async for record in consumer:
            task = asyncio.create_task(call(record))
            running.add(task)
            task.add_done_callback(running.discard)


def start(name: str, bootstrap: str, source: str, outputs: Sequence[str], *more: str) -> subprocess.Popen[str]:
    """The process of a reference; dies with this one."""
    return subprocess.Popen(
        [
            sys.executable,
            __file__,
            name,
            f"--bootstrap={bootstrap}",
            f"--source={source}",
            *more,
            "--outputs",
            *outputs,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
    )


def rate(name: str, bootstrap: str, source: str, outputs: Sequence[str], records: int) -> Rate:
    """What ``bare`` or ``stock`` makes of ``records`` records."""
    process = start(name, bootstrap, source, outputs, f"--records={records}")
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    for line in out.splitlines():
        if line.startswith("RATE"):
            return Rate(*map(float, line.split()[1:]))
    raise RuntimeError(f"the reference {name} told no rate:\n{out[-1000:]}{err[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("bare", "stock", "caller"))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--outputs", nargs="+", required=True)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--url", help="of the provider's chat completions, for `caller`")
    options = parser.parse_args()
    if options.name == "stock":
        stock(options)
    else:
        asyncio.run({"bare": bare, "caller": caller}[options.name](options))


if __name__ == "__main__":
    main()
