"""The same request again: with another body, under another key, in the other lane, before and after its result."""

from __future__ import annotations

import random

from benchmarks.scenarios.show import Show, values
from benchmarks.system import System, request

SLOW = """
[models.default]
latency_ms = 1000
latency_sigma = 0.5
"""
COUNT = 200


def duplicates(show: Show) -> None:
    """Six copies of 200 requests while the first are being answered, one copy unreadable as a request, then three more."""
    dice = random.Random(5)
    with System(behaviour=SLOW) as system:
        with system.reading("results", "dead-letter") as reader:
            names = [f"d-{number}" for number in range(COUNT)]
            dice.shuffle(names)
            for lane, key, text in (
                ("requests", None, "one"),
                ("requests", None, "another body"),
                ("requests", b"another key", "one"),
                ("requests.batch", None, "one"),
                ("requests.batch", b"a third key", "another body"),
            ):
                system.produce(lane, [request(name, text=text) for name in names], key=key)
            system.produce("requests", [_refused(name) for name in names], key=b"a fourth key")
            show.check(reader.until(lambda reads: _results(reads) >= COUNT, 60), "results are missing")
            for lane, key, text in (
                ("requests", None, "after"),
                ("requests", b"key", "after"),
                ("requests.batch", None, "after"),
            ):
                system.produce(lane, [request(name, text=text) for name in names], key=key)
            system.produce("requests", [_refused(name) for name in names], key=b"a fourth key")
            system.produce("requests", [request("last")])
            reader.until(lambda reads: _results(reads) >= COUNT + 1, 30)
            reader.wait(0, 0, more_s=5)
        found = values(read for read in reader.reads if read.record.topic.endswith("results"))
        show.results(system, found, COUNT + 1, expected=["ok", "invalid_request"])
        letters = len(reader.reads) - len(found)
        show.say(produced=10 * COUNT + 1, dead_letters=letters)
        show.check(letters == 2 * COUNT, f"{letters} dead letters, {2 * COUNT} bad copies")
        show.audit(system)
        show.conclude(system)


def _refused(name: str) -> dict[str, object]:
    bad = request(name)
    bad["body"]["messages"] = []
    return bad


def _results(reads: list[object]) -> int:
    return sum(read.record.topic.endswith("results") for read in reads)  # type: ignore[attr-defined]
