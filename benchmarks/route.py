"""What deciding costs: CPU microseconds a request in route, part by part.

    python benchmarks/route.py

The handlers run as in a turn, on a batch of 1,000 requests of 465 bytes, without Kafka; what Kafka adds is in
``benchmarks/system.py``. Reference in the same run: the tokeniser alone on the same texts. Best of five, CPU time of this
process: another process on the same core still slows it, by its use of the caches.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
from aiokafka import ConsumerRecord
from faust.types import TP

from router.config import loads
from router.contract.requests import decode_request
from router.core.prompt import read_body
from router.core.slip import Keyring
from router.core.tokens import o200k_base
from router.kafka.client import Client
from router.kafka.transport import Batch
from router.kafka.unit import Unit
from router.stages.context import Context
from router.stages.route import Route

REQUESTS = 1000
TEXT = "Please tell me about the integral of x squared. " * 6
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


class Writer:
    """What a unit needs to know of topics; nothing is written."""

    partition = 0

    def __init__(self, topics: frozenset[str]) -> None:
        self.partitions = dict.fromkeys(topics, 4)


def value(number: int) -> bytes:
    body = {"model": "auto", "messages": [{"role": "user", "content": TEXT}], "max_tokens": 256}
    router = {"tenant": "acme", "deadline_ms": 60_000}
    return orjson.dumps({"custom_id": f"r-{number}", "body": body, "router": router})


def cpu_us(work: Callable[[], Any]) -> float:
    """Best CPU time a request of ``work``, which handles all of them."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / REQUESTS * 1e6


def main() -> None:
    context = Context(config=loads(CONFIG), client=Client("127.0.0.1:1"), keyring=Keyring((b"k" * 32,)), partitions=4)
    stage = Route(context, "interactive").stage()
    values = [value(number) for number in range(REQUESTS)]
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
        unit = Unit(Writer(stage.outputs), None, None, index({}))  # type: ignore[arg-type] # commits nothing
        unit.now_ms = context.clock()
        stage.handle(prepared, unit)

    bodies = [decode_request(one).request.body for one in values]
    prompts = [read_body(body) for body in bodies]
    encode = o200k_base().encode_ordinary
    parts = {
        "tokeniser alone (reference)": lambda: [encode(TEXT) for _ in values],
        "count tokens": lambda: [prompt.tokens() for prompt in prompts],
        "decode and validate": lambda: [decode_request(one) for one in values],
        "read the body": lambda: [read_body(body) for body in bodies],
        "prepare (all of the above, and classify)": lambda: stage.prepare(batch) if stage.prepare else None,
        "handle (decide, sign, encode, emit)": handle,
    }
    print(f"{platform.machine()}, Python {platform.python_version()}; CPU us a request of {len(values[0])} bytes")
    for name, work in parts.items():
        print(f"  {name:<42} {cpu_us(work):>6.1f}")


if __name__ == "__main__":
    main()
