"""An overload on a real Kafka: far more than a model can do for two minutes, and how soon after it all is normal.

    python benchmarks/overload.py [--rate 500] [--seconds 120] [--json]

One model of ``SLOTS`` calls at once, each of ``CALL_MS``: 50 a second. Before and after, half of that comes. Nothing else runs. All is normal from the second on
in and after which none is refused and half of those that come are answered within a second. One in ten of the overload has priority 1, three in ten have -1.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from statistics import median, quantiles
from time import time
from typing import Any, Final

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.reader import Read
from benchmarks.report import Figure, Report, finish, options
from benchmarks.system import System, request

SLOTS, CALL_MS = 10, 200
CAPACITY_PER_S: Final = 1000 * SLOTS / CALL_MS
BEFORE_S, AFTER_S = 20, 60
#: From the start of the overload until its queue stands at the limit.
SETTLED_S: Final = 30
NORMAL_MS: Final = 1_000
CONFIG: Final = f"""
[models.narrow]
provider = "sim"
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.1
concurrency = {SLOTS}
[pools.auto]
models = ["narrow"]
holdout_percent = 0
sticky = "none"
[account]
window_s = 5
grace_s = 2
[web]
port = 0
"""
BEHAVIOUR: Final = f"""
[models.default]
latency_ms = {CALL_MS}
latency_sigma = 0
"""


def lines(name: str, count: int, *, mixed: bool = False) -> list[dict[str, Any]]:
    """Requests of one phase; ``mixed``: of three priorities."""
    levels = [1, -1, -1, -1, 0, 0, 0, 0, 0, 0] if mixed else [0]
    return [request(f"{name}-{n}", text=f"{name} {n}", priority=levels[n % len(levels)]) for n in range(count)]


def measure(rate: float, seconds: int) -> Report:
    """Run it, and tell."""
    half = CAPACITY_PER_S / 2
    phases = {
        "before": lines("before", int(half * BEFORE_S)),
        "over": lines("over", int(rate * seconds), mixed=True),
        "after": lines("after", int(half * AFTER_S)),
    }
    asked = sum(len(phase) for phase in phases.values())
    with System(CONFIG, BEHAVIOUR) as system, system.reading("results") as reader:
        system.produce("requests", phases["before"], rate=half)
        began_ms = 1000 * time()
        system.produce("requests", phases["over"], rate=rate)
        ended_ms = 1000 * time()
        system.produce("requests", phases["after"], rate=half)
        reader.wait(asked, 90, more_s=2)
        reads = list(reader.reads)
        audit = system.audit(within_s=60)
    levels = {line["custom_id"]: line["router"]["priority"] for phase in phases.values() for line in phase}
    return report(reads, levels, began_ms, ended_ms, audit_problems=len(audit.problems))


def report(
    reads: list[Read], levels: dict[str, int], began_ms: float, ended_ms: float, *, audit_problems: int
) -> Report:
    """``levels``: priority by custom id, of all that was asked."""
    results = [(read.readable_at_ms, orjson.loads(read.record.value)) for read in reads]
    counted = Counter(one["custom_id"] for _, one in results)
    over = [(at_ms, one) for at_ms, one in results if one["custom_id"].startswith("over")]
    settled_ms = began_ms + 1000 * min(SETTLED_S, (ended_ms - began_ms) / 2000)
    served = [at_ms for at_ms, one in results if one["error"] is None and settled_ms <= at_ms < ended_ms]
    waits = [
        one["router"]["latency_ms"] - CALL_MS for at_ms, one in over if one["error"] is None and at_ms >= settled_ms
    ]
    codes = Counter("ok" if one["error"] is None else one["error"]["code"] for _, one in results)
    asked = Counter(level for name, level in levels.items() if name.startswith("over"))
    ok = Counter(levels[one["custom_id"]] for _, one in over if one["error"] is None)
    lost = len(levels) - len(counted)
    doubled = sum(count - 1 for count in counted.values())
    normal_s = normal_after_s(results, ended_ms)
    goodput = 1000 * len(served) / (ended_ms - settled_ms)
    cuts = quantiles(waits, n=20)
    refused = [one["router"]["latency_ms"] for _, one in over if one["error"] is not None]
    return Report(
        "overload",
        figures=[
            Figure(
                name="answered in the overload",
                value=goodput,
                unit="/s",
                reference=CAPACITY_PER_S,
                reference_is="slots / latency",
                goal="at least 0.9 of it",
                met=goodput >= 0.9 * CAPACITY_PER_S,
            ),
            Figure(name="normal again after", value=normal_s, unit="s", goal="at most 30", met=normal_s <= 30),
            Figure(name="without a result", value=lost, unit="", goal="0", met=lost == 0),
            Figure(name="with two", value=doubled, unit="", goal="0", met=doubled == 0),
            Figure(name="complaints of the audit", value=audit_problems, unit="", goal="0", met=audit_problems == 0),
            Figure(name="wait of those answered, median", value=cuts[9] / 1000, unit="s"),
            Figure(name="wait of those answered, p5", value=cuts[0] / 1000, unit="s"),
            Figure(name="wait of those answered, p95", value=cuts[18] / 1000, unit="s"),
            Figure(name="until a refused one knows, p95", value=quantiles(refused, n=20)[18] / 1000, unit="s"),
            *(
                Figure(name=f"answered of priority {level}", value=100 * ok[level] / asked[level], unit="%")
                for level in sorted(asked, reverse=True)
            ),
        ],
        caveats=[
            "a simulated provider, on the machine of the router",
            "where refused ones wait to know, the machine cannot read the rate itself: requests lie unread before route, and all figures show that",
        ],
        details={
            "codes": dict(codes),
            "asked": len(levels),
            "overload_s": (ended_ms - began_ms) / 1000,
            "by_5_s": course(results, began_ms),
        },
    )


def normal_after_s(results: list[tuple[float, dict[str, Any]]], ended_ms: float) -> int:
    """Seconds from the end of the overload until all is normal."""
    seconds: dict[int, list[float]] = {}
    for at_ms, one in results:
        if one["custom_id"].startswith("after"):
            came_s = int((at_ms - one["router"]["latency_ms"] - ended_ms) // 1000)
            latency_ms = float("inf") if one["error"] is not None else one["router"]["latency_ms"]
            seconds.setdefault(came_s, []).append(latency_ms)
    odd = [came_s for came_s, found in seconds.items() if max(found) == float("inf") or median(found) > NORMAL_MS]
    return max(0, 1 + max(odd, default=-1))


def course(results: list[tuple[float, dict[str, Any]]], began_ms: float) -> list[dict[str, Any]]:
    """Every 5 s of when requests came, from the start of the overload on: how many, how many refused, the longest latency of the others."""
    found: dict[int, list[dict[str, Any]]] = {}
    for at_ms, one in results:
        found.setdefault(int((at_ms - one["router"]["latency_ms"] - began_ms) // 5000), []).append(one)
    return [
        {
            "from_s": 5 * step,
            "came": len(several),
            "refused": sum(one["error"] is not None for one in several),
            "longest_ms": max((one["router"]["latency_ms"] for one in several if one["error"] is None), default=None),
            "answered": sum(one["error"] is None for one in several),
        }
        for step, several in sorted(found.items())
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=int, default=120)
    chosen = parser.parse_args()
    finish(measure(chosen.rate, chosen.seconds), chosen.json)


if __name__ == "__main__":
    main()
