"""What settling costs: CPU microseconds a request in settle, part by part.

    python benchmarks/settle.py

The handlers run as in a turn, on 1,000 requests, without Kafka; what Kafka adds is in ``benchmarks/system.py``. In a
turn that holds decision and outcome of a request its row is never written; in one that holds only decisions it is.
Reference in the same run: HMAC-SHA-256 over the slips, which no signed format can do without. Best of five, CPU time of
this process: another process on the same core still slows it, by its use of the caches.
"""

from __future__ import annotations

import hmac
import platform
import sys
from pathlib import Path

import orjson
from aiokafka import ConsumerRecord
from faust.types import TP

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.parts import NoWriter, cpu_us
from router.config import loads
from router.contract.codec import decode
from router.contract.ids import request_id
from router.contract.records import Origin, Outcome
from router.core.slip import Keyring, Slip, sign, verify
from router.kafka.client import Client
from router.kafka.transport import Batch
from router.kafka.unit import Unit
from router.stages.context import Context
from router.stages.settle import build

REQUESTS = 1000
KEY = b"k" * 32
RING = Keyring((KEY,))
NOW_MS = 1_750_000_000_000
TEXT = "The integral of x squared is a third of x cubed. " * 6
CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "large"]
"""


def slip_of(number: int) -> Slip:
    return Slip(
        request_id=request_id("acme", f"r-{number}"),
        attempt=1,
        model="small",
        reason="routed",
        origin=Origin(topic="llm.requests", partition=0, offset=number),
        at_ms=NOW_MS,
        deadline_at_ms=NOW_MS + 60_000,
        key=b"acme",
        tenant="acme",
        custom_id=f"r-{number}",
        metadata=None,
        lane="interactive",
        pool="auto",
        stratum="math/hard",
        cohort="pilot",
        propensity=0.93,
        policy_version="thompson:1287",
        first_model="small",
        baseline="large",
    )


def decision(slip: Slip, signed: str) -> ConsumerRecord:
    key, headers = slip.request_id.encode(), (("slip", signed.encode()),)
    return ConsumerRecord("llm.decisions", 0, slip.origin.offset, NOW_MS, 1, key, b"{}", None, 32, 2, headers)


def outcome(slip: Slip, signed: str) -> ConsumerRecord:
    value = orjson.dumps(
        {
            "request_id": slip.request_id,
            "attempt": 1,
            "model": "small",
            "status": "ok",
            "slip": signed,
            "body": {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": "small",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"},
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160},
            },
            "usage": {"prompt_tokens": 100, "completion_tokens": 60},
            "endpoint": "eu-1",
            "served_model": "small-2026-05",
            "latency_ms": 820,
        }
    )
    key = slip.request_id.encode()
    return ConsumerRecord("llm.outcomes", 0, slip.origin.offset, NOW_MS + 900, 1, key, value, None, 32, len(value), ())


class Bench:
    """A lane of settle, and 1,000 requests as it reads them."""

    def __init__(self) -> None:
        self.context = Context(config=loads(CONFIG), client=Client("127.0.0.1:1"), keyring=RING, partitions=1)
        slips = [slip_of(number) for number in range(REQUESTS)]
        self.signed = [sign(slip, RING) for slip in slips]
        made = list(zip(slips, self.signed, strict=True))
        self.decisions = self._batch("llm.decisions", [decision(*each) for each in made])
        self.outcomes = self._batch("llm.outcomes", [outcome(*each) for each in made])
        self.empty()

    def empty(self) -> None:
        """Begin with an empty table, no slip seen."""
        (self.stage,) = build(self.context)
        self.writer = NoWriter(self.stage.outputs, 1)
        assert self.stage.rows is not None
        assert self.stage.index is not None
        self.rows = self.stage.rows()
        self.index = self.stage.index(self.rows)

    def turn(self, *batches: Batch, now_ms: int = NOW_MS, ticks: int = 0) -> None:
        """Handle, tick and commit."""
        unit = Unit(self.writer, self.rows, "changelog", self.index)
        unit.now_ms = unit.read_to_ms = now_ms
        for batch in batches:
            self.stage.handle(batch, unit)
        for _ in range(ticks):
            assert self.stage.tick is not None
            self.stage.tick(now_ms, unit)
        try:
            unit.commit({}).send(None)
        except StopIteration:
            self.rows.apply(unit.changes)

    def settled(self) -> None:
        """Decisions and outcomes in one turn."""
        self.empty()
        self.turn(self.decisions, self.outcomes)

    def settled_later(self) -> None:
        """Decisions, and the outcomes in a turn after."""
        self.empty()
        self.turn(self.decisions)
        self.turn(self.outcomes)

    def opened(self) -> None:
        self.empty()
        self.turn(self.decisions)

    def overdue(self) -> None:
        """Let the deadlines of what is open fire."""
        while self.index.open:
            self.turn(now_ms=NOW_MS + 60_000, ticks=1)

    @staticmethod
    def _batch(topic: str, records: list[ConsumerRecord]) -> Batch:
        return Batch(TP(topic, 0), records, len(records))


def main() -> None:
    bench = Bench()
    values = [record.value for record in bench.outcomes.records]
    parts = {
        "HMAC-SHA-256 alone (reference)": lambda: [hmac.digest(KEY, text.encode(), "sha256") for text in bench.signed],
        "verify slips": lambda: [verify(text, RING) for text in bench.signed],
        "decode and validate outcomes": lambda: [decode(Outcome, value) for value in values],
        "decisions, rows written": bench.opened,
        "decisions, then outcomes, two turns": bench.settled_later,
        "decisions and outcomes in one turn": bench.settled,
    }
    size = len(values[0])
    print(f"{platform.machine()}, Python {platform.python_version()}; CPU us a request, outcomes of {size} bytes")
    for name, work in parts.items():
        print(f"  {name:<42} {cpu_us(work, of=REQUESTS):>6.1f}")
    print(f"  {'deadlines that fire':<42} {cpu_us(bench.overdue, of=REQUESTS, before=bench.opened):>6.1f}")


if __name__ == "__main__":
    main()
