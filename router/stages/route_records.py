"""What route says of a request, as values: its facts for the decision, its slip for settle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from router.contract.ids import DEFAULT_TENANT, session_hash
from router.contract.records import Lane, Origin
from router.contract.requests import BadRequest
from router.contract.urls import COMPLETIONS
from router.core.facts import Choice, Form, Purse, Refusal, RequestFacts
from router.core.records import Order
from router.core.slicing import FAR
from router.core.slip import Slip
from router.core.survey import Ask
from router.stages.route_intake import Asked, Unusable
from router.stages.route_sessions import NO_SESSION, Session
from router.stages.taxonomy import Kind

#: How far a record's own timestamp may be from now where the broker does not stamp it.
CLOCK_SKEW_MS = 60_000
LOG_APPEND_TIME = 1


def request_time_ms(record: Any, now_ms: int) -> int:
    """When the request was made: as the broker stamped it; a producer's own stamp only within a minute of now."""
    if record.timestamp_type == LOG_APPEND_TIME:
        return int(record.timestamp)
    return min(max(int(record.timestamp), now_ms - CLOCK_SKEW_MS), now_ms + CLOCK_SKEW_MS)


@dataclass(frozen=True, slots=True)
class Case:
    """An attempt to be decided. ``record``: what was read of it; ``again``: the order by which it was read; ``asked`` has none where it is a first attempt all the same, which has waited."""

    record: Any
    asked: Asked
    again: Order | None
    origin: Origin
    at_ms: int
    deadline_at_ms: int

    @property
    def is_new(self) -> bool:
        """Whether nothing was decided yet: it was read for the first time, or has only waited for its count."""
        again = self.again
        return again is None or (again.first is None and not self.mirrored and again.parked_ms is None)

    @property
    def mirrored(self) -> bool:
        """Whether it comes beside a result: a shadow, or the judge of a pair."""
        return self.again is not None and self.again.mirror is not None


def case_of(record: Any, asked: Asked, now_ms: int, default_deadline_ms: int) -> Case:
    """By the request's record, or by the order in its place: what has only waited to be counted is as if read now."""
    again = asked.order
    if again is not None:
        waited = again.first is None and again.mirror is None
        asked = replace(asked, order=None) if waited else asked
        return Case(record, asked, again, again.origin, again.at_ms, again.deadline_at_ms)
    at_ms = request_time_ms(record, now_ms)
    return Case(
        record,
        asked,
        None,
        Origin(topic=record.topic, partition=record.partition, offset=record.offset),
        at_ms,
        at_ms + (asked.parsed.request.router.deadline_ms or default_deadline_ms),
    )


def facts_of(
    asked: Asked,
    kind: Kind,
    *,
    now_ms: int,
    deadline_at_ms: int,
    session: Session = NO_SESSION,
    purse: Purse | None = None,
    pace: float | None = None,
) -> RequestFacts:
    """What ``decide`` is given."""
    options, order = asked.parsed.request.router, asked.order
    return RequestFacts(
        request_id=asked.parsed.request_id,
        attempt=1 if order is None else order.attempt,
        reason="routed" if order is None else order.reason,
        tenant=options.tenant,
        session=options.session,
        target=asked.parsed.model,
        stratum=kind.stratum,
        prompt_tokens=asked.tokens.tokens,
        tokens_estimated=asked.tokens.estimated,
        completion_tokens=asked.completion_limit,
        answers=asked.answers,
        needs=asked.needs,
        max_cost_nano_usd=options.max_cost_nano_usd,
        at_ms=now_ms,
        deadline_at_ms=deadline_at_ms,
        p_ok=kind.p_ok,
        purse=purse,
        assignment=session.assignment,
        warm=session.warm,
        first=None if order is None else order.first,
        prefer=None if order is None else order.prefer,
        exclude=() if order is None else order.exclude,
        chain=() if order is None else order.chain,
        last_error=None if order is None else order.last_error,
        form=form_of(asked),
        mirror=None if order is None else order.mirror,
        pace=pace,
        slices=slices_of(asked, kind),
    )


def anew(case: Case, *, lane: Lane) -> Order:
    """The order by which a request that waits is read again for its first attempt."""
    return Order(
        request_id=case.asked.parsed.request_id,
        attempt=1,
        reason="routed",
        lane=lane,
        origin=case.origin,
        at_ms=case.at_ms,
        deadline_at_ms=case.deadline_at_ms,
        first=None,
    )


def slices_of(asked: Asked, kind: Kind) -> tuple[str, ...]:
    """Those of the prompt, and whether it is far from what the classifier knows."""
    return (*asked.slices, FAR) if kind.far else asked.slices


def form_of(asked: Asked) -> Form:
    """What kind of answer the request wants."""
    request = asked.parsed.request
    if request.url not in COMPLETIONS:
        return "other"
    return "stream" if request.body.get("stream") is True else "text"


def slip_of(
    case: Case,
    found: Choice | Refusal,
    slices: tuple[str, ...],
    *,
    lane: Lane,
    charged: int | None = None,
    survey: Ask | None = None,
    behind: bool = False,
) -> Slip:
    """What settle must know. Of a further attempt: stratum, cohort, propensity and version of the first."""
    asked = case.asked
    request, order = asked.parsed.request, asked.order
    first = None if order is None else order.first
    choice = None if isinstance(found, Refusal) else found
    said: Any = first or choice
    return Slip(
        request_id=asked.parsed.request_id,
        attempt=0 if choice is None else 1 if order is None else order.attempt,
        model=None if choice is None else choice.model,
        reason=None if choice is None else choice.reason,
        origin=case.origin,
        at_ms=case.at_ms,
        deadline_at_ms=case.deadline_at_ms,
        key=asked.key,
        tenant=request.router.tenant,
        custom_id=request.custom_id,
        metadata=request.router.metadata,
        lane=lane,
        pool=None if choice is None else choice.pool,
        stratum=None if said is None else said.stratum,
        cohort=None if said is None else said.cohort,
        propensity=None if said is None else said.propensity,
        policy_version=None if said is None else said.policy_version,
        first_model=None if said is None else said.model,
        baseline=None if choice is None else choice.baseline,
        of_order=order is not None,
        charged=charged,
        context=None if choice is None else choice.context,
        trial=None if choice is None else choice.trial,
        session=session_hash(request.router.tenant, request.router.session),
        sample=None if choice is None else choice.sample,
        mirror=None if order is None else order.mirror,
        survey=survey,
        slices=slices,
        behind=behind,
    )


def bare_slip(request_id: str, item: Unusable, *, origin: Origin, at_ms: int, deadline_at_ms: int, lane: Lane) -> Slip:
    """A refusal's slip where the request cannot be read: by its error's word, or, its body gone, by its order's."""
    error = item.error
    readable = isinstance(error, BadRequest) and error.custom_id is not None
    return Slip(
        request_id=request_id,
        attempt=0,
        model=None,
        reason=None,
        origin=origin,
        at_ms=at_ms,
        deadline_at_ms=deadline_at_ms,
        key=item.key,
        tenant=error.tenant if isinstance(error, BadRequest) else DEFAULT_TENANT,
        custom_id=error.custom_id or "" if isinstance(error, BadRequest) else "",
        metadata=error.metadata if isinstance(error, BadRequest) and readable else None,
        lane=lane,
        of_order=item.order is not None and item.order.first is not None,
    )
