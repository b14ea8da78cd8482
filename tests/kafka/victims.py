"""Programs for the kill tests to kill: `python victims.py stages|calls|poisoned BOOTSTRAP PREFIX FOLDER`.

requests -> [ settle: results, sums per account ] -> results -> [ receipt: one each, 200 ms later ] -> receipts
"""

import asyncio
import heapq
import os
import random
import signal
import sys
from pathlib import Path

from router.kafka.calls import Outcome, Worker
from router.kafka.client import Client
from router.kafka.run import run_apps, stop_on_signals
from router.kafka.stage import Stage
from router.kafka.stage_app import new_stage_app
from router.kafka.table import DictRows

ACCOUNTS = 100
RECEIPT_AFTER_MS = 200
SESSION_S = 2.0
CONCURRENCY = 16
HELD, HELD_S = b"1000", 6.0


def settle_stage(prefix):
    """Sums per account, one result a request."""

    def settle(batch, unit):
        for record in batch.records:
            account = b"%d" % (int(record.key) % ACCOUNTS)
            unit.put(account, b"%d" % (int(unit.get(account) or 0) + int(record.key)))
            unit.emit(f"{prefix}.results", record.key, record.value)

    return Stage(
        name=f"{prefix}-settle",
        sources=(f"{prefix}.requests",),
        outputs=frozenset({f"{prefix}.results"}),
        handle=settle,
        rows=DictRows,
    )


def receipt_stage(prefix):
    """Gives each result a receipt a little later: a row until then, a heap over the rows."""

    def soonest_first(rows):
        heap = [(int(due_ms), key) for key, due_ms in rows.items()]
        heapq.heapify(heap)
        return heap

    def give(now_ms, unit):
        while unit.index and unit.index[0][0] <= now_ms:
            _, key = heapq.heappop(unit.index)
            unit.emit(f"{prefix}.receipts", key, b"")
            unit.put(key, None)

    def receive(batch, unit):
        for record in batch.records:
            due_ms = record.timestamp + RECEIPT_AFTER_MS
            heapq.heappush(unit.index, (due_ms, record.key))
            unit.put(record.key, b"%d" % due_ms)

    return Stage(
        name=f"{prefix}-receipt",
        sources=(f"{prefix}.results",),
        outputs=frozenset({f"{prefix}.receipts"}),
        handle=receive,
        tick=give,
        index=soonest_first,
        rows=DictRows,
    )


def poisoned_stage(prefix):
    """Dies of one record, hard; gives it up when told that it is the culprit."""
    out = f"{prefix}.results"

    def handle(batch, unit):
        for record in batch.records:
            if record.key == b"13":
                os.kill(os.getpid(), signal.SIGKILL)
            unit.emit(out, record.key, b"handled")

    return Stage(
        name=f"{prefix}-poisoned",
        sources=(f"{prefix}.requests",),
        outputs=frozenset({out}),
        handle=handle,
        culprit=lambda record, unit: unit.emit(out, record.key, b"given up"),
    )


async def run_stages(stages, client, folder):
    until = asyncio.Event()
    stop_on_signals(until)
    apps = [
        new_stage_app(stage, client, partitions=4, data_dir=folder, session_timeout_s=SESSION_S) for stage in stages
    ]
    await run_apps(apps, until)


async def run_calls(client, prefix, folder):
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def call(record):
        os.write(journal, b"started %s\n" % record.key)
        try:
            await asyncio.sleep(HELD_S if record.key == HELD else random.uniform(0.005, 0.050))
        except asyncio.CancelledError:
            os.write(journal, b"cancelled %s\n" % record.key)
            raise
        return [Outcome(f"{prefix}.outcomes", record.partition, record.key, b"done")]

    topics = {"interactive": [f"{prefix}.work"], "batch": [f"{prefix}.work.batch"]}
    worker = Worker(client, f"{prefix}-calls", call, **topics, concurrency=CONCURRENCY, session_timeout_s=SESSION_S)
    until = asyncio.Event()
    stop_on_signals(until)
    told = asyncio.create_task(until.wait())
    told.add_done_callback(lambda _: worker.stop())
    await worker.run()


async def main(kind, bootstrap, prefix, folder):
    client = Client(bootstrap)
    if kind == "calls":
        await run_calls(client, prefix, Path(folder))
    elif kind == "poisoned":
        await run_stages([poisoned_stage(prefix)], client, folder)
    else:
        await run_stages([settle_stage(prefix), receipt_stage(prefix)], client, folder)


if __name__ == "__main__":
    code = 1
    try:
        asyncio.run(main(*sys.argv[1:]))
        code = 0
    finally:
        os._exit(code)
