"""A request that waits longer than 95 of 100 do is asked a second time; the first good answer is the result.

The first attempt stays open, and is billed when it ends (``core.settlement``). Source: Dean and Barroso, "The tail at scale", CACM 2013.

Nothing is asked twice that has no pool, or waits for a check (a cascade) or an order; where an attempt before it has failed, for then there is no
time to lose on another tail: the next is a fallback; or a second time.
"""

from __future__ import annotations

from dataclasses import replace

from router.core.backoff import Again, Policy
from router.core.settlement import Pending, Row, Step


def may_hedge(row: Row, *, now_ms: int, policy: Policy) -> bool:
    """Whether the request is one that may be asked a second time."""
    slip = row.slip
    return (
        policy.hedges
        and slip.lane == "interactive"
        and slip.trial is None
        and row.pending is None
        and row.refusal is None
        and row.held is None
        and now_ms < slip.deadline_at_ms
        and len(row.tries) == 1
        and row.tries[0].status is None
    )


def hedge(row: Row, *, now_ms: int, policy: Policy) -> Step:
    """An order to ask the same model once more, or the one that the policy names; for a row of which ``may_hedge`` is true."""
    (waiting,) = row.tries
    again = Again("hedge", 0, policy.hedge_to or waiting.model, ())
    return Step(replace(row, pending=Pending(waiting.number + 1, again, now_ms)))
