"""Whether a model has more to do than it can, what then waits for it, and how much it can.

Little's formula alone (``backlog.Queue.wait_ms``) is no proof: where load rises and slots are free, what is open grows before anything
ends, and looks like a queue. So a model counts as saturated only when an interactive attempt has been open for longer than nearly all calls
take, by ``PROOF_MS``: where slots are free none is. From then on the rate at which attempts end is the model's capacity.

What exceeds a tenant's share goes behind, and waits in a queue of its own: it may be long while others need not wait at all. So each has its proof.

All is said of the time up to which settle has read: should it have fallen behind, for in an overload everybody has much to do, that is still true.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

from router.contract.records import Saturation
from router.core import quantiles
from router.core.backlog import Queue
from router.core.evidence import Evidence
from router.core.quantiles import Sketch

#: By so much longer than p95 of the calls: what passes between decision and call, and between the ends of both and their counts.
PROOF_MS: Final = 500
#: Spans over which the rate is taken, in seconds. The larger rate of the first two holds: when load has just risen, the longer one is too low.
SPANS_S: Final = (3, 10)
#: The span where those hold too few attempts.
LONG_SPAN_S: Final = 30
#: Fewer attempts make no rate.
RATE_ATTEMPTS: Final = 10


def saturation(queue: Queue, window: Sequence[Evidence], p95_ms: float | None, now_ms: int) -> Saturation | None:
    """The model's queue and capacity; ``None`` where it is not shown to have a queue, or nothing is known of either.

    Args:
        queue: What is open, as settle told.
        window: What ended in the last 30 s.
        p95_ms: Of the calls themselves.
        now_ms: The time.
    """
    lanes = [each for each in queue.fresh(now_ms) if each.interactive or each.behind]
    if p95_ms is None or not lanes:
        return None
    since_ms = [(each.read_to_ms, each.oldest_interactive_ms, each.oldest_behind_ms) for each in lanes]
    waits = any(first_ms and read_to_ms - first_ms >= p95_ms + PROOF_MS for read_to_ms, first_ms, _ in since_ms)
    waits_behind = any(ms and read_to_ms - ms >= p95_ms + PROOF_MS for read_to_ms, _, ms in since_ms)
    if not (waits or waits_behind):
        return None
    at_ms = sum(each.read_to_ms for each in lanes) // len(lanes)
    per_s = max(_per_s(window, span_s, at_ms) for span_s in SPANS_S) or _per_s(window, LONG_SPAN_S, at_ms)
    in_hand = per_s * _call_ms(window) / 1000.0
    in_hand += 2.0 * sqrt(in_hand)
    first, behind = sum(each.interactive for each in lanes), sum(each.behind for each in lanes)
    queued = int(max(0.0, first - in_hand)) if waits else 0
    queued_behind = int(max(0.0, behind - max(0.0, in_hand - first))) if waits_behind else 0
    if per_s == 0.0 or not (queued or queued_behind):
        return None
    return Saturation(at_ms=at_ms, queued=queued, per_s=round(per_s, 3), behind=queued_behind)


def _per_s(window: Sequence[Evidence], span_s: int, at_ms: int) -> float:
    """Attempts that ended a second, by the last whole seconds before ``at_ms``; 0 where they are too few."""
    second = at_ms // 1000
    recent = [kept for kept in window if second - span_s <= kept.second < second]
    ended = sum(kept.ok + kept.errors + kept.rate_limited for kept in recent)
    if ended < RATE_ATTEMPTS:
        return 0.0
    return ended / (second - min(kept.second for kept in recent))


def _call_ms(window: Sequence[Evidence]) -> float:
    merged: Sketch = {}
    for kept in window:
        quantiles.merge(merged, kept.latency)
    return quantiles.mean(merged) or 0.0
