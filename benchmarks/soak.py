"""Does it stay as it is? A whole installation at a steady rate: memory, file handles and threads of each process, and labels of its metrics.

    python benchmarks/soak.py [--minutes 30] [--rate 20] [--json]        # --minutes 480 for a night

Requests come with sessions, batch, failing calls, opinions and forged ones; each is of a tenant that was hardly ever seen before, so that whatever is
kept by tenant shows. **What is kept for a day is kept for seconds** (the dedupe window, sessions, feedback tokens), so that within
minutes as much expires as comes: a table that does not let go grows here in half an hour as it would in weeks. Two things are kept for longer, whatever the
configuration says: the web stage's last hour of metrics, and how often a conversation gave an opinion, for two weeks. So conversations come back here, and windows are
a minute long. Every stage and worker has a process of its own, which names what grows.

The first third of the time is warm-up. Of the rest each slope has an interval (``slopes.py``) such that all of them together hold with 95 %. A slope is zero
within noise when its interval reaches 0, or when all growth is below what can be told apart (``RESOLUTION``). The broker and the simulated provider are shown
without a goal: neither is the router.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.disturb.traffic import Traffic
from benchmarks.processes import everyone, rss_kib
from benchmarks.report import Report, finish, options
from benchmarks.slopes import Slope, slope
from benchmarks.system import System, summary, wait_for
from router.web.registry import running

CONFIG: Final = """
[models.small]
provider = "sim"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
concurrency = 32
[models.large]
provider = "sim"
input_usd_per_mtok = 2.50
output_usd_per_mtok = 10.00
concurrency = 32
[pools.auto]
models = ["small", "large"]
baseline = "large"
session_ttl_s = 20
[pools.still]
models = ["small", "large"]
baseline = "large"
session_ttl_s = 20
[tenants.t0]
[tenants.other]
[settle]
dedupe_window_s = 20
[feedback]
ttl_s = 20
[account]
window_s = 60
grace_s = 2
[web]
port = 0
"""
BEHAVIOUR: Final = "[models.default]\nlatency_ms = 100\nlatency_sigma = 0.5\n[models.default.errors]\n503 = 0.02\n"
TENANTS, SESSIONS, DEADLINE_MS = 1_000_000, 200, 20_000
SAMPLE_S, LABELS_EVERY_S, WARM_UP = 2.0, 30.0, 1 / 3
#: What of memory (KiB), handles and threads cannot be told apart from none in all of the time.
RESOLUTION: Final = {"memory": 1024.0, "file handles": 1.0, "threads": 1.0}
#: Label sets that one family of metrics may have: models, stages, codes and endpoints are few, tenants are in no label.
MOST_LABELS = 100
NOT_OURS: Final = frozenset({"broker", "sim"})
CAVEATS = [
    "broker, stages, workers, the provider and the program that asks share this machine's cores",
    "what can be kept for a day by the configuration is kept for 20 s, so that it expires as fast as it comes",
]
_SERIES: Final = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)\{")

#: Process and what is measured of it -> samples, and their times.
Samples = dict[tuple[str, str], list[float]]


class Watch:
    """Samples of all processes of an installation, and what its metrics say."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.pids = everyone(system)
        self.at_s: list[float] = []
        self.samples: Samples = defaultdict(list)
        self.labels: list[dict[str, int]] = []
        self._next_labels_s = 0.0

    def until(self, end_s: float) -> None:
        """Look every ``SAMPLE_S`` until then (monotonic)."""
        while time.monotonic() < end_s:
            self.look(time.monotonic())
            time.sleep(SAMPLE_S)

    def look(self, now_s: float) -> None:
        for name, pid in self.pids.items():
            found = measured(pid)
            if found is None:
                raise RuntimeError(f"{name} has ended: see {self.system.folder}")
            for what, value in found.items():
                self.samples[name, what].append(value)
        self.at_s.append(now_s)
        if now_s >= self._next_labels_s:
            self._next_labels_s = now_s + LABELS_EVERY_S
            self.labels.append(label_sets(self.system))


def measured(pid: int) -> dict[str, float] | None:
    """Memory in KiB, open files, threads; ``None`` once the process is gone."""
    with contextlib.suppress(OSError):
        memory = rss_kib(pid)
        if memory:
            return {
                "memory": float(memory),
                "file handles": float(len(os.listdir(f"/proc/{pid}/fd"))),  # noqa: PTH208 - names are not wanted
                "threads": float(len(os.listdir(f"/proc/{pid}/task"))),  # noqa: PTH208
            }
    return None


