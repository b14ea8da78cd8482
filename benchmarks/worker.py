"""What a worker adds to a call: calls a second through Kafka beside the same calls made by a bare loop over HTTP.

    python benchmarks/worker.py [--calls 4000] [--concurrency 64] [--latency-ms 20] [--json]

The reference, measured in the same run: the same provider code (``OpenAIHttp``), the same simulated provider in a process
of its own, the same number of calls in hand, no Kafka. Also: microseconds of a record's reading and its outcome's writing
alone, with a provider that answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish
from benchmarks.report import options as new_parser
from router.config import loads
from router.contract.codec import encode
from router.contract.records import Usage, Work
from router.contract.topics import Names
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.work.bans import Bans
from router.work.behaviour import Behaviour, World
from router.work.caller import Caller
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, new_session
from router.work.provider import Answer
from router.work.sim import Simulator, serving
from router.work.worker import new_workers

#: Of every topic.
PARTITIONS = 4
CAVEATS = [
    "simulator, worker and broker share this machine's cores, so rates are those of the whole",
    "the work records lie ready, no router writes them meanwhile; a simulated answer has about 80 tokens",
]
QUESTION = "Please explain in plain words why the tide is late on some days. " * 12
CONFIG = """
[models.small]
provider = "sim"
base_url = "{base_url}"
unpriced = true
concurrency = {concurrency}
[pools.auto]
models = ["small"]
"""


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def new_work(number: int) -> Work:
    messages = [{"role": "user", "content": f"{number}: {QUESTION}"}]
    return Work(
        request_id=f"{number:032x}",
        attempt=1,
        model="small",
        provider_model="small",
        url="/v1/chat/completions",
        body={"model": "auto", "messages": messages},
        deadline_at_ms=wall_ms() + 3_600_000,
        reason="routed",
        outcome_partition=number % 4,
        slip="s" * 400,
    )


async def serve(latency_ms: float) -> None:
    """The simulator's process: prints its address, serves until its standard input ends."""
    world = World(models={"small": Behaviour(latency_ms=latency_ms, latency_sigma=0.0)})
    async with serving(Simulator(world)) as base_url:
        print(base_url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(json.dumps({"cpu_s": time.process_time()}), flush=True)


async def bare(base_url: str, works: Sequence[Work], concurrency: int) -> float:
    """Calls a second of the reference."""
    async with new_session() as session:
        provider, left = OpenAIHttp([Place(name="default", base_url=base_url)], session), iter(works)

        async def hand() -> None:
            for work in left:
                answer = await provider.call(work, budget_s=60, headers={})
                assert answer.status == "ok", answer

        begun_s = time.perf_counter()
        await asyncio.gather(*(hand() for _ in range(concurrency)))
        return len(works) / (time.perf_counter() - begun_s)


async def through_kafka(client: Client, base_url: str, works: Sequence[Work], concurrency: int) -> tuple[float, float]:
    """Calls a second from the first work record taken to the last outcome committed, and CPU µs a call in this process."""
    names, config = Names("bench"), loads(CONFIG.format(base_url=base_url, concurrency=concurrency), environ={})
    await create_topics(
        client, {n: TopicSpec(partitions=PARTITIONS, max_bytes=t.max_bytes) for n, t in names.all(["small"]).items()}
    )
    async with AIOKafkaProducer(linger_ms=5, **client.aiokafka()) as producer:
        for number, work in enumerate(works):
            await producer.send(names.work("small"), encode(work), partition=number % PARTITIONS)
        await producer.flush()
    installation = SimpleNamespace(client=client, config=config, names=names, clock=wall_ms, partitions=PARTITIONS)
    outcomes = AIOKafkaConsumer(
        names.of("outcomes"), auto_offset_reset="earliest", isolation_level="read_committed", **client.aiokafka()
    )
    async with new_workers(installation, ["small"]) as (worker,), outcomes:
        running, seen = asyncio.create_task(worker.run()), 0
        while not worker.liveness()["in_hand"]["interactive"]:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        while seen < len(works):
            seen += sum(map(len, (await outcomes.getmany(timeout_ms=50)).values()))
        rate = len(works) / (time.perf_counter() - begun_s)
        cpu_us = (time.process_time() - begun_cpu_s) / len(works) * 1e6
        worker.stop()
        await running
    return rate, cpu_us


class Instant:
    """A provider that answers at once, always the same."""

    def __init__(self, body: dict[str, Any]) -> None:
        usage = Usage(prompt_tokens=200, completion_tokens=80)
        self._answer = Answer(status="ok", body=body, usage=usage, endpoint="default", latency_ms=1)

    def free_in_s(self) -> float:
        return 0.0

    def state(self) -> dict[str, dict[str, Any]]:
        return {}

    async def call(self, work: Work, *, budget_s: float, headers: dict[str, str]) -> Answer:  # noqa: ARG002
        return self._answer


async def alone(count: int = 20_000) -> float:
    """Microseconds to read a work record and to write its outcome."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "word " * 80}, "finish_reason": "stop"}
    config, names = loads(CONFIG.format(base_url="http://127.0.0.1:1/v1", concurrency=1), environ={}), Names()
    caller = Caller(
        "small", config.models["small"], Instant({"choices": [choice]}), Bans(wall_ms), names=names, partitions=4, clock=wall_ms
    )  # fmt: skip
    record = SimpleNamespace(topic=names.work("small"), value=encode(new_work(1)), headers=())
    begun_s = time.perf_counter()
    for _ in range(count):
        await caller(record)
    return (time.perf_counter() - begun_s) / count * 1e6


async def run(options: argparse.Namespace, bootstrap: str, base_url: str) -> Report:
    report = Report("worker", caveats=CAVEATS)
    works = [new_work(number) for number in range(options.calls)]
    await bare(base_url, works[: options.concurrency * 2], options.concurrency)  # connections, imports
    reference = await bare(base_url, works, options.concurrency)
    rate, cpu_us = await through_kafka(Client(bootstrap), base_url, works, options.concurrency)
    report.add("worker", round(rate), "calls/s", reference=round(reference), reference_is="bare HTTP loop")
    report.add("CPU of a worker", round(cpu_us), "us a call")
    report.add("record read, outcome written, alone", round(await alone(), 1), "us")
    report.details = {key: getattr(options, key) for key in ("calls", "concurrency", "latency_ms")}
    return report


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.latency_ms))
        return
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    command = [sys.executable, __file__, "--serve", "--latency-ms", str(options.latency_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        base_url = simulator.stdout.readline().strip()
        with EmbeddedKafka() as kafka:
            report = asyncio.run(run(options, kafka.bootstrap, base_url))
        told, _ = simulator.communicate()
    report.add("CPU of the simulator, both ways", round(json.loads(told)["cpu_s"], 2), "s")
    finish(report, options.json)


if __name__ == "__main__":
    main()
