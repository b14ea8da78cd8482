"""How it spreads: one and two processes a stage, processes that come and go under load, two lanes, a long backlog.

    python benchmarks/wide.py [--requests 20000] [--backlog 2000000] [--json]

- Full path, route and settle, with one and with two processes of each: one machine's cores are shared by all of them, so
  what a second process gains here is what cores are left.
- Silence: ``RATE`` requests a second, workers that answer at once. A second process of route and of settle joins, leaves
  politely, joins again and is killed; the longest time without a result in any partition after each.
- Two lanes: ``pointsman up`` with providers of 50 ms; added latency at ``INTERACTIVE`` a second alone (the reference), then
  with a batch job under way, and the rate of that.
- Backlog: so many requests lie ready when the stages start; the most memory that each took, beside that after a tenth.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.full_path import stages_rate
from benchmarks.latency import BEHAVIOUR, Load, through
from benchmarks.memory import STATED_BYTES
from benchmarks.processes import rss_mib_of
from benchmarks.reader import Reader
from benchmarks.report import Report, finish, options
from benchmarks.stages import MODELS, PROCESSES, Stages
from benchmarks.stub import StubWorkers, count, lay_out, request, send_batches
from benchmarks.system import CONFIG, System
from router.kafka.embedded import EmbeddedKafka

ONE = {"route": ("route",), "settle": ("settle",)}
SECOND = {"route-2": ("route",), "settle-2": ("settle",)}
#: Requests a second while processes come and go, and how long is looked after each event.
RATE, LOOK_S = 200, 12.0
#: Of a process's session (``kafka.session_timeout_s``), and what a stage may be silent: politely, or beyond the session.
SESSION_S, MOST_S = 6.0, 3.0
INTERACTIVE, LANE_S = 50.0, 30.0
MOST_TIMES = 1.5
SLACK_MIB = 64.0
#: Of a backlog, laid out at once.
CHUNK = 100_000
CAVEATS = [
    "broker, stages, stub workers and counting consumers share this machine's two cores: processes on other machines would gain more",
]


def rates(report: Report, kafka: EmbeddedKafka, requests: int) -> None:
    """Requests a second with one process of each stage and with two."""
    values = [request(number) for number in range(requests)]
    found = [
        round(stages_rate(kafka, f"wide{number}", processes, values)["per_s"])
        for number, processes in enumerate((ONE, ONE | SECOND))
    ]
    report.add(
        "two processes of route and settle", found[1], "requests/s", reference=found[0], reference_is="one of each"
    )


@contextmanager
def steady(bootstrap: str, topic: str, rate: float) -> Iterator[None]:
    """Requests at a rate, from a thread, as long as the block runs."""
    end = threading.Event()

    async def send() -> None:
        began_s, sent = time.monotonic(), 0
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            partitions = sorted(await producer.partitions_for(topic))
            while not end.is_set():
                due = int((time.monotonic() - began_s) * rate)
                for partition in partitions:
                    entries = ((None, request(one)) for one in range(sent, due) if one % len(partitions) == partition)
                    await send_batches(producer, topic, partition, entries)
                sent = due
                await asyncio.sleep(0.02)

    thread = threading.Thread(target=lambda: asyncio.run(send()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def silences(report: Report, kafka: EmbeddedKafka) -> None:
    """Longest time without a result in any partition, after each event."""
    with Stages(kafka.bootstrap, "silence", ONE) as stages:
        stages.create_topics()
        with StubWorkers(kafka.bootstrap, stages.names, MODELS):
            stages.start()
            with (
                Reader(kafka.bootstrap, [stages.names.of("results")]) as reader,
                steady(kafka.bootstrap, stages.names.of("requests"), RATE),
            ):
                time.sleep(LOOK_S)
                seconds = {"nothing happens": _silence(reader, stages, lambda _: None)}
                seconds["a second process of each joins"] = _silence(reader, stages, _join)
                seconds["they leave politely"] = _silence(
                    reader, stages, lambda them: them.leave(SECOND, signal.SIGTERM)
                )
                _silence(reader, stages, _join)
                seconds["they are killed"] = _silence(reader, stages, lambda them: them.leave(SECOND, signal.SIGKILL))
    for name, value in seconds.items():
        most = MOST_S + (SESSION_S if "killed" in name else 0)
        report.add(
            f"longest silence of a partition: {name}", round(value, 2), "s", goal=f"<= {most:g} s", met=value <= most
        )


def _join(stages: Stages) -> None:
    stages.join(SECOND)


def _silence(reader: Reader, stages: Stages, act: Callable[[Stages], None]) -> float:
    """Do it, look, and tell the longest gap in a partition since just before."""
    began_ms = time.time() * 1000
    act(stages)
    time.sleep(LOOK_S)
    came: dict[int, list[float]] = defaultdict(lambda: [began_ms])
    for read in list(reader.reads):
        if read.readable_at_ms >= began_ms:
            came[read.record.partition].append(read.readable_at_ms)
    now_ms = time.time() * 1000
    return max(float(np.diff([*times, now_ms]).max()) for times in came.values()) / 1000 if came else LOOK_S


def lanes(report: Report, lines: int) -> None:
    """Added latency of interactive requests, alone and beside a batch job; results a second of that."""
    load = Load(rate=INTERACTIVE, seconds=LANE_S, warm_s=LANE_S / 2)
    sent = int(load.rate * (load.seconds + load.warm_s))
    with System(CONFIG, BEHAVIOUR) as system:
        where = system.bootstrap, system.topic("requests"), system.topic("results")
        alone = through(*where, load)
        job = [request(sent + number) for number in range(lines)]
        began_s = time.monotonic()
        asyncio.run(lay_out(system.bootstrap, system.topic("requests.batch"), job, load.partitions))
        beside = through(*where, load, first=sent + lines)
        done, took_s = len(system.records("results")) - 2 * sent, time.monotonic() - began_s
        if done >= lines:
            raise RuntimeError(f"the job of {lines:,} was over too soon: give it more lines")
    base, value = (round(float(np.percentile(one, 99)), 1) for one in (alone, beside))
    report.add(
        f"added latency of interactive requests at {INTERACTIVE:g}/s beside a batch job, p99",
        value,
        "ms",
        reference=base,
        reference_is="no job",
        goal=f"<= {MOST_TIMES:g} times that",
        met=value <= MOST_TIMES * base,
    )
    report.add("the job meanwhile", round(done / took_s), "results/s")


def backlog(report: Report, kafka: EmbeddedKafka, requests: int) -> None:
    """The most memory of each process while it reads a backlog, and while it has read a tenth of it."""
    most: dict[str, float] = defaultdict(float)
    early: dict[str, float] = {}
    with Stages(kafka.bootstrap, "backlog", PROCESSES["all stages"]) as stages:
        stages.create_topics()
        values = (request(number) for number in range(requests))
        while chunk := list(islice(values, CHUNK)):
            asyncio.run(lay_out(kafka.bootstrap, stages.names.of("requests"), chunk))

        def look(came: int) -> None:
            stages.check()
            for name, mib in rss_mib_of(stages.pids).items():
                most[name] = max(most[name], mib)
            if came >= requests // 10 and not early:
                early.update(most)

        with StubWorkers(kafka.bootstrap, stages.names, MODELS):
            stages.start()
            counted = asyncio.run(count(kafka.bootstrap, stages.names.of("results"), requests, check=look))
    report.add(f"a backlog of {requests:,}", round(counted.per_s), "requests/s")
    for name, mib in most.items():
        remembered_mib = STATED_BYTES[name] * requests * 0.9 / 2**20
        report.add(
            f"memory while reading it, at most: {name}",
            mib,
            "MiB",
            reference=early[name],
            reference_is="after a tenth",
            goal=f"<= that, ids, and {SLACK_MIB:g}",
            met=mib <= early[name] + remembered_mib + SLACK_MIB,
        )


def measure(requests: int, waiting: int, lines: int) -> Report:
    report = Report("wide", caveats=CAVEATS)
    with EmbeddedKafka() as kafka:
        rates(report, kafka, requests)
        silences(report, kafka)
    lanes(report, lines)
    with EmbeddedKafka() as kafka:
        backlog(report, kafka, waiting)
    report.details = {"requests": requests, "backlog": waiting, "lines": lines}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--backlog", type=int, default=2_000_000)
    parser.add_argument(
        "--lines", type=int, default=50_000, help="of the batch job; more than it gets done in a minute"
    )
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.requests, asked.backlog, asked.lines), asked.json)


if __name__ == "__main__":
    main()
