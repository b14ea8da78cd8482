"""What the router adds to the time that the provider takes, one request after the other at a steady rate.

    python benchmarks/latency.py [--rate 100] [--seconds 30] [--partitions N] [--json]

``pointsman up`` as it comes, two simulated models behind HTTP that answer after 50 ms exactly. Added latency: the moment
when a ``read_committed`` consumer has the result, minus the moment before the request was produced, minus those 50 ms. ``--warm`` seconds at the
same rate come before. Then the same at half the maximum, which a burst of ``BURST`` requests tells. Reference, on the same broker and provider before it: a bare aiokafka loop that makes the same HTTP call for each request
and sends the answer on, at least once (``references.py caller``).
"""

from __future__ import annotations

import asyncio
import math
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks import references
from benchmarks.processes import cpu_of, everyone
from benchmarks.reader import Read, Reader
from benchmarks.report import Report, finish, options
from benchmarks.stub import TENANTS, request
from benchmarks.system import CONFIG, System
from router.cluster import EMBEDDED_PARTITIONS
from router.contract.ids import request_id
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client

PROVIDER_MS = 50.0
BEHAVIOUR = f"[models.default]\nlatency_ms = {PROVIDER_MS}\nlatency_sigma = 0\n"
#: Not counted: connections are opened, and a fresh broker compiles itself (20 s are not enough on two cores: 26 and 89 ms).
WARM_S = 60.0
PATIENCE_S = 60.0
#: Handed over at once: how soon their results come is the most that this machine carries.
BURST = 4000
#: Percent -> ms, at 100/s and at half the maximum.
GOALS_MS = {50: 16.0, 99: 60.0}
HALF_GOALS_MS = {50: 150.0, 99: 400.0}
SOURCE, RESULTS = "latency.in", "latency.out"
CAVEATS = [
    "load generator, reader, simulated provider, broker and all processes share this machine's cores",
    "the provider's time is what it was told to wait; what HTTP and the simulator take beyond counts as added",
]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, for how long, how long before anything is counted, and over how many partitions."""

    rate: float
    seconds: float
    warm_s: float
    partitions: int = EMBEDDED_PARTITIONS


async def send(bootstrap: str, topic: str, values: Sequence[bytes], load: Load) -> list[float]:
    """Send one request after the other; when each was made, ms since 1970."""
    made_ms = []
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.partitions_for(topic)
        began_s = time.monotonic()
        for number, value in enumerate(values):
            await asyncio.sleep(max(0.0, began_s + number / load.rate - time.monotonic()))
            made_ms.append(time.time() * 1000)
            await producer.send(topic, value, partition=number % load.partitions)
        await producer.flush()
    return made_ms


def through(bootstrap: str, source: str, results: str, load: Load, first: int = 0) -> np.ndarray:
    """Send at a rate, wait for all results; the added latencies but for the warm-up's, ms.

    ``first``: number of the first request; no other request has the number of one of these.
    """
    numbers = range(first, first + int(load.rate * (load.warm_s + load.seconds)))
    made_ms, came_ms = exchange(bootstrap, source, results, numbers, load)
    skip = int(load.rate * load.warm_s)
    return np.array([came_ms[n] - made - PROVIDER_MS for n, made in zip(numbers, made_ms, strict=True)][skip:])


def most_per_s(bootstrap: str, source: str, results: str, first: int, load: Load) -> float:
    """Results a second of a burst, from the first that comes to the last."""
    numbers = range(first, first + BURST)
    _, came_ms = exchange(bootstrap, source, results, numbers, replace(load, rate=math.inf))
    came = sorted(came_ms[number] for number in numbers)
    return (BURST - 1) / (came[-1] - came[0]) * 1000


def exchange(
    bootstrap: str, source: str, results: str, numbers: range, load: Load
) -> tuple[list[float], dict[int, float]]:
    """Send requests, wait for the results of all: when each was made, and number -> when its result came, ms."""
    came_ms: dict[int, float] = {}
    read = 0

    def whole(reads: Sequence[Read]) -> bool:
        nonlocal read
        new, read = reads[read:], len(reads)
        found = ((_number(one.record.value), one.readable_at_ms) for one in new)
        came_ms.update((number, at_ms) for number, at_ms in found if number in numbers)
        return len(came_ms) == len(numbers)

    with Reader(bootstrap, [results]) as reader:
        made_ms = asyncio.run(send(bootstrap, source, [request(number) for number in numbers], load))
        if not reader.until(whole, PATIENCE_S):
            raise RuntimeError(f"{len(came_ms)} of {len(numbers)} results came within {PATIENCE_S:.0f} s")
    return made_ms, came_ms


def reference(system: System, load: Load) -> np.ndarray:
    """The same through the bare loop."""
    topics = {name: TopicSpec(partitions=load.partitions) for name in (SOURCE, RESULTS)}
    asyncio.run(create_topics(Client(system.bootstrap), topics))
    found = re.findall(r"provider at (http://[^/]+)/", (system.data_dir / "logs" / "sim.log").read_text())
    url = f"--url={found[-1]}/v1/chat/completions"
    process: subprocess.Popen[str] = references.start("caller", system.bootstrap, SOURCE, [RESULTS], url)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "READY":
            raise RuntimeError(f"the reference did not start:\n{process.communicate()[1][-2000:]}")
        return through(system.bootstrap, SOURCE, RESULTS, load)
    finally:
        process.kill()
        process.wait()


def measure(load: Load) -> Report:
    report = Report("latency", caveats=CAVEATS)
    with System(f"{CONFIG}[kafka]\npartitions = {load.partitions}\n", BEHAVIOUR) as system:
        where = system.bootstrap, system.topic("requests"), system.topic("results")
        bare = reference(system, load)
        before, began_s = cpu_of(everyone(system)), time.monotonic()
        ours = through(*where, load)
        after, took_s = cpu_of(everyone(system)), time.monotonic() - began_s
        hops = hops_ms(system)
        sent = int(load.rate * (load.warm_s + load.seconds))
        most = most_per_s(*where, sent, load)
        half = replace(load, rate=round(most / 2))
        at_half = through(*where, half, sent + BURST)
    for percent, goal_ms in GOALS_MS.items():
        value, base = _percentile(ours, percent), _percentile(bare, percent)
        report.add(
            f"added latency at {load.rate:g}/s, p{percent}",
            value,
            "ms",
            reference=base,
            reference_is="bare loop that calls the provider",
            goal=f"<= {goal_ms:g} ms",
            met=value <= goal_ms,
        )
    report.add(f"the most: results of {BURST:,} requests handed over at once", round(most), "results/s")
    for percent, goal_ms in HALF_GOALS_MS.items():
        value = _percentile(at_half, percent)
        name = f"added latency at half of that, {half.rate:g}/s, p{percent}"
        report.add(name, value, "ms", goal=f"<= {goal_ms:g} ms", met=value <= goal_ms)
    for name in before:
        report.add(
            f"CPU at {load.rate:g}/s: {name}", round((after[name] - before[name]) / took_s * 100, 1), "% of a core"
        )
    report.fields = {
        "added_latency_ms": {f"p{percent}": _percentile(ours, percent) for percent in GOALS_MS}
        | {"half_maximum": {f"p{percent}": _percentile(at_half, percent) for percent in HALF_GOALS_MS}}
    }
    report.details = {
        "load": asdict(load),
        "added_ms": shape(ours),
        "reference_ms": shape(bare),
        "at_half_ms": shape(at_half),
        "hops_ms": {name: shape(values) for name, values in hops.items()},
    }
    return report


def hops_ms(system: System) -> dict[str, np.ndarray]:
    """Where the time goes, by the broker's own stamps: between the records of a request, first attempts only."""
    topics = ["requests", *(f"work.{model}" for model in system.config["models"]), "outcomes", "results"]
    stamps: dict[str, dict[str, int]] = {"requests": {}, "work": {}, "outcomes": {}, "results": {}}
    for record in system.records(*topics):
        place = record.topic.removeprefix(f"{system.prefix}.").partition(".")[0]
        known = record.key.decode() if place in {"work", "outcomes"} else _id_of(record.value)
        stamps[place].setdefault(known, record.timestamp)
    found = {}
    for before, after in pairwise(stamps):
        both = stamps[before].keys() & stamps[after].keys()
        found[f"{before} to {after}"] = np.array([stamps[after][one] - stamps[before][one] for one in both])
    return found


def _number(value: bytes) -> int:
    """Of a request or a result."""
    return int(orjson.loads(value)["custom_id"].removeprefix("r-"))


def _id_of(value: bytes) -> str:
    number = _number(value)
    return request_id(f"t{number % TENANTS}", f"r-{number}")


def _percentile(values: np.ndarray, percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1)


def shape(values: np.ndarray) -> dict[str, Any]:
    found = {f"p{percent:g}": _percentile(values, percent) for percent in (5, 50, 90, 99, 99.9)}
    return {"requests": len(values), **found, "max": round(float(values.max()), 1)}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--warm", type=float, default=WARM_S, help="seconds at the same rate before, not counted")
    parser.add_argument("--partitions", type=int, default=EMBEDDED_PARTITIONS, help="as `kafka.partitions`")
    asked = parser.parse_args()
    finish(measure(Load(asked.rate, asked.seconds, asked.warm, asked.partitions)), asked.json)


if __name__ == "__main__":
    main()
