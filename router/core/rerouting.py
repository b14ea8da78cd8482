"""What happens to a request whose attempt nobody takes: another model is asked, and the attempt stays open.

It stays open because nobody can know that it will not be answered: a worker that comes back answers its queue, and the
first good answer is the result, whosoever it is (``core.settlement``). What comes second is priced, as any late outcome.

Nothing is ordered where the request may not fall back (it names its model, or has had the attempts that its pool allows), while an order is on
its way, while another attempt is open on a model that answers, or where a judge is waited for. Each model is tried once: there is no
circle. Where the pool has a chain for ``timeout``, it holds here.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace

from router.core.backoff import Again, Policy, made
from router.core.settlement import Pending, Row, Step, allowed


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
        or made(row.tries) >= allowed(row, policy).max_attempts
    ):
        return Step(row)
    chain = policy.chains.get("timeout")
    if not set(policy.models if chain is None else chain) - tried - silent:
        return Step(row)
    left = () if chain is None else tuple(model for model in chain if model not in tried)
    again = Again("fallback", 0, None, tuple(sorted(tried)), chain=left)
    return Step(replace(row, pending=Pending(max(each.number for each in row.tries) + 1, again, now_ms)))
