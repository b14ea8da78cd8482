r"""What an exactly-once stage costs: its rate beside a bare aiokafka loop, hand-made batches and stock Faust.

    python benchmarks/transport.py [--records 200000] [--rounds 3] [--json] [--variants ...] [--broker HOST:PORT]

Work per record, the same in every variant: read a 500-byte JSON request, decode, hash its id, encode a smaller record,
produce it to one of three topics; variants with a table add to one of 1000 accounts. Variants run one after the other
within each round, each in a fresh process on one embedded broker; printed are medians of the rounds, and of the ratios
to the bare loop of the same round. Rates depend on the machine, and the broker shares its cores; ratios do less, the
CPU time a record (user and system, of the worker alone) least of all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
import orjson
import xxhash
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.kafka.run import run_apps
from router.kafka.stage import Batch, Stage
from router.kafka.stage_app import new_stage_app
from router.kafka.table import DictRows
from router.kafka.writer import PRODUCE_BATCH_BYTES

PARTITIONS, OUTPUTS, ACCOUNTS = 4, 3, 1000
TEXT = "why does my invoice show two charges for the same month? " * 5
BASE = "aiokafka_loop"
#: This one gets a tenth of the records.
SLOW = "stock_faust"
#: Each is a function below.
NAMES = {
    BASE: "bare aiokafka loop",
    "aiokafka_batches": "hand-made batches",
    SLOW: "stock Faust",
    "stage": "exactly-once stage",
    "stage_table": "exactly-once stage with a table",
}
#: How many times the rate of each a stage with a table shall reach, and what that is called for programs.
GOALS = {
    BASE: (1.6, "transport_to_aiokafka"),
    "aiokafka_batches": (0.6, "transport_to_ceiling"),
    SLOW: (30.0, "transport_to_stock_faust"),
}
IDLE_S = 10.0
CAVEATS = [
    "one stage alone in its process; worker and broker share this machine's cores",
    "the bare loop and the hand-made batches deliver at least once, the stages exactly once",
]


def request(number: int) -> bytes:
    """About 500 bytes."""
    body = {"model": "auto", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 256}
    line = {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps({**line, "router": {"tenant": f"t{number % 50}"}})


def work(value: bytes) -> tuple[int, bytes, bytes]:
    """What each variant does to a record: which output, its value, the account to add to."""
    body = orjson.loads(value)
    digest = xxhash.xxh3_64_intdigest(body["custom_id"].encode())
    text = body["body"]["messages"][0]["content"][:100]
    result = {"id": body["custom_id"], "h": digest, "text": text}
    return digest % OUTPUTS, orjson.dumps(result), b"a-%d" % (digest % ACCOUNTS)


class Meter:
    """Counts records of one process; prints the rate when all are processed and committed, then ends it."""

    def __init__(self, target: int) -> None:
        self.target, self.seen, self.began_s, self.cpu_s = target, 0, 0.0, 0.0

    def begin(self) -> None:
        if not self.began_s:
            self.began_s, self.cpu_s = time.perf_counter(), time.process_time()

    def count(self, records: int, unfinished: Callable[[], object] = lambda: False) -> None:
        self.begin()
        self.seen += records
        if self.seen >= self.target:
            self._task = asyncio.get_running_loop().create_task(self._report(unfinished))

    async def _report(self, unfinished: Callable[[], object]) -> None:
        while unfinished():  # noqa: ASYNC110 - Faust has no event for it
            await asyncio.sleep(0.001)
        wall_s, cpu_s = time.perf_counter() - self.began_s, time.process_time() - self.cpu_s
        os.write(1, b"\nRATE %f %f\n" % (self.seen / wall_s, cpu_s / self.seen * 1e6))
        os._exit(0)


def bare_consumer(bootstrap: str, source: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=f"bare-{time.time()}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def aiokafka_loop(bootstrap: str, source: str, outputs: Sequence[str], meter: Meter) -> None:
    """The reference: no framework, a ``send`` a record, at least once."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=131072)
    sent: list[asyncio.Future[Any]] = []
    async with bare_consumer(bootstrap, source) as consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=500, max_records=4000)
            meter.begin()
            for records in fetched.values():
                for record in records:
                    output, value, _ = work(record.value)
                    sent.append(await producer.send(outputs[output], value, key=record.key))
            if len(sent) > 8000 or meter.seen + len(sent) >= meter.target:
                await asyncio.gather(*sent)
                await consumer.commit()
                done, sent = len(sent), []
                meter.count(done)
                await asyncio.sleep(0)


