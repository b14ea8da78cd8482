"""What ``pointsman up`` costs before the first request: time to start and to stop, memory, idle CPU.

    python benchmarks/up.py [--seconds 30] [--json]

A first start warms the caches (jars, class archive, byte code), the second is measured, on an empty folder. Idle CPU is
taken over ``--seconds`` after a settling time, with nothing sent. Reference, in the same run: the embedded broker alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.processes import cpu_of, everyone, rss_mib_of
from benchmarks.report import Report, finish, options
from benchmarks.system import System
from router.kafka.embedded import EmbeddedKafka

BROKER = "broker"
#: A broker that has just started compiles itself for half a minute.
SETTLE_S = 30.0
GOAL_PERCENT = 15.0
CAVEATS = [
    "resident memory counts pages that processes share (libraries, the byte code's file cache) in each of them",
    "two simulated models; the simulator is part of what is measured",
]


def broker_alone(seconds: float) -> tuple[float, float, float]:
    """Seconds to start, seconds to stop, idle CPU in percent of a core."""
    began_s = time.monotonic()
    kafka = EmbeddedKafka().start()
    started_s = time.monotonic() - began_s
    assert kafka.pid is not None
    idle = sum(idle_percent({BROKER: kafka.pid}, seconds).values())
    began_s = time.monotonic()
    kafka.stop()
    return started_s, time.monotonic() - began_s, idle


def idle_percent(processes: Mapping[str, int], seconds: float) -> dict[str, float]:
    """CPU by process over the next seconds, in percent of a core."""
    time.sleep(SETTLE_S)
    before, began_s = cpu_of(processes), time.monotonic()
    time.sleep(seconds)
    after, took_s = cpu_of(processes), time.monotonic() - began_s
    return {name: round((after[name] - before[name]) / took_s * 100, 2) for name in processes}


def measure(seconds: float) -> Report:
    report = Report("up", caveats=CAVEATS)
    System().__enter__().stop()
    alone_s, alone_stop_s, alone_idle = broker_alone(seconds)
    began_s = time.monotonic()
    with System() as system:
        started_s = time.monotonic() - began_s
        processes = everyone(system)
        idle = idle_percent(processes, seconds)
        memory = rss_mib_of(processes)
        began_s = time.monotonic()
        code = system.stop()
        stopped_s = time.monotonic() - began_s
        if code != 0:
            raise RuntimeError(f"`pointsman up` ended with exit code {code}")
    ours = {name: value for name, value in idle.items() if name != BROKER}
    total = round(sum(ours.values()), 1)
    report.add("start, warm", round(started_s, 1), "s", reference=round(alone_s, 1), reference_is="broker alone")
    report.add("stop", round(stopped_s, 1), "s", reference=round(alone_stop_s, 1), reference_is="broker alone")
    report.add(
        "idle CPU, all but the broker",
        total,
        "% of a core",
        reference=round(alone_idle, 1),
        reference_is="broker alone",
    )
    whole = round(sum(idle.values()), 1)
    report.add(
        "idle CPU, with the broker",
        whole,
        "% of a core",
        reference=round(alone_idle, 1),
        reference_is="broker alone",
        goal=f"<= {GOAL_PERCENT:g} % of a core",
        met=whole <= GOAL_PERCENT,
    )
    for name, value in idle.items():
        report.add(f"idle CPU: {name}", value, "% of a core")
    report.add("memory, all but the broker", round(sum(v for n, v in memory.items() if n != BROKER)), "MiB")
    for name, value in memory.items():
        report.add(f"memory: {name}", value, "MiB")
    report.fields = {"rss_mib": memory}
    report.details = {"seconds": seconds}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of idleness to look at")
    asked = parser.parse_args()
    finish(measure(asked.seconds), asked.json)


if __name__ == "__main__":
    main()
