"""What more models, strata and tenants cost: rate, memory, and partitions that a transaction touches.

    python benchmarks/scaling.py [--requests 20000] [--json]

All stages run, workers answer at once, and as many requests as are asked for lie ready in their topic, spread over models,
strata and tenants. The reference of each case is the smallest one, of the same run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.processes import rss_mib_of
from benchmarks.report import Report, finish, options
from benchmarks.stages import PROCESSES, Stages
from benchmarks.stub import StubWorkers, drive
from router.kafka.embedded import EmbeddedKafka
from router.web.registry import running

TEXT = "why does my invoice show two charges for the same month? "
#: Short prompts are in the first band, long ones in the second.
SHORT, LONG, BORDER_TOKENS = 2, 10, 60
STAGES = ("route", "settle", "account", "feedback", "watch")
SMALLEST = "2 models, 5 strata, 10 tenants"
CAVEATS = [
    "broker, stages, stub workers and counting consumer share this machine's cores",
    "cases come in this order, once each, on one broker: later ones find a warm broker and the topics of those before",
    "a transaction holds more records where the broker is slower: partitions touched are to be read beside them",
    "models have one work topic each and lane, of four partitions: 50 models are 400 partitions more to fetch for the stub workers too",
]


@dataclass(frozen=True, slots=True)
class Case:
    """How many of each; ``strata`` = classes x bands."""

    models: int = 2
    classes: int = 5
    bands: int = 1
    tenants: int = 10

    @property
    def name(self) -> str:
        return f"{self.models} models, {self.classes * self.bands} strata, {self.tenants:,} tenants"

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(f"m{number}" for number in range(self.models))

    def config(self) -> str:
        """Rules for all classes but the last, which is ``general``."""
        rules = ", ".join(f'{{ name = "c{number}", any = ["topic{number}x"] }}' for number in range(self.classes - 1))
        last = '{ name = "hard" }'
        bands = f'{{ name = "easy", max_tokens = {BORDER_TOKENS} }}, {last}' if self.bands > 1 else last
        models = "".join(
            f'[models.{name}]\nprovider = "external"\ninput_usd_per_mtok = {1 + number}\noutput_usd_per_mtok = {4 + number}\n'
            for number, name in enumerate(self.model_names)
        )
        pool = f'[pools.auto]\nmodels = {json.dumps(self.model_names)}\nbaseline = "m0"\n'
        return f"[web]\nport = 0\n[classify]\nrules = [{rules}]\nbands = [{bands}]\n{models}{pool}"

    def request(self, number: int) -> bytes:
        kind, long = number % self.classes, self.bands > 1 and number // self.classes % 2
        text = f"topic{kind}x: {TEXT * (LONG if long else SHORT)}"
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 256}
        router = {"tenant": f"t{number % self.tenants}", "deadline_ms": 3_600_000}
        return orjson.dumps({"custom_id": f"r-{number}", "body": body, "router": router})


CASES = (
    Case(),
    Case(models=10),
    Case(models=50),
    Case(classes=50, bands=2),
    Case(tenants=1000),
    Case(models=50, classes=50, bands=2, tenants=1000),
)


def touched(stages: Stages) -> dict[str, dict[str, float]]:
    """Of each stage: transactions, and partitions and records in one of them."""
    found: dict[str, dict[str, float]] = {}
    for process in running(stages.folder):
        with urllib.request.urlopen(f"http://{process.host}:{process.port}/healthz", timeout=10) as answer:
            probes = json.load(answer)["probes"]
        for name, said in probes.items():
            stage = name.rpartition("-")[2]
            if stage in STAGES and said.get("done_transactions"):
                number = said["done_transactions"]
                found[stage] = {
                    "transactions": number,
                    "partitions": round(said["done_partitions"] / number, 1),
                    "records": round(said["done_records"] / number, 1),
                }
    return found


def carry(
    kafka: EmbeddedKafka, number: int, case: Case, requests: int
) -> tuple[float, Mapping[str, float], dict[str, dict[str, float]]]:
    """Requests a second, MiB of each process after it, and what transactions touched."""
    with Stages(kafka.bootstrap, f"scale{number}", PROCESSES["all stages"], config=case.config()) as stages:
        stages.create_topics()
        with StubWorkers(kafka.bootstrap, stages.names, case.model_names):
            stages.start()
            values = map(case.request, range(requests))
            driven = drive(
                kafka.bootstrap, stages.names, values, count=requests, in_flight=requests, check=stages.check
            )
            per_s = asyncio.run(driven).per_s
            return per_s, rss_mib_of(stages.pids), touched(stages)


def measure(requests: int) -> Report:
    report = Report("scaling", caveats=CAVEATS)
    with EmbeddedKafka() as kafka:
        found = [carry(kafka, number, case, requests) for number, case in enumerate(CASES)]
    base_per_s, base_mib, base_touched = found[0]
    for case, (per_s, _, _) in zip(CASES, found, strict=True):
        report.add(case.name, round(per_s), "requests/s", reference=round(base_per_s), reference_is=SMALLEST)
    for case, (_, mib, _) in zip(CASES, found, strict=True):
        report.add(
            f"memory of all, {case.name}",
            round(sum(mib.values())),
            "MiB",
            reference=round(sum(base_mib.values())),
            reference_is=SMALLEST,
        )
    for stage in ("route", "settle", "account"):
        for case, (_, _, told) in zip(CASES, found, strict=True):
            report.add(
                f"partitions a transaction of {stage}, {case.name}",
                told[stage]["partitions"],
                f"for {told[stage]['records']:,.0f} records",
                reference=base_touched[stage]["partitions"],
                reference_is=SMALLEST,
            )
    report.details = {
        "requests": requests,
        "cases": {
            case.name: {"per_s": round(per_s), "mib": dict(mib), "transactions": told}
            for case, (per_s, mib, told) in zip(CASES, found, strict=True)
        },
    }
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.requests), asked.json)


if __name__ == "__main__":
    main()
