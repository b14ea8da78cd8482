"""Requests in, results out: what the stages carry when the workers answer at once.

    python benchmarks/full_path.py [--requests 50000] [--rounds 3] [--json]

Requests of 500 bytes lie ready in their topic; ``route`` and ``settle`` run as processes, workers are a loop that writes
an outcome for each work record at once, results are counted by a ``read_committed`` consumer, from the first batch of
them to the last. Then the same with all stages running. References, on the same broker in the same round: a bare
aiokafka loop and stock Faust, which pass the same requests through once, at least once; for CPU also LiteLLM's Router with
an answer that is there at once, when it is installed.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks import litellm_router, references
from benchmarks.processes import cpu_of
from benchmarks.report import Report, finish, options
from benchmarks.stages import CONFIG, MODELS, PROCESSES, Stages
from benchmarks.stub import PARTITIONS, StubWorkers, drive, lay_out, request
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka

CAVEATS = [
    "broker, stages, stub workers and counting consumer share this machine's cores",
    "a request crosses Kafka three times, exactly once, and leaves a work record, a decision, a result and a usage record",
    "the references cross it once, at least once, and leave one record",
    "CPU time of a process is counted from the stages' readiness on; the broker's includes what the load makes it do",
    "requests are alike: 500 bytes, 70 tokens, no session, 50 tenants",
]
OUTPUTS = 3
BARE, STOCK, LITELLM = "bare loop", "stock Faust", "LiteLLM's Router"
BROKER = "broker"
#: Rates to the bare loop, and what of LiteLLM's CPU time a request may take.
RATE_GOALS = {"route and settle": 0.25, "all stages": 0.15}
ROUTE_CPU_GOAL, ALL_CPU_GOAL = 1 / 50, 1 / 20


def stages_rate(
    kafka: EmbeddedKafka,
    prefix: str,
    wanted: Mapping[str, Sequence[str]],
    values: Sequence[bytes],
    *,
    config: str = CONFIG,
) -> dict[str, Any]:
    """Requests a second through some stages, and CPU microseconds a request of each process and of the broker."""
    assert kafka.pid is not None
    with Stages(kafka.bootstrap, prefix, wanted, config=config) as stages:
        stages.create_topics()
        with StubWorkers(kafka.bootstrap, stages.names, MODELS):
            stages.start()
            processes = stages.pids | {BROKER: kafka.pid}
            before = cpu_of(processes)
            counted = asyncio.run(
                drive(
                    kafka.bootstrap,
                    stages.names,
                    iter(values),
                    count=len(values),
                    in_flight=len(values),
                    check=stages.check,
                )
            )
            after = cpu_of(processes)
    cpu_us = {one: round((after[one] - before[one]) / len(values) * 1e6, 1) for one in after}
    return {"per_s": counted.per_s, "cpu_us": cpu_us}


def one_round(kafka: EmbeddedKafka, number: int, values: Sequence[bytes]) -> dict[str, Any]:
    """References and stages, one after the other."""
    bootstrap = kafka.bootstrap
    source, outputs = f"bench{number}.in", [f"bench{number}.out{one}" for one in range(OUTPUTS)]
    short = f"bench{number}.short"
    topics = {name: TopicSpec(partitions=PARTITIONS, append_time=True) for name in (source, short, *outputs)}
    asyncio.run(create_topics(Client(bootstrap), topics))
    few = values[: max(1000, len(values) // 10)]
    asyncio.run(lay_out(bootstrap, source, values))
    asyncio.run(lay_out(bootstrap, short, few))
    return {
        "bare": asdict(references.rate("bare", bootstrap, source, outputs, len(values))),
        "stock": asdict(references.rate("stock", bootstrap, short, outputs, len(few))),
        **{name: stages_rate(kafka, f"b{number}{name[:1]}", wanted, values) for name, wanted in PROCESSES.items()},
    }


def measure(requests: int, rounds: int) -> Report:
    report = Report("full_path", caveats=CAVEATS)
    values = [request(number) for number in range(requests)]
    with EmbeddedKafka() as kafka:
        found = [one_round(kafka, number, values) for number in range(rounds)]
    report.details = {"requests": requests, "rounds": found}

    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(of, found))

    bare, stock = (round(median(lambda one, name=name: one[name]["per_s"])) for name in ("bare", "stock"))
    report.add("stock Faust, one hop", stock, "requests/s", reference=bare, reference_is=BARE)
    for name in PROCESSES:
        per_s = round(median(lambda one, name=name: one[name]["per_s"]))
        times, goal = round(per_s / bare, 3), RATE_GOALS[name]
        report.add(
            f"full path, {name}",
            per_s,
            "requests/s",
            reference=bare,
            reference_is=BARE,
            goal=f">= {goal:g} of it",
            met=times >= goal,
        )
        report.fields.setdefault("full_path_to_aiokafka", {})[name.replace(" ", "_")] = times
        report.add(f"full path, {name}", per_s, "requests/s", reference=stock, reference_is=STOCK)
    bare_us, stock_us = (round(median(lambda one, name=name: one[name]["cpu_us"]), 1) for name in ("bare", "stock"))
    report.add("CPU, stock Faust", stock_us, "us a request", reference=bare_us, reference_is=BARE)
    for name, processes in PROCESSES.items():
        for process in (*processes, BROKER):
            spent_us = round(median(lambda one, where=(name, process): one[where[0]]["cpu_us"][where[1]]), 1)
            report.add(f"CPU, {name}: {process}", spent_us, "us a request", reference=bare_us, reference_is=BARE)
    route_us = round(median(lambda one: one["all stages"]["cpu_us"]["route"]), 1)
    broker_us = round(median(lambda one: one["all stages"]["cpu_us"][BROKER]), 1)
    all_us = round(median(lambda one: sum(one["all stages"]["cpu_us"][name] for name in PROCESSES["all stages"])), 1)
    report.fields["cpu_us_per_request"] = {"route": route_us, "all_stages": all_us, "broker": broker_us}
    if (theirs_us := litellm_router.cpu_us()) is not None:
        report.fields["litellm_router_cpu_us_per_request"] = theirs_us
        for name, spent_us, goal in (("route", route_us, ROUTE_CPU_GOAL), ("all stages", all_us, ALL_CPU_GOAL)):
            report.add(
                f"CPU, {name}",
                spent_us,
                "us a request",
                reference=theirs_us,
                reference_is=LITELLM,
                goal=f"<= 1/{1 / goal:g} of it",
                met=spent_us <= goal * theirs_us,
            )
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.requests, asked.rounds), asked.json)


if __name__ == "__main__":
    main()
