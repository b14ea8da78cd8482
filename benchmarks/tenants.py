"""What a tenant with a hundred times the traffic does to another one's added latency, on Kafka with all stages and real workers.

    python benchmarks/tenants.py [--seconds 90] [--rate 0.5] [--json]

A quiet tenant asks ``--rate`` times a second; a noisy one asks a hundred times as often, more than the workers can do at once, in the one partition that there is.
Added latency is a result's ``latency_ms`` less the time of its call, of the quiet tenant: with the noisy one and without, and with the noisy one where no
tenant has a table, so that nobody has a share. A request that is refused
counts as one that waited until its deadline. The first ten seconds do not count. Answers take 400 ms each, in four slots: fifty requests a
second are five times what these can do, and little for the rest of the machine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from benchmarks.system import System, request, wait_for
from router.contract.records import DEFAULT_DEADLINE_MS

CONFIG = """
[models.small]
provider = "sim"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
concurrency = {slots}
[pools.auto]
models = ["small"]
[web]
port = 0
"""
TABLES = "[tenants.noisy]\n[tenants.quiet]\n"
BEHAVIOUR = "[models.default]\nlatency_ms = {ms}\nlatency_sigma = 0\n"
TIMES = 100
#: Ten calls a second.
SLOTS, CALL_MS = 4, 400
SETTLING_S = 10.0
#: What a tenant may do to another one's p99.
GOAL = 1.5
CAVEATS = [
    "broker, stages, workers, the provider and the program that asks share this machine's cores",
    "the 99th percentile of some hundred requests is nearly their worst",
]


def added_ms(*, tables: bool, noisy: bool, rate: float, seconds: float) -> list[float]:
    """Added latency of each of the quiet tenant's requests, in a fresh installation, in milliseconds, ascending."""
    config = CONFIG.format(slots=SLOTS) + (TABLES if tables else "")
    with System(config, BEHAVIOUR.format(ms=CALL_MS)) as system:
        asked = asyncio.run(traffic(system, TIMES if noisy else 0, rate, seconds))
        found: list[dict[str, Any]] = []

        def all_there() -> bool:
            found[:] = [one for one in system.values("results") if one["router"]["tenant"] == "quiet"]
            return len(found) >= asked

        if not wait_for(all_there, 120):
            raise RuntimeError(f"{len(found)} of {asked} results")
    return sorted(_added_ms(one) for one in found if float(one["custom_id"].partition("-")[2]) >= SETTLING_S * rate)


def _added_ms(result: dict[str, Any]) -> float:
    """One that is refused, or came to nothing, counts as if it had waited until its deadline."""
    router = result["router"]
    if result["error"] is not None:
        return DEFAULT_DEADLINE_MS["interactive"]
    return router["latency_ms"] - (router["attempts"][0]["latency_ms"] or 0)


async def traffic(system: System, times: int, rate: float, seconds: float) -> int:
    """Both tenants, evenly; how often the quiet one has asked."""
    topic, step_s, asked = system.topic("requests"), 1.0 / rate, 0
    async with AIOKafkaProducer(bootstrap_servers=system.bootstrap, linger_ms=1) as producer:
        began_s = time.monotonic()
        while asked * step_s < seconds:
            quiet = orjson.dumps(request(f"quiet-{asked}", tenant="quiet"))
            await producer.send(topic, quiet)
            for number in range(times):
                loud = orjson.dumps(request(f"noisy-{asked}-{number}", tenant="noisy"))
                await producer.send(topic, loud)
                due_s = began_s + (asked + number / times) * step_s
                if (wait_s := due_s - time.monotonic()) > 0.005:
                    await asyncio.sleep(wait_s)
            asked += 1
            await asyncio.sleep(max(0.0, began_s + asked * step_s - time.monotonic()))
        await producer.flush()
    return asked


def at(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def measure(rate: float, seconds: float) -> Report:
    report = Report("tenants", caveats=CAVEATS)
    alone = added_ms(tables=True, noisy=False, rate=rate, seconds=seconds)
    shared = added_ms(tables=True, noisy=True, rate=rate, seconds=seconds)
    without = added_ms(tables=False, noisy=True, rate=rate, seconds=seconds)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        usual, beside, unshared = (at(values, share) for values in (alone, shared, without))
        report.add(
            f"added latency {name} of the quiet tenant beside a noisy one",
            round(beside, 1),
            "ms",
            reference=round(usual, 1),
            reference_is="alone",
            **({"goal": f"<= {GOAL} x", "met": beside <= GOAL * usual} if share == 0.99 else {}),
        )
        report.add(
            f"the same without shares, {name}",
            round(unshared, 1),
            "ms",
            reference=round(usual, 1),
            reference_is="alone",
        )
    report.fields = {"noisy_tenant_p99_ratio": round(at(shared, 0.99) / at(alone, 0.99), 2)}
    report.details = {"rate": rate, "seconds": seconds, "times": TIMES, "counted": len(shared)}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--rate", type=float, default=0.5)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.rate, asked.seconds), asked.json)


if __name__ == "__main__":
    main()
