"""What follows a result, and never changes it: the shadow of an answer, the judge of the pair, and those who look at it.

| what came | what follows |
|---|---|
| an answer, of a request that was drawn to be answered twice | an order for its shadow |
| the shadow's answer in time, in a pool with a judge | an order for the judge, who gets both |
| the same, in a pool without one, or where people look at the first answer anyway | the shadow's answer is looked at, too |
| the judge's word in time | a ``JudgedPair``, if it is one |
| anything late, failed, or said unclearly | nothing: it is priced, and that is all |

None of it needs a row: the slip of a shadow says all of the answer that it mirrors (``core.mirror.Mirror``), and that an outcome counts once
is seen to by what is kept of a settled id.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from router.contract.records import Origin, Outcome
from router.core.attempts import Try
from router.core.draw import SIDES, draw
from router.core.judging import verdict_of
from router.core.mirror import JUDGE_BASE, SHADOW_BASE, Mirror
from router.core.records import First, JudgedPair, Order
from router.core.slip import Slip

#: How long a shadow, and the judge of a pair, may take from when they are asked for.
WITHIN_MS: Final = 3_600_000


def order_shadow(slip: Slip, answered_by: Try, *, now_ms: int, token: str | None) -> Order | None:
    """The order that follows an answer (``slip``: of the request's first attempt), if it was drawn. ``token``: feedback on it, for people."""
    sample, place = slip.sample, answered_by.place
    if sample is None or sample.shadow <= 0.0 or place is None:
        return None
    mirror = Mirror(
        of=answered_by.number,
        model=answered_by.model,
        served_model=answered_by.served_model or answered_by.model,
        answer_at=place,
        inclusion=sample.shadow,
        review=sample.review,
        weight=sample.weight,
        token=token,
    )
    return Order(
        request_id=slip.request_id,
        attempt=SHADOW_BASE + answered_by.number,
        reason="shadow",
        lane="batch",
        origin=slip.origin,
        at_ms=slip.at_ms,
        deadline_at_ms=now_ms + WITHIN_MS,
        first=_first(slip),
        mirror=mirror,
    )


def order_judge(slip: Slip, outcome: Outcome, place: Origin, judge: str, *, now_ms: int) -> Order | None:
    """The order that follows an answer in the shadow, whose outcome lies at ``place``."""
    if slip.mirror is None:
        return None
    mirror = replace(
        slip.mirror,
        token=None,
        shadow=outcome.model,
        shadow_served_model=outcome.served_model or outcome.model,
        shadow_at=place,
    )
    return Order(
        request_id=slip.request_id,
        attempt=JUDGE_BASE + mirror.of,
        reason="judge",
        lane="batch",
        origin=slip.origin,
        at_ms=slip.at_ms,
        deadline_at_ms=now_ms + WITHIN_MS,
        first=_first(slip),
        prefer=judge,
        mirror=mirror,
    )


def swapped(tenant: str, request_id: str) -> bool:
    """Whether the judge is shown the second answer first: half the pairs, so that a liking for the first place evens out."""
    return draw(tenant, request_id, SIDES) < 0.5


def judged_pair(slip: Slip, outcome: Outcome, *, at_ms: int) -> JudgedPair | None:
    """What the judge said of a pair, ``None`` if that is no verdict."""
    mirror = slip.mirror
    said = verdict_of(outcome.body or {})
    if said is None or mirror is None or mirror.shadow is None or slip.pool is None or slip.stratum is None:
        return None
    turned = swapped(slip.tenant, slip.request_id)
    first_worse = -said if turned else said  # > 0: the answer that the caller got is the worse one
    by_baseline = mirror.model == slip.baseline
    served = mirror.shadow_served_model if by_baseline else mirror.served_model
    model = mirror.shadow if by_baseline else mirror.model
    return JudgedPair(
        request_id=slip.request_id,
        pool=slip.pool,
        stratum=slip.stratum,
        tenant=slip.tenant,
        session=slip.session,
        model=model,
        served_model=served or model,
        reference_model=mirror.model if by_baseline else mirror.shadow,
        cohort=slip.cohort or "direct",
        verdict=float(-first_worse if by_baseline else first_worse),
        judge=outcome.model,
        asked_ms=slip.at_ms,
        at_ms=at_ms,
        inclusion=mirror.inclusion,
        swapped=turned,
        slices=slip.slices,
    )


def _first(slip: Slip) -> First:
    return First(
        stratum=slip.stratum,
        cohort=slip.cohort or "direct",
        propensity=1.0 if slip.propensity is None else slip.propensity,
        policy_version=slip.policy_version or "",
        model=slip.first_model or slip.model or "",
    )