def label_sets(system: System) -> dict[str, int]:
    """Process and family of its ``/metrics`` -> how many label sets the family has now."""
    found: dict[str, int] = defaultdict(int)
    for process in running(system.data_dir):
        with contextlib.suppress(OSError):  # busy: the next look will tell
            address = f"http://{process.host}:{process.port}/metrics"
            with urllib.request.urlopen(address, timeout=5) as answer:
                for line in answer.read().decode().splitlines():
                    if series := _SERIES.match(line):
                        found[f"{process.name}: {series[1]}"] += 1
    return dict(found)


def measure(minutes: float, rate: float) -> Report:
    """Run it, and tell."""
    report = Report("soak", caveats=CAVEATS)
    seconds = 60.0 * minutes
    system = System(CONFIG, BEHAVIOUR)
    system.options.append("--apart")
    with system:
        traffic = Traffic(
            system.bootstrap,
            system.prefix,
            rate=rate,
            seed=1,
            tenants=TENANTS,
            sessions=SESSIONS,
            deadline_ms=DEADLINE_MS,
        )
        with traffic:
            watch = Watch(system)
            watch.until(time.monotonic() + seconds)
            after = everyone(system)
        replaced = sorted(name for name, pid in watch.pids.items() if after.get(name) != pid)
        asked = len(system.records("requests", "requests.batch"))
        wait_for(lambda: len(system.records("results")) >= asked, 60, every_s=1.0)
        results = system.values("results")
        problems = system.audit(within_s=120).problems
        tenants = {window["tenant"] for window in system.values("metrics")}
    warm = int(WARM_UP * len(watch.at_s))
    ours = {key: values for key, values in watch.samples.items() if key[0] not in NOT_OURS}
    for (name, what), values in sorted(watch.samples.items(), key=lambda item: (item[0][1], item[0][0])):
        found = slope(watch.at_s[warm:], values[warm:], alpha=0.05 / len(ours))
        tell(report, name, what, found, values[warm:])
    most = max((one for labels in watch.labels for one in labels.values()), default=0)
    report.add("label sets of a family of metrics, most", most, "", **_at_most(most, MOST_LABELS))
    report.add("tenants in the windows of metrics", len(tenants), "", **_at_most(len(tenants), 2))
    report.add("processes that were replaced", len(replaced), "", **_at_most(len(replaced), 0))
    report.add("without a result", asked - len(results), "", **_at_most(abs(asked - len(results)), 0))
    report.add("complaints of the audit", len(problems), "", **_at_most(len(problems), 0))
    report.details = {
        "minutes": minutes,
        "rate": rate,
        "requests": asked,
        "results": summary(results),
        "problems": [*problems[:10], *replaced, *([repr(traffic.failure)] if traffic.failure is not None else [])],
        "course": {f"{name}: {what}": values[:: max(1, len(values) // 60)] for (name, what), values in ours.items()},
    }
    return report


def tell(report: Report, name: str, what: str, found: Slope, values: list[float]) -> None:
    """One row: the slope an hour, with its interval."""
    scale, unit = (3600 / 1024, "MiB/h") if what == "memory" else (3600.0, "/h")
    resolution = RESOLUTION[what]
    shown = f"{unit} ({scale * found.low:.3g} to {scale * found.high:.3g})"
    steady = found.steady(resolution)
    goal: dict[str, Any] = {} if name in NOT_OURS else {"goal": "0 within noise", "met": steady}
    level = sorted(values)[len(values) // 2] / (1024 if what == "memory" else 1)
    report.add(f"{what} of {name}, slope", round(scale * found.per_s, 3) + 0.0, shown, **goal)
    report.details.setdefault("levels", {})[f"{name}: {what}"] = level


def _at_most(value: float, most: float) -> dict[str, Any]:
    return {"goal": f"at most {most:g}", "met": value <= most}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0)
    asked = parser.parse_args()
    if asked.minutes < 3:
        parser.error("--minutes: at least 3, for the slopes of the last two thirds")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.minutes, asked.rate), asked.json)


if __name__ == "__main__":
    main()
