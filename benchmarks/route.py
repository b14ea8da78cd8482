"""What deciding costs: CPU microseconds a request in route, part by part, and the rate of its process on Kafka.

    python benchmarks/route.py [--requests 40000] [--lengths FILE] [--json]

Prompts have 100 tokens of the demo's prompts (``prompts.py``). The parts run as in a turn, on a batch of 1,000 requests,
without Kafka: best of five, CPU time of this process. Then ``route`` alone as a process on a broker: requests lie ready, decisions are counted by a ``read_committed``
consumer from its first batch of them to the last; a request leaves a decision and a work record in one transaction. Its classifier
is the one that is shipped.
Reference of both: tiktoken alone on the same texts, in this process, one thread.

With a file of lengths (JSON lines with ``prompt_tokens``, may be gzipped, such as the Azure trace of conversations; also by
``POINTSMAN_BENCH_LENGTHS``) the same once more for texts of those lengths: what is long is estimated unless something depends
on the number (``core/tokens.py``).
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import orjson
from aiokafka import ConsumerRecord
from faust.types import TP

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.parts import NoWriter, cpu_us
from benchmarks.prompts import texts
from benchmarks.report import Report, finish, options
from benchmarks.stages import Stages
from benchmarks.stub import count, lay_out
from router.classifier import built_in
from router.config import loads
from router.contract.requests import decode_request
from router.core.decide import decide
from router.core.prompt import read_body
from router.core.slip import Keyring
from router.core.tokens import o200k_base
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.kafka.transport import Batch
from router.kafka.unit import Unit
from router.stages.context import Context
from router.stages.route import build
from router.stages.route_records import facts_of
from router.stages.snapshot import Snapshots
from router.stages.taxonomy import Asking

REQUESTS = 1000
TOKENS, LONG_TOKENS = 100, 700
#: Requests that share the price of numpy's calls: as in a turn under load.
CLASSED_AT_ONCE = 100
CLASS, DECIDE = "class: features, classifier, stratum", "decide"
#: Features, class and decision to tokenising.
CLASS_GOAL = 0.5
#: Rates to tiktoken's: of short prompts, and of a file's lengths.
GOAL, LENGTHS_GOAL = 0.6, 1.5
LENGTHS = "POINTSMAN_BENCH_LENGTHS"
TIKTOKEN = "tiktoken alone"
CAVEATS = ["route, broker, and counting consumer share this machine's cores; tiktoken has one to itself"]
CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.mid]
input_usd_per_mtok = 0.5
output_usd_per_mtok = 2
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "mid", "large"]
"""


def value(number: int, text: str) -> bytes:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 256}
    router = {"tenant": "acme", "deadline_ms": 60_000}
    return orjson.dumps({"custom_id": f"r-{number}", "body": body, "router": router})


def parts(tokens: int) -> dict[str, float]:
    """CPU microseconds a request of each part, for prompts of so many tokens; that of the reference first."""
    context = Context(
        config=loads(CONFIG),
        client=Client("127.0.0.1:1"),
        keyring=Keyring((b"k" * 32,)),
        partitions=4,
        artefact=built_in(),
    )
    stage = build(context)[0]
    short = list(texts([tokens] * REQUESTS))
    values = [value(number, text) for number, text in enumerate(short)]
    tp = TP("llm.requests", 0)
    records = [
        ConsumerRecord(*tp, offset, context.clock(), 1, b"k", one, None, 1, len(one), ())
        for offset, one in enumerate(values)
    ]
    batch = Batch(tp, records, REQUESTS)
    assert stage.prepare is not None
    assert stage.index is not None
    prepared = replace(batch, prepared=stage.prepare(batch))
    index = stage.index

    def handle() -> None:
        unit = Unit(NoWriter(stage.outputs, 4), None, None, index({}))  # type: ignore[arg-type] # commits nothing
        unit.now_ms = context.clock()
        stage.handle(prepared, unit)

    bodies = [decode_request(one).request.body for one in values]
    prompts = [read_body(body) for body in bodies]
    encode = o200k_base().encode_ordinary
    snapshots = Snapshots(context.config, context.artefact)
    snapshot = snapshots.current(context.clock())
    asking = [Asking(one.parsed.model, one.seen, one.tokens.tokens) for one in prepared.prepared]
    kinds = snapshots.taxonomy.of(asking)
    now_ms = context.clock()
    facts = [
        facts_of(one, kind, now_ms=now_ms, deadline_at_ms=now_ms + 60_000)
        for one, kind in zip(prepared.prepared, kinds, strict=True)
    ]

    def classed() -> None:
        for at in range(0, REQUESTS, CLASSED_AT_ONCE):
            snapshots.taxonomy.of(asking[at : at + CLASSED_AT_ONCE])

    work = {
        TIKTOKEN: lambda: [encode(text) for text in short],
        "count tokens": lambda: [prompt.read() for prompt in prompts],
        "decode and validate": lambda: [decode_request(one) for one in values],
        "read the body": lambda: [read_body(body) for body in bodies],
        CLASS: classed,
        DECIDE: lambda: [decide(one, snapshot) for one in facts],
        "prepare: read, decode, count": lambda: stage.prepare(batch) if stage.prepare else None,
        "handle: class, decide, sign, encode, emit": handle,
    }
    return {name: cpu_us(one, of=REQUESTS) for name, one in work.items()}


