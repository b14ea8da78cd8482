"""What one scenario has shown: figures, and what should have held and did not."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.reader import Read
from benchmarks.system import System, summary
from router.contract.ids import request_id

#: How long after its deadline a result may be readable.
LATE_MS = 500.0


@dataclass(slots=True)
class Show:
    """Filled by a scenario. ``problems`` is empty when all held."""

    letter: str
    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def ok(self) -> bool:
        return not self.problems

    def say(self, **figures: Any) -> None:
        self.figures |= figures

    def check(self, holds: object, otherwise: str) -> None:
        """Note what went wrong unless it held."""
        if not holds:
            self.problems.append(otherwise)

    def results(
        self, system: System, results: Sequence[dict[str, Any]], requests: int, *, expected: Iterable[str] = ("ok",)
    ) -> None:
        """Exactly one result a request, each with an outcome that is expected; the figures of all of them."""
        codes, calls = summary(results), system.calls()
        self.say(
            requests=requests,
            results=codes,
            ok_share=round(codes.get("ok", 0) / max(1, len(results)), 4),
            calls=calls.started,
            repeated_calls=calls.repeated,
            calls_per_request=round(calls.started / max(1, requests), 3),
        )
        times = Counter(result["id"] for result in results)
        doubled = sum(count - 1 for count in times.values())
        self.check(len(times) == requests, f"{len(times)} of {requests} requests have a result")
        self.check(doubled == 0, f"{doubled} results too many")
        for code in sorted(codes.keys() - set(expected)):
            self.problems.append(f"{codes[code]} results are {code}")

    def audit(self, system: System, within_s: float = 60.0) -> None:
        """What the topics say against each other, windows included."""
        report = system.audit(within_s)
        self.say(audit=f"{len(report.problems)} problems", final_windows=report.figures["final_windows"])
        self.problems += report.problems[:10]
        self.problems += report.unchecked

    def conclude(self, system: System) -> None:
        """Keep the folder of a run that has shown a problem."""
        self.say(seconds=round(time.monotonic() - self.began_s, 1), load_at_start=round(self.load, 1))
        if not self.ok:
            system.keep = True
            self.say(folder=str(system.folder))


def values(reads: Iterable[Read]) -> list[dict[str, Any]]:
    """The records that a reader has read, parsed."""
    return [orjson.loads(read.record.value) for read in reads]


def deadlines_ms(system: System, *topics: str) -> dict[str, int]:
    """When each request must be answered, by request id of the default tenant: its record's timestamp + ``deadline_ms``."""
    found = {}
    for record in system.records(*topics):
        asked = orjson.loads(record.value)
        found[request_id("default", asked["custom_id"])] = record.timestamp + asked["router"]["deadline_ms"]
    return found


def lateness_ms(reads: Iterable[Read], deadlines: dict[str, int]) -> list[float]:
    """How long after its deadline each result was readable, sorted; negative where it came earlier."""
    return sorted(read.readable_at_ms - deadlines[orjson.loads(read.record.value)["id"]] for read in reads)


def quantiles(ordered: Sequence[float]) -> dict[str, float]:
    """p50, p99 and largest of a sorted list."""
    if not ordered:
        return {}
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) for name, share in at.items()}
