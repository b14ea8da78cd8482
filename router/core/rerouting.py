"""What happens to a request whose attempt nobody takes: another model is asked, and the attempt stays open.

It stays open because nobody can know that it will not be answered: a worker that comes back answers its queue, and the
first good answer is the result, whosoever it is (``core.settlement``). What comes second is priced, as any late outcome.

Nothing is ordered where the request may not fall back (it names its model), while an order is on its way, while another
attempt is open on a model that answers, or where a judge is waited for. Each model is tried once: there is no circle.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from router.core.backoff import Again, Policy
from router.core.settlement import Pending, Row, Step


def reroute(row: Row, silent: AbstractSet[str], *, now_ms: int, policy: Policy) -> Step:
    """An order to fall back at once, if all that is open waits for models of ``silent`` and one of the pool is left."""
    waiting = [each for each in row.tries if each.status is None]
    tried = {each.model for each in row.tries}
    if (
        not waiting
        or row.pending is not None
        or row.refusal is not None
        or now_ms >= row.slip.deadline_at_ms
        or any(each.model not in silent or each.reason == "judge" for each in waiting)
        or not policy.models - tried - silent
    ):
        return Step(row)
    number = max(each.number for each in row.tries) + 1
    return Step(replace(row, pending=Pending(number, Again("fallback", 0, None, tuple(sorted(tried))), now_ms)))
