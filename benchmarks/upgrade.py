"""A rolling upgrade under load: the previous release's installation, replaced process by process, and back again.

    python benchmarks/upgrade.py [--apart] [--rate 20] [--seed 1] [--json]

Both releases run side by side, each request crosses whatever mixture there is then. Before the first process of the new release its topics are created. On the way up processes
come in the order workers, route, settle, what learns, web, on the way down in an order drawn from the seed. Then all is judged from the topics as after any fault
(``disturb/judge.py``): one result a request, all of them ok, each call priced once, windows that add up, each opinion counted once; and no dead letters but
those of forged opinions. While all run the new release, records of a later minor and of a later major version are sent, too.

The previous release is the commit whose first line is ``PREVIOUS``, the first one that passes over what it does not know. What ran before cannot run beside what came after: it refuses slips
and rows with one field more. With a release that has a tag, ``PREVIOUS`` becomes that commit's first line.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaProducer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.disturb.fleet import ROOT, Fleet, code_of, unpack
from benchmarks.disturb.judge import judge
from benchmarks.disturb.traffic import FORGED, Traffic
from benchmarks.report import Report, finish, options
from benchmarks.system import request, wait_for

PREVIOUS: Final = "What a later release says beyond is passed over"
CALM_S, BETWEEN_S = 3.0, 1.0
CAVEATS = ["both releases run in one virtual environment: what a release changes of its dependencies is not tried"]
Json = dict[str, Any]


def run(previous: Path, *, apart: bool, rate: float, seed: int) -> tuple[Json, list[str]]:
    """Up and down; figures, and what should not be. ``previous``: the source of that release."""
    draw, mixtures = Random(seed), 0
    for source in (previous, ROOT):
        if code_of(source) != source:
            raise RuntimeError(f"{source} would not run its own code but that of {code_of(source)}")
    with Fleet(previous, apart=apart) as fleet:
        with Traffic(fleet.bootstrap, fleet.prefix, rate=rate, seed=seed) as traffic:
            time.sleep(CALM_S)
            fleet.create_topics(ROOT)
            for source, names in ((ROOT, fleet.names()), (previous, draw.sample(fleet.names(), len(fleet.names())))):
                for name in names:
                    if name.startswith("worker"):
                        fleet.crashed()
                    fleet.replace(name, source)
                    mixtures += len({fleet.source_of(one) for one in fleet.names()}) > 1
                    time.sleep(BETWEEN_S)
                if source is ROOT:
                    versions = send_versions(fleet)
                time.sleep(CALM_S)
        figures, problems = judge(fleet, all_ok=False)
        if traffic.failure is not None:
            problems.append(f"the load ended early: {traffic.failure!r}")
        problems += [*versions, *unexpected(fleet, figures)]
        figures |= {"mixtures": mixtures, "processes": len(fleet.names())}
        if problems:
            fleet.keep = True
            figures["folder"] = str(fleet.folder)
    return figures, problems


def send_versions(fleet: Fleet) -> list[str]:
    """A request of a later minor version, with fields that nobody knows, and an opinion of a later major one; what is wrong with what became of them."""
    known = request("minor", tenant="versions", deadline_ms=60_000, unheard_of=[1, 2]) | {"unheard_of": {"of": 1}}
    later = {
        "kind": "thumbs",
        "value": 0.0,
        "feedback_token": "of a later release",
        "comment": FORGED,
    }  # no opinion to the judge
    asyncio.run(_send(fleet, {"requests": (known, b"1.7"), "feedback": (later, b"2")}))

    def seen() -> bool:
        answered = any(one["custom_id"] == "minor" for one in fleet.values("results"))
        return answered and "unsupported_schema" in letters(fleet)

    if wait_for(seen, 60, every_s=1.0):
        return []
    return ["a record of a later minor version was not answered, or one of a later major version is no dead letter"]


async def _send(fleet: Fleet, records: dict[str, tuple[Json, bytes]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=fleet.bootstrap) as producer:
        for topic, (value, version) in records.items():
            await producer.send_and_wait(fleet.topic(topic), orjson.dumps(value), headers=[("schema", version)])


def letters(fleet: Fleet) -> Counter[str]:
    """Dead letters by the code of their reason."""
    return Counter(letter["reason"]["code"] for letter in fleet.values("dead-letter"))


def unexpected(fleet: Fleet, figures: Json) -> list[str]:
    """Dead letters and results that nothing but the mixture explains."""
    expected = {"forged_token": figures.get("opinions", {}).get("forged", 0), "unsupported_schema": 1}
    found = letters(fleet)
    figures["dead_letters"] = dict(found)
    problems = [f"{count} dead letters {code}" for code, count in found.items() if count > expected.get(code, 0)]
    for letter in fleet.values("dead-letter"):
        if letter["reason"]["code"] not in expected and len(problems) < 10:
            problems.append(f"{letter['stage']} from {letter['topic']}: {letter['reason']['message'][:200]}")
    return problems + [f"{count} results {code}" for code, count in figures.get("results", {}).items() if code != "ok"]


def measure(*, apart: bool, rate: float, seed: int) -> Report:
    """Run it, and tell."""
    with tempfile.TemporaryDirectory(prefix="pointsman-previous-") as folder:
        commit, previous = unpack(PREVIOUS, Path(folder).resolve() / "previous")
        figures, problems = run(previous, apart=apart, rate=rate, seed=seed)
    report = Report("upgrade", caveats=CAVEATS)
    report.add("processes replaced, up and down", 2 * figures["processes"], "")
    report.add("of these, both releases ran beside each other after", figures["mixtures"], "")
    report.add("requests", figures.get("requests"), "")
    report.add("what was not as it should be", len(problems), "", goal="0", met=not problems)
    report.details = {"problems": problems, "figures": figures, "previous": commit, "seed": seed, "apart": apart}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--apart", action="store_true", help="a process for each stage and worker")
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    finish(measure(apart=asked.apart, rate=asked.rate, seed=asked.seed), asked.json)


if __name__ == "__main__":
    main()
