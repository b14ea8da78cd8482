"""Memory of each process after many requests: what an id may cost, and that nothing else grows.

    python benchmarks/memory.py [--requests 100000 500000] [--small] [--json]

All stages run, workers are a loop that answers at once, at most ``IN_FLIGHT`` requests are open. Resident memory is read
after each number of requests. First with the default dedupe window of a day: growth between the two readings, by id,
beside the bytes that an id is stated to take. Then with a dedupe window of 10 s and deadlines of 5 s: ids are forgotten
as fast as they come, so nothing may grow.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.processes import rss_mib_of
from benchmarks.report import Report, finish, options
from benchmarks.stages import CONFIG, MODELS, PROCESSES, Stages
from benchmarks.stub import StubWorkers, drive, request
from router.kafka.embedded import EmbeddedKafka

IN_FLIGHT = 4000
#: Before a reading, for what is under way to end.
REST_S = 5.0
SHORT_WINDOW = "[settle]\ndedupe_window_s = 10\n"
SHORT_DEADLINE_MS = 5_000
#: Stated bytes an id: settle remembers it once (core/packed), feedback once more; nobody else remembers any.
STATED_BYTES = {"settle": 60, "learning": 60, "route": 0, "web": 0}
#: What does not grow with ids may still move by this much: buffers of batches in flight, the allocator.
SLACK_MIB = 16.0
MIB = 1024 * 1024
CAVEATS = [f"memory also moves with batches in flight and the allocator: growth below {SLACK_MIB:g} MiB counts as none"]


def readings(
    bootstrap: str, prefix: str, config: str, counts: Sequence[int], deadline_ms: int
) -> list[dict[str, float]]:
    """MiB of each process after each number of requests; the first reading is of 0."""
    with Stages(bootstrap, prefix, PROCESSES["all stages"], config=config) as stages:
        stages.create_topics()
        with StubWorkers(bootstrap, stages.names, MODELS):
            stages.start()
            found, done = [rss_mib_of(stages.pids)], 0
            for count in counts:
                numbers = range(done, count)
                values = (request(number, deadline_ms=deadline_ms) for number in numbers)
                driving = drive(
                    bootstrap, stages.names, values, count=len(numbers), in_flight=IN_FLIGHT, check=stages.check
                )
                asyncio.run(driving)
                done = count
                time.sleep(REST_S)
                found.append(rss_mib_of(stages.pids))
    return found


def add_growth(report: Report, found: Sequence[Mapping[str, float]], counts: Sequence[int]) -> None:
    """Bytes an id between the last two readings."""
    ids = counts[-1] - counts[-2]
    for name in found[0]:
        grown_mib, stated = found[-1][name] - found[-2][name], STATED_BYTES[name]
        report.add(
            f"growth, {name}",
            round(grown_mib * MIB / ids, 1),
            "bytes an id",
            goal=f"<= {stated} and {SLACK_MIB:g} MiB",
            met=grown_mib <= stated * ids / MIB + SLACK_MIB,
        )


def add_flat(report: Report, found: Sequence[Mapping[str, float]]) -> None:
    """Growth between the last two readings where nothing is to be remembered."""
    for name in found[0]:
        grown_mib = round(found[-1][name] - found[-2][name], 1)
        report.add(
            f"growth, window of 10 s, {name}",
            grown_mib,
            "MiB",
            goal=f"<= {SLACK_MIB:g} MiB",
            met=grown_mib <= SLACK_MIB,
        )


def measure(counts: Sequence[int]) -> Report:
    report = Report("memory", caveats=CAVEATS)
    with EmbeddedKafka() as kafka:
        day = readings(kafka.bootstrap, "day", CONFIG, counts, 3_600_000)
        short = readings(kafka.bootstrap, "short", CONFIG + SHORT_WINDOW, counts, SHORT_DEADLINE_MS)
    for name, title in itertools.product(day[0], ("", "window of 10 s, ")):
        for count, reading in zip((0, *counts), short if title else day, strict=True):
            report.add(f"{title}{name} after {count:,} requests", reading[name], "MiB")
    add_growth(report, day, counts)
    grown_mib = day[-1]["settle"] - day[-2]["settle"]
    report.fields = {"settled_ids_mib_per_million": round(grown_mib / (counts[-1] - counts[-2]) * 1e6, 1)}
    add_flat(report, short)
    report.details = {"requests": list(counts), "in_flight": IN_FLIGHT}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, nargs=2, default=(100_000, 500_000), metavar="N")
    parser.add_argument("--small", action="store_true", help="2,000 and 10,000 requests")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure((2_000, 10_000) if asked.small else asked.requests), asked.json)


if __name__ == "__main__":
    main()
