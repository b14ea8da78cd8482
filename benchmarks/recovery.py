"""How long a stage takes to have its table back: a process with nothing but Kafka, and as many rows as asked.

    python benchmarks/recovery.py [--rows 1000000] [--json]

A stage writes rows (key 22 bytes, value 10) through its own transactions; then another process of it begins, and the
time until all its lanes are open counts, less that of the same stage with an empty table. References of the same run: a
bare aiokafka consumer that reads the same changelog to its end; memory beside the bytes of the rows themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.processes import rss_kib
from benchmarks.report import Report, finish, options
from benchmarks.stub import PARTITIONS, lay_out
from router.kafka.admin import TopicSpec, create_topics, end_offsets
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka, dying_with_parent
from router.kafka.run import run_apps
from router.kafka.stage import Batch, Stage
from router.kafka.stage_app import new_stage_app
from router.kafka.table import DictRows

KEY_BYTES, VALUE = 22, b"v" * 10
GOAL_S, GOAL_BYTES = 2.5, 250
MILLION = 1_000_000
PATIENCE_S = 300.0
CAVEATS = ["process and broker share this machine's cores; what the broker reads lies in the page cache"]


def serve(bootstrap: str, name: str, records: int) -> None:
    """The stage: prints seconds and KiB when its lanes are open, and ends once ``records`` more are in its table."""
    opened: set[int] = set()
    seen, began_s, before_kib = 0, time.perf_counter(), rss_kib(os.getpid())

    def handle(batch: Batch, unit: Any) -> None:
        nonlocal seen
        for record in batch.records:
            unit.put(record.value, VALUE)
        seen += len(batch.records)

    def tick(_now_ms: int, unit: Any) -> None:
        if len(opened) < PARTITIONS:
            opened.add(unit.partition)
            if len(opened) == PARTITIONS:
                print(json.dumps([time.perf_counter() - began_s, rss_kib(os.getpid()) - before_kib]), flush=True)

    stage = Stage(name=name, sources=(f"{name}.in",), handle=handle, tick=tick, rows=DictRows)
    app = new_stage_app(stage, Client(bootstrap), partitions=PARTITIONS, data_dir=tempfile.mkdtemp())

    async def run() -> int:
        until = asyncio.Event()
        running = asyncio.create_task(run_apps([app], until))
        while len(opened) < PARTITIONS or seen < records or app.consumer.unacked:
            await asyncio.sleep(0.05)
            if running.done():
                traceback.print_exception(running.exception())
                return 1
        until.set()  # leaves the group: the next process would wait for a dead member's session to end
        await running
        return 0

    async def to_the_end() -> None:
        os._exit(await run())  # threads of an app that failed may outlive it

    asyncio.run(to_the_end())


def started(bootstrap: str, name: str, records: int = 0) -> tuple[float, float]:
    """Seconds until a fresh process of the stage has its lanes open, and how many MiB it grew until then."""
    command = [sys.executable, __file__, "--serve", name, "--broker", bootstrap, "--rows", str(records)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, preexec_fn=dying_with_parent()
    )
    took_s, grown_kib = json.loads(done.stdout.splitlines()[0])
    return took_s, grown_kib / 1024


async def read_bare(bootstrap: str, topic: str) -> float:
    """Seconds in which a bare consumer reads a topic to its end."""
    ends = await end_offsets(Client(bootstrap), [topic])
    consumer = Client(bootstrap).consumer()
    await consumer.start()
    try:
        consumer.assign(list(ends))
        began_s = time.perf_counter()
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            await consumer.getmany(timeout_ms=100)
        return time.perf_counter() - began_s
    finally:
        await consumer.stop()


def measure(rows: int) -> Report:
    report = Report("recovery", caveats=CAVEATS)
    with EmbeddedKafka() as kafka:
        names = ("empty", "full")
        topics = {f"{name}.in": TopicSpec(partitions=PARTITIONS) for name in names}
        asyncio.run(create_topics(Client(kafka.bootstrap), topics))
        asyncio.run(lay_out(kafka.bootstrap, "full.in", [b"%0*d" % (KEY_BYTES, number) for number in range(rows)]))
        for name in names:
            started(kafka.bootstrap, name, rows if name == "full" else 0)
        empty_s, empty_mib = started(kafka.bootstrap, "empty")
        full_s, full_mib = started(kafka.bootstrap, "full")
        bare_s = asyncio.run(read_bare(kafka.bootstrap, "full-rows-changelog"))
    each_s = round((full_s - empty_s) / rows * MILLION, 2)
    each_bytes = round((full_mib - empty_mib) * 2**20 / rows)
    report.add(
        "recovery of a million rows",
        each_s,
        "s",
        reference=round(bare_s / rows * MILLION, 2),
        reference_is="bare consumer reads them",
        goal=f"<= {GOAL_S:g} s",
        met=each_s <= GOAL_S,
    )
    report.add(
        "memory of a row",
        each_bytes,
        "bytes",
        reference=KEY_BYTES + len(VALUE),
        reference_is="key and value",
        goal=f"<= {GOAL_BYTES}",
        met=each_bytes <= GOAL_BYTES,
    )
    report.add("start with an empty table", round(empty_s, 2), "s")
    report.fields = {"recovery_s_per_million_keys": each_s}
    report.details = {"rows": rows, "seconds": round(full_s, 2)}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--broker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    if asked.serve:
        serve(asked.broker, asked.serve, asked.rows)
    finish(measure(asked.rows), asked.json)


if __name__ == "__main__":
    main()
