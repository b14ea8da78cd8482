"""What a hostile tenant costs another one in route: its turns with hostile requests among them, beside its turns without.

    python benchmarks/hostile_neighbour.py [--turns 400] [--json]

Each turn has 50 requests of 100 tokens; some have a hostile request, too, of nearly a megabyte: no space, spaces alone, one letter with
a thousand accents, all kinds of text, digits, deep lists, one after the other. All of ``route`` runs on the in-memory log, in this process: reading, counting, classing,
deciding, writing. What a request waits is at least the turn that it is in, so the 99th percentile of turns is what it is judged by.
Reference: the turns without. A third kind of turn has a harmless prompt of the same size: what it costs to be large, not to be hostile.

A prompt near a model's window is counted exactly, for 0.1 to 0.2 s a megabyte, beside the lane (``stages/route_counts.py``), and comes back for a later turn: so there are
two turns of each, and both are judged. The count itself is in no turn. What it costs turns by the clock, while a thread counts, is said apart.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.prompts import texts
from benchmarks.report import Report, finish, options
from router.classifier import built_in
from router.config import loads
from router.core.slip import Keyring
from router.kafka.aside import Aside
from router.kafka.client import Client
from router.stages.context import Context
from router.stages.route import build
from router.stages.route_counts import exactly
from router.testing import FakeClock, MemoryLog

A_TURN, TOKENS, GOAL = 50, 100, 1.5
SIZE = 900_000
CAVEATS = [
    "CPU time of the lane's thread where nothing else is said: it is the same whatever else the machine does",
    "the in-memory log's own time is in both; on Kafka a turn also commits, which is in neither",
]
CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 3
output_usd_per_mtok = 12
[pools.auto]
models = ["small", "large"]
"""


def value(custom_id: str, content: object) -> bytes:
    """A request record."""
    return orjson.dumps({"custom_id": custom_id, "body": {"messages": [{"role": "user", "content": content}]}})


def hostile() -> list[bytes]:
    """Requests, each with a ``%`` where its number goes."""
    large = {
        "no space": "x" * SIZE,
        "spaces": " " * SIZE,
        "accents": ("a" + "\u0301" * 1000) * (SIZE // 2001),
        "all kinds": "".join(chr(33 + number * 7919 % 50_000) for number in range(SIZE // 3)),
        "digits": "1234567890" * (SIZE // 10),
    }
    found = [value(f"{name} %", text) for name, text in large.items()]
    found.append(b'{"custom_id": "deep %", "body": {"messages": ' + b"[" * (SIZE // 2) + b"]" * (SIZE // 2) + b"}}")
    return found


def main() -> None:
    """Print the figures."""
    parser = options(__doc__)
    parser.add_argument("--turns", type=int, default=400)
    given = parser.parse_args()
    report = Report("hostile_neighbour", caveats=CAVEATS)
    clock = FakeClock()
    context = Context(
        config=loads(CONFIG),
        client=Client("127.0.0.1:1"),
        keyring=Keyring((b"k" * 32,)),
        clock=clock,
        partitions=1,
        artefact=built_in(),
    )
    stages, asides = [], []
    for stage in build(context):
        asides += [one for one in stage.resources if isinstance(one, Aside)]
        stages.append(replace(stage, resources=tuple(one for one in stage.resources if one not in asides)))
    log = MemoryLog(*stages, partitions=1, clock=clock)
    good = list(texts([TOKENS] * A_TURN))
    harmless = [value("large %", " ".join(texts([SIZE // 5]))[:SIZE])]
    others = {"alone": [], "hostile": hostile(), "large": harmless}
    took: defaultdict[str, list[float]] = defaultdict(list)
    by_clock: defaultdict[str, list[float]] = defaultdict(list)

    def a_turn(kind: str, name: str, extra: bytes | None) -> None:
        for number, text in enumerate(good):
            log.produce("llm.requests", b"k", value(f"{name} {number}", text))
        if extra:
            log.produce("llm.requests", b"e", extra.replace(b"%", name.encode(), 1))
        began_s, began_by_clock_s = time.thread_time(), time.perf_counter()
        log.run()
        took[kind].append((time.thread_time() - began_s) * 1000)
        by_clock[kind].append((time.perf_counter() - began_by_clock_s) * 1000)

    for turn in range(given.turns):
        for kind, extra in others.items():
            a_turn(kind, f"{kind} {turn}", extra[turn % len(extra)] if extra else None)
            if [asyncio.run(aside.work_off()) for aside in asides if aside.asked]:
                a_turn(kind, f"{kind} {turn} again", None)
    beside = [value for value in hostile() if exactly(SimpleNamespace(value=value)) is not None]
    for turn in range(given.turns):
        a_turn("alone", f"before {turn}", None)
        counting = Thread(target=exactly, args=(SimpleNamespace(value=beside[turn % len(beside)]),))
        counting.start()
        a_turn("beside", f"beside {turn}", None)
        counting.join()
    alone, bad, large = (float(np.percentile(took[kind][10:], 99)) for kind in others)
    ratio = bad / alone
    how = {"reference": alone, "reference_is": "the same turns without it"}
    report.add("turn with a hostile request, p99", bad, "ms", goal=f"at most {GOAL} x", met=ratio <= GOAL, **how)
    report.add("turn with a harmless one as large, p99", large, "ms", **how)
    usual, counted = (float(np.median(by_clock[kind][-given.turns :])) for kind in ("alone", "beside"))
    how = {"reference": usual, "reference_is": "no count beside it"}
    report.add("turn while a hostile prompt is counted, by the clock, median", counted, "ms", **how)
    report.fields["hostile_neighbour_ratio"] = round(ratio, 3)
    finish(report, as_json=given.json)


if __name__ == "__main__":
    main()