async def aiokafka_batches(bootstrap: str, source: str, outputs: Sequence[str], meter: Meter) -> None:
    """What no framework could beat by much: whole batches in and out by hand, at least once."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=PRODUCE_BATCH_BYTES)
    async with bare_consumer(bootstrap, source) as consumer, producer:
        while True:
            fetched = await consumer.getmany(timeout_ms=500)
            meter.begin()
            for tp, records in fetched.items():
                builders = [producer.create_batch() for _ in outputs]
                for record in records:
                    output, value, _ = work(record.value)
                    builders[output].append(key=record.key, value=value, timestamp=record.timestamp)
                for builder, topic in zip(builders, outputs, strict=True):
                    await producer.send_batch(builder, topic, partition=tp.partition)
            await producer.flush()
            await consumer.commit()
            meter.count(sum(map(len, fetched.values())))
            await asyncio.sleep(0)


async def stock_faust(bootstrap: str, source: str, outputs: Sequence[str], meter: Meter) -> None:
    """Faust as it comes, ``exactly_once``."""
    app = faust.App(
        f"stock-{time.time()}",
        broker=f"kafka://{bootstrap}",
        topic_disable_leader=True,
        web_enabled=False,
        datadir=tempfile.mkdtemp(),
        processing_guarantee="exactly_once",
        consumer_auto_offset_reset="earliest",
    )
    raw = {"value_serializer": "raw", "key_serializer": "raw"}
    sinks = [app.topic(name, **raw) for name in outputs]

    @app.agent(app.topic(source, **raw))
    async def route(stream: faust.Stream[bytes]) -> None:
        async for event in stream.events():
            output, value, _ = work(event.value)
            await sinks[output].send(key=event.key, value=value)
            meter.count(1)

    await app.start()
    await asyncio.Event().wait()


async def stage(bootstrap: str, source: str, outputs: Sequence[str], meter: Meter, *, table: bool = False) -> None:
    """Ours: exactly once, in transactions; with ``table``, a row changed a record and its changelog besides."""

    def handle(batch: Batch, unit: Any) -> None:
        for record in batch.records:
            output, value, account = work(record.value)
            if table:
                unit.put(account, b"%d" % (int(unit.get(account) or 0) + 1))
            unit.emit(outputs[output], record.key, value)
        meter.count(len(batch.records), lambda: app.consumer.unacked)

    value = Stage(
        name=f"stage-{time.time()}",
        sources=(source,),
        outputs=frozenset(outputs),
        handle=handle,
        tick=lambda _now_ms, _unit: None,
        rows=DictRows if table else None,
    )
    app = new_stage_app(value, Client(bootstrap), partitions=PARTITIONS, data_dir=tempfile.mkdtemp())
    await run_apps([app], asyncio.Event())


async def stage_table(bootstrap: str, source: str, outputs: Sequence[str], meter: Meter) -> None:
    await stage(bootstrap, source, outputs, meter, table=True)


async def idle(bootstrap: str, source: str, outputs: Sequence[str], _meter: Meter) -> None:
    """The same stage with nothing to do: CPU time of its process over ``IDLE_S``."""
    running = asyncio.create_task(stage_table(bootstrap, source, outputs, Meter(sys.maxsize)))
    await asyncio.sleep(6)
    began_s = time.process_time()
    await asyncio.sleep(IDLE_S)
    os.write(1, b"\nRATE %f 0\n" % ((time.process_time() - began_s) / IDLE_S))
    running.cancel()
    os._exit(0)


def measure(variant: str, bootstrap: str, source: str, outputs: Sequence[str], records: int) -> tuple[float, float]:
    """Rate (idle: share of a core) and CPU us a record, of a process of its own; NaN, and its errors told, on failure."""
    command = [sys.executable, __file__, "--serve", variant, "--broker", bootstrap, "--topics", source, *outputs]
    try:
        done = subprocess.run(
            [*command, "--records", str(records)], capture_output=True, text=True, timeout=180, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{variant}: no result within 180 s", file=sys.stderr)
        return float("nan"), float("nan")
    for line in done.stdout.splitlines():
        if line.startswith("RATE"):
            rate, cpu_us = line.split()[1:]
            return float(rate), float(cpu_us)
    print(f"{variant}: no result\n{done.stdout[-1000:]}{done.stderr[-2000:]}", file=sys.stderr)
    return float("nan"), float("nan")


async def fill(bootstrap: str, topic: str, count: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=262144) as producer:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for number in range(partition, count, PARTITIONS):
                entry: dict[str, Any] = {"key": b"%d" % number, "value": request(number), "timestamp": None}
                if batch.append(**entry) is None:
                    await producer.send_batch(batch, topic, partition=partition)
                    batch = producer.create_batch()
                    batch.append(**entry)
            await producer.send_batch(batch, topic, partition=partition)
        await producer.flush()


async def prepare(bootstrap: str, records: int) -> tuple[str, str, list[str]]:
    tag = f"bench-{time.time_ns()}"
    outputs = [f"{tag}.out{number}" for number in range(OUTPUTS)]
    spec = TopicSpec(partitions=PARTITIONS)
    await create_topics(Client(bootstrap), dict.fromkeys((f"{tag}.in", f"{tag}.short", *outputs), spec))
    await fill(bootstrap, f"{tag}.in", records)
    await fill(bootstrap, f"{tag}.short", records // 10)
    return f"{tag}.in", f"{tag}.short", outputs


def measured(
    bootstrap: str, records: int, rounds: int, variants: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Rate and CPU us a record of each variant, round by round."""
    source, short, outputs = asyncio.run(prepare(bootstrap, records))
    found: dict[str, list[tuple[float, float]]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            few = variant == SLOW
            count = records // 10 if few else records
            found[variant].append(measure(variant, bootstrap, short if few else source, outputs, count))
    return found


def report_of(found: Mapping[str, Sequence[tuple[float, float]]], idle: float) -> Report:
    """Medians of the rounds; a ratio is the median of the rounds' ratios."""
    report = Report("transport", caveats=CAVEATS, details={"rounds": found})
    base = [round(statistics.median(column)) for column in zip(*found[BASE], strict=True)]
    for variant, values in found.items():
        rate, cpu_us = (statistics.median(column) for column in zip(*values, strict=True))
        told = {} if variant == BASE else {"reference_is": NAMES[BASE]}
        report.add(NAMES[variant], round(rate), "records/s", reference=base[0] if told else None, **told)
        report.add(
            f"CPU, {NAMES[variant]}", round(cpu_us, 1), "us a record", reference=base[1] if told else None, **told
        )
    for reference, (goal, field) in GOALS.items():
        if reference in found and "stage_table" in found:
            pairs = zip(found["stage_table"], found[reference], strict=True)
            times = round(statistics.median(ours / theirs for (ours, _), (theirs, _) in pairs), 2)
            name = f"{NAMES['stage_table']} / {NAMES[reference]}"
            report.add(name, times, "times", goal=f">= {goal:g}", met=times >= goal)
            report.fields[field] = times
    report.add("idle stage of four partitions", round(idle * 100, 1), "% of a core")
    return report


def idle_share(bootstrap: str) -> float:
    source, _, outputs = asyncio.run(prepare(bootstrap, 0))
    return measure("idle", bootstrap, source, outputs, 0)[0]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", choices=list(NAMES), default=list(NAMES), help="the bare loop always")
    parser.add_argument("--broker", help="HOST:PORT; default: an embedded one")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--topics", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        source, *outputs = asked.topics
        asyncio.run(globals()[asked.serve](asked.broker, source, outputs, Meter(asked.records)))
        return
    with contextlib.nullcontext() if asked.broker else EmbeddedKafka() as kafka:
        bootstrap = asked.broker or kafka.bootstrap
        found = measured(bootstrap, asked.records, asked.rounds, list(dict.fromkeys([BASE, *asked.variants])))
        idle = idle_share(bootstrap)
    finish(report_of(found, idle), asked.json)


if __name__ == "__main__":
    main()