def texts_of(lengths: Path, count: int) -> list[str]:
    """Texts of the first lengths in the file."""
    with gzip.open(lengths) if lengths.suffix == ".gz" else lengths.open("rb") as lines:
        return list(texts(orjson.loads(line)["prompt_tokens"] for line in islice(lines, count)))


def alone_per_s(wanted: Sequence[str]) -> float:
    """Texts a second that tiktoken encodes, by CPU time."""
    encode = o200k_base().encode_ordinary
    return 1e6 / cpu_us(lambda: [encode(text) for text in wanted], of=len(wanted))


def rate(values: Sequence[bytes]) -> float:
    """Decisions a second of the process."""
    with EmbeddedKafka() as kafka, Stages(kafka.bootstrap, "route", {"route": ("route",)}) as stages:
        stages.create_topics()
        asyncio.run(lay_out(kafka.bootstrap, stages.names.of("requests"), values))
        stages.start()
        return asyncio.run(
            count(kafka.bootstrap, stages.names.of("decisions"), len(values), check=lambda _came: stages.check())
        ).per_s


def measure(requests: int, lengths: Path | None) -> Report:
    report = Report("route", caveats=CAVEATS)
    for tokens in (TOKENS, LONG_TOKENS):
        found = parts(tokens)
        alone_us = found.pop(TIKTOKEN)
        for name, spent_us in found.items() if tokens == TOKENS else ():
            report.add(name, round(spent_us, 1), "us a request", reference=round(alone_us, 1), reference_is=TIKTOKEN)
        both_us = found[CLASS] + found[DECIDE]
        report.add(
            f"features, class and decision, prompts of {tokens:,} tokens",
            round(both_us, 1),
            "us a request",
            reference=round(alone_us, 1),
            reference_is=TIKTOKEN,
            goal=f"<= {CLASS_GOAL:g} of it",
            met=both_us <= CLASS_GOAL * alone_us,
        )

    def against(name: str, wanted: Sequence[str], goal: float) -> float:
        """The ratio of the rates."""
        per_s = rate([value(number, text) for number, text in enumerate(wanted)])
        reference = alone_per_s(wanted[:2000])
        times = round(per_s / reference, 3)
        report.add(
            name,
            round(per_s),
            "requests/s",
            reference=round(reference),
            reference_is=TIKTOKEN,
            goal=f">= {goal:g} of it",
            met=times >= goal,
        )
        return times

    report.fields["route_to_tiktoken"] = against(
        "route on Kafka, prompts of 100 tokens", list(texts([TOKENS] * requests)), GOAL
    )
    if lengths is not None:
        long = texts_of(lengths, requests // 2)
        mean = statistics.mean(len(o200k_base().encode_ordinary(text)) for text in long[:2000])
        name = f"route on Kafka, lengths of {lengths.name.partition('.')[0]} (mean {mean:,.0f} tokens)"
        report.fields["route_to_tiktoken_on_lengths"] = against(name, long, LENGTHS_GOAL)
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--lengths", type=Path, default=os.environ.get(LENGTHS) or None)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.requests, asked.lengths), asked.json)


if __name__ == "__main__":
    main()
