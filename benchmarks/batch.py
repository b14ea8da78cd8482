"""A batch job: a file of lines through ``pointsman submit``, all stages, workers that answer at once.

    python benchmarks/batch.py [--lines 1000000] [--json]

Lines a second from the start of the command to its end, and the most memory that it took. Reference, on the same broker
before it: a bare aiokafka loop that passes a tenth of the lines on, at least once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks import references
from benchmarks.report import Report, finish, options
from benchmarks.stages import MODELS, PROCESSES, Stages
from benchmarks.stub import PARTITIONS, StubWorkers, lay_out, request
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka, dying_with_parent

#: What the command may take: so much, and so much a line.
BASE_MIB, LINE_BYTES = 64.0, 32
MIB = 1024 * 1024
SOURCE, OUTPUTS = "batch.in", ["batch.out"]
CAVEATS = [
    "broker, stages, stub workers and the command share this machine's cores",
    "lines are alike: 500 bytes, 70 tokens, no session, 50 tenants",
]


def submitted(stages: Stages, lines: int) -> tuple[float, float]:
    """Seconds, and MiB at most, of ``pointsman submit``. Raises ``RuntimeError`` when it fails."""
    requests, results = stages.folder / "requests.jsonl", stages.folder / "results.jsonl"
    with requests.open("wb") as file:
        file.writelines(request(number) + b"\n" for number in range(lines))
    command = [sys.executable, "-m", "router", "submit", str(requests), "--out", str(results)]
    began_s = time.monotonic()
    with (stages.folder / "submit.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=stages.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
        )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.monotonic() - began_s
    with results.open("rb") as file:
        came = sum(1 for _ in file)
    if process.returncode or came != lines:
        said = (stages.folder / "submit.log").read_text()[-2000:]
        raise RuntimeError(f"exit code {process.returncode}, {came} of {lines} results\n{said}")
    return took_s, usage.ru_maxrss / 1024


def bare_rate(bootstrap: str, lines: int) -> float:
    """Lines a second of the reference."""
    topics = {name: TopicSpec(partitions=PARTITIONS, append_time=True) for name in (SOURCE, *OUTPUTS)}
    asyncio.run(create_topics(Client(bootstrap), topics))
    asyncio.run(lay_out(bootstrap, SOURCE, [request(number) for number in range(lines)]))
    return references.rate("bare", bootstrap, SOURCE, OUTPUTS, lines).per_s


def measure(lines: int) -> Report:
    report = Report("batch", caveats=CAVEATS)
    with EmbeddedKafka() as kafka:
        bare = round(bare_rate(kafka.bootstrap, max(1000, lines // 10)))
        with Stages(kafka.bootstrap, "batch", PROCESSES["all stages"]) as stages:
            stages.create_topics()
            with StubWorkers(kafka.bootstrap, stages.names, MODELS):
                stages.start()
                took_s, most_mib = submitted(stages, lines)
    per_s, goal_mib = round(lines / took_s), BASE_MIB + LINE_BYTES * lines / MIB
    report.add("lines through submit", per_s, "lines/s", reference=bare, reference_is="bare loop")
    report.add(
        "memory of submit, at most", round(most_mib, 1), "MiB", goal=f"<= {goal_mib:.1f}", met=most_mib <= goal_mib
    )
    report.fields = {"batch_lines_per_s": per_s}
    report.details = {"lines": lines, "seconds": round(took_s, 1)}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.lines), asked.json)


if __name__ == "__main__":
    main()
