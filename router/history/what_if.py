"""What an order would change: the decisions of the last hour, made again under the orders that stand now, with and without it.

``decide`` is pure, and a decision's record holds its facts: so what is told is what routers would have done with these very requests,
by the newest snapshot (its weights, its health) with the standing orders as they are. First attempts only: what follows is the outcome's.
Costs are those that routers expect.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.orders import in_force
from router.contract.records import Control, Decision
from router.contract.topics import Names
from router.core.audit import facts_of
from router.core.decide import decide
from router.core.facts import Choice, Refusal, RequestFacts
from router.core.snapshot import DECISIVE, Snapshot, SnapshotError, standing_order
from router.kafka.client import Client
from router.kafka.scan import scan

SPAN_MS: Final = 3_600_000
#: Decisions that are made again, the newest; some 30 us each, twice.
MOST: Final = 50_000
#: What stands for a model where a request would be refused.
REFUSED: Final = "refused"


@dataclass(slots=True)
class Change:
    """Of ``requests`` of the last hour: how many would go elsewhere, by (model now, model then), and what those are expected to cost.

    Nano-dollars of those whose cost is known on both sides.
    """

    requests: int = 0
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    cost_now_nano_usd: int = 0
    cost_then_nano_usd: int = 0

    @property
    def moved(self) -> int:
        return self.moves.total()


def changed(standing: Sequence[Control], given: Sequence[Control], now_ms: int) -> list[Control]:
    """The standing orders once ``given`` are written: a new one replaces, one that is not active takes back."""
    found = {(one.scope, one.action): one for one in [*standing, *given]}
    return [one for one in found.values() if in_force(one, now_ms)]


def compare(facts: Iterable[RequestFacts], now: Snapshot, then: Snapshot) -> Change:
    """These requests under both."""
    found = Change()
    for one in facts:
        before, after = decide(one, now), decide(one, then)
        found.requests += 1
        if (moved := (_model(before), _model(after)))[0] == moved[1]:
            continue
        found.moves[moved] += 1
        costs = _cost(before), _cost(after)
        if costs[0] is not None and costs[1] is not None:
            found.cost_now_nano_usd += costs[0]
            found.cost_then_nano_usd += costs[1]
    return found


async def what_if(
    client: Client, names: Names, standing: Sequence[Control], given: Sequence[Control], now_ms: int
) -> Change | None:
    """What ``given`` would change; ``None`` before there is a snapshot, or where no decision goes by such orders.

    Raises:
        Unavailable: no broker, or a topic is missing.
    """
    if not any(one.action in DECISIVE for one in given):
        return None
    snapshot = await _newest(client, names.of("snapshots"))
    if snapshot is None:
        return None
    now, then = (
        snapshot.with_orders(standing_order(one) for one in orders)
        for orders in (changed(standing, (), now_ms), changed(standing, given, now_ms))
    )
    return compare(await _lately(client, names.of("decisions"), now_ms), now, then)


async def _newest(client: Client, topic: str) -> Snapshot | None:
    at_ms, value = -1, b""
    async for record in scan(client, [topic]):
        if record.value is not None and record.timestamp >= at_ms:
            at_ms, value = record.timestamp, record.value
    try:
        return Snapshot.from_canonical(value) if value else None
    except SnapshotError:
        return None


async def _lately(client: Client, topic: str, now_ms: int) -> list[RequestFacts]:
    """Facts of the newest first attempts, as if each were asked now."""
    values: deque[bytes] = deque(maxlen=MOST)
    async for record in scan(client, [topic], since_ms=now_ms - SPAN_MS):
        if record.value is not None:
            values.append(record.value)
    return [facts for value in values if (facts := _facts(value, now_ms)) is not None]


def _facts(value: bytes, now_ms: int) -> RequestFacts | None:
    try:
        decision = decode(Decision, value)
        if decision.attempt != 1:
            return None
        found = facts_of(decision)
    except (BadRecord, ValueError):
        return None
    return replace(found, at_ms=now_ms, deadline_at_ms=now_ms + found.deadline_at_ms - found.at_ms)


def _model(found: Choice | Refusal) -> str:
    return found.model if isinstance(found, Choice) else REFUSED


def _cost(found: Choice | Refusal) -> int | None:
    if isinstance(found, Refusal):
        return 0
    return next((one.expected_cost_nano_usd for one in found.candidates if one.model == found.model), None)
