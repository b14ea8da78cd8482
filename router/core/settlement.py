"""The state machine of one request: from its first decision or outcome to its one result.

A request is *unknown*, then *open* (there is a ``Row``), then *settled* (only its id is kept). What happens to it are
decisions, outcomes and the passing of time. The functions here take the row and what happened, and return a ``Step``:
the new row, and a verdict when that settled it, or an order when one more attempt is due. No clock and no randomness:
the time is an argument, the jitter of a backoff is a hash of request id and attempt.

Rules
- The first slip that is read fixes the winning origin: the place of the request whose answer the caller gets. What
  belongs to another origin (a duplicate under another key, in the other lane, with another body) changes no result.
- A unique outcome (request id, attempt, model) is priced once, whatever its origin, also late, also after settling:
  ``Row.priced`` and what is kept of a settled id say which were. Whoever calls ``conclude`` prices. Of a request and its
  duplicate on the same model that is the one read first: usage then tells its tokens, the result those of the winner.
- An outcome is late from the deadline on, by the timestamp of its record. Late changes no result.
- An attempt ends once: further outcomes of it change nothing.
- An answer on trial that is not sure enough (``cascade.Trial``) is held while a better one is asked for. Whatever then ends the
  request without one gives it out: a doubtful answer is better than an error. One that is too long to be held goes out at once.
- Where a judge is to look at an answer on trial, the answer is held first; what the judge says is its confidence.
- At most one order is on its way. It waits in the row until it is due, is given out once, and is answered by a
  decision: the attempt, or a refusal (attempt 0).
- A shadow, and the judge of a pair (``Slip.mirror``), come after the result: an outcome of theirs is priced, nothing else (``core.beside``).
- A request ends: the deadline fires whatever is open, as soon as everything that was produced before it has been read
  (``read_to_ms``).

| request | what happens | what follows |
|---|---|---|
| unknown | what answers an order | nothing: it was settled and its id forgotten since (an outcome is priced) |
| unknown | decision | open, then as below; also after the deadline, which then fires at once |
| unknown | outcome in time | open, then as below |
| unknown | late outcome | nothing (it is priced) |
| open | anything of another origin | nothing (an outcome is priced) |
| open | decision of a new attempt | the attempt is open; the order for it is answered |
| open | decision of a known attempt | nothing |
| open | refusal of a hedge, an attempt is open | nothing: that attempt may answer yet |
| open | refusal, an attempt is open | the refusal waits for that attempt |
| open | refusal, none is open | **settled**: its error, or what the failed attempts amount to |
| open | outcome late, of an ended attempt, or of another model | nothing (it is priced if unique) |
| open | outcome ok, on trial, to be judged | held; an order for the judge |
| open | the judge's outcome, or a refusal of it | **settled** with the answer that is held, or as below |
| open | outcome ok, on trial and not sure enough | held; an order to escalate, unless a refusal waits: then **settled** |
| open | outcome ok | **settled**: the answer |
| open, an answer is held | whatever would settle with an error but ``give_up`` | **settled**: the answer that is held |
| open | outcome refused, on trial | an order to escalate, unless a refusal waits |
| open | outcome not ok, final in this pool (``backoff.final_code``) | **settled**: its error |
| open | outcome not ok, another attempt is open | the attempt has ended |
| open | outcome not ok, a refusal waits | **settled**: as a refusal |
| open | outcome not ok | ``backoff.next_step``: an order waits until due, or **settled** |
| open, what follows a failure is not decided yet | time to ask again | as above |
| open | an order is due | it is given out |
| open | deadline | **settled**: deadline_exceeded |
| settled | anything | nothing (an outcome is priced if unique) |
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import orjson
import xxhash

from router.contract.errors import Code
from router.contract.records import ErrorInfo, Origin, Outcome
from router.contract.values import value
from router.core.attempts import Charge, Try, describe, ended, failure_code
from router.core.backoff import Again, Policy, ask_judge, escalate, final_code, next_step, unlimited
from router.core.cascade import Trial
from router.core.judging import score_of
from router.core.records import First, Order
from router.core.slip import Slip

Pair = tuple[int, str]
"""Attempt and model: with the request id, what makes an outcome unique."""

#: Longest answer that is held, in bytes.
MOST_HELD = 256 * 1024

#: Errors of a refusal that say more than the failed attempts before it.
_STRONGER = frozenset({Code.DEADLINE_EXCEEDED, Code.INTERNAL_ERROR, Code.CANCELLED})


@dataclass(frozen=True, slots=True)
class Pending:
    """The order for attempt ``number``: waits until ``due_at_ms``, then for its answer."""

    number: int
    again: Again
    due_at_ms: int
    sent: bool = False


@value(frozen=True, slots=True, kw_only=True)
class Row:
    """An open request. ``slip`` is the first one read; ``headers`` are passed on to whatever leaves.

    ``held``: the body, as JSON, of the answer that was not sure enough.
    """

    slip: Slip
    tries: tuple[Try, ...] = ()
    pending: Pending | None = None
    refusal: ErrorInfo | None = None
    priced: frozenset[Pair] = frozenset()
    headers: tuple[tuple[str, bytes], ...] = ()
    held: bytes | None = None

    @property
    def due_at_ms(self) -> int:
        """When ``pass_time`` has something to do next."""
        if self.pending is not None and not self.pending.sent:
            return min(self.pending.due_at_ms, self.slip.deadline_at_ms)
        return self.slip.deadline_at_ms


@value(frozen=True, slots=True)
class Verdict:
    """How a request ended: with the answer of an attempt, or with an error."""

    answered_by: Try | None = None
    body: dict[str, Any] | None = None
    error: ErrorInfo | None = None


@value(frozen=True, slots=True)
class Step:
    """What follows: ``row`` as it is now; with a ``verdict`` it is settled, an ``order`` is to be sent."""

    row: Row
    verdict: Verdict | None = None
    order: Order | None = None


def decide(row: Row, slip: Slip, refusal: ErrorInfo | None, *, now_ms: int = 0) -> Step:
    """A decision was read. ``refusal`` is the error of a decision with attempt 0, ``None`` for an attempt."""
    if slip.origin != row.slip.origin or slip.beside:
        return Step(row)
    if refusal is not None and row.pending is not None and row.pending.again.reason == "judge":
        return _judged(replace(row, pending=None), None, now_ms)
    if refusal is not None and row.pending is not None and row.pending.again.reason == "hedge" and _is_open(row):
        return Step(replace(row, pending=None))
    if refusal is not None:
        row = replace(row, refusal=row.refusal or refusal, pending=None)
        return Step(row) if _is_open(row) else _refused(row)
    if slip.model is None or slip.reason is None or _find(row, slip.attempt):
        return Step(row)
    return Step(_with_try(row, Try(number=slip.attempt, model=slip.model, reason=slip.reason), row.priced))


def conclude(
    row: Row,
    slip: Slip,
    outcome: Outcome,
    charge: Charge,
    *,
    at_ms: int,
    now_ms: int,
    policy: Policy,
    room: int = MOST_HELD,
    place: Origin | None = None,
    take: Callable[[], bool] = unlimited,
    down: AbstractSet[str] = frozenset(),
) -> Step:
    """An outcome was read that fits its slip; ``at_ms`` is its record's timestamp. Afterwards it counts as priced.

    ``room``: bytes that an answer may have to be held. ``place``: where the outcome lies. ``take``, ``down``: see ``backoff.next_step``.
    """
    priced = row.priced | {(outcome.attempt, outcome.model)}
    known = _find(row, outcome.attempt)
    if (
        slip.origin != row.slip.origin
        or at_ms >= row.slip.deadline_at_ms
        or slip.reason is None
        or slip.beside
        or (known is not None and (known.status is not None or known.model != outcome.model))
    ):
        return Step(row if priced == row.priced else replace(row, priced=priced))
    last = ended(outcome, slip.reason, charge, slip.trial, place if row.slip.sample is not None else None)
    row = _with_try(row, last, priced)
    if slip.reason == "judge":
        return _judged(row, score_of(outcome.body) if outcome.body is not None else None, now_ms)
    if outcome.status == "ok":
        if last.trial is not None and row.held is None:
            found = _checked(row, last, last.trial, outcome.body or {}, now_ms=now_ms, room=room, place=place)
            if found is not None:
                return found
        return Step(row, Verdict(answered_by=last, body=outcome.body or {}))
    if outcome.status == "refused" and last.trial is not None and _may_go_on(row, last.trial, now_ms):
        return _ordered(row, escalate(last.trial.to, _asked(row)), now_ms)
    return _failed(row, last, now_ms, policy, take=take, down=down)


def pass_time(row: Row, *, now_ms: int, read_to_ms: int) -> Step:
    """Time has passed: the deadline may fire, the waiting order may be due. Where that is not decided yet, see ``reconsider``."""
    if read_to_ms >= row.slip.deadline_at_ms:
        allowed_ms = row.slip.deadline_at_ms - row.slip.at_ms
        return _settle(row, Code.DEADLINE_EXCEEDED, f"no answer within {allowed_ms} ms")
    pending = row.pending
    if pending is None or pending.sent or pending.again.waits or now_ms < pending.due_at_ms:
        return Step(row)
    return Step(replace(row, pending=replace(pending, sent=True)), order=_order(row, pending))


def reconsider(
    row: Row, *, now_ms: int, policy: Policy, take: Callable[[], bool], down: AbstractSet[str] = frozenset()
) -> Step:
    """What follows a failure is asked again, of a request that waits for it."""
    if row.pending is None or not row.pending.again.waits or now_ms < row.pending.due_at_ms:
        return Step(row)
    last = max((each for each in _asked(row) if each.status is not None), key=_number)
    return _failed(replace(row, pending=None), last, now_ms, policy, take=take, down=down)


def give_up(row: Row) -> Step:
    """A record of this request ends the process each time it is read: the request ends with ``internal_error``."""
    return _ended(row, Code.INTERNAL_ERROR, "the router could not handle a record of this request")


def _checked(
    row: Row, last: Try, trial: Trial, body: dict[str, Any], *, now_ms: int, room: int, place: Origin | None
) -> Step | None:
    """What follows an answer on trial; ``None``: it is the result. No better model is asked where nothing may be asked any more."""
    judge = trial.judge if last.confidence != 0.0 and (trial.threshold is not None or trial.inclusion > 0.0) else None
    if row.refusal is not None or now_ms >= row.slip.deadline_at_ms:
        return None
    if judge is None and not trial.escalates(last.confidence):
        return None
    written = orjson.dumps(body)
    if len(written) > room:
        return None  # a doubtful answer is better than none, should nobody give a better one
    row = replace(row, held=written)
    if _is_open(row) or row.pending is not None:
        return Step(row)
    if judge is not None and place is not None:
        return _ordered(row, ask_judge(judge, place), now_ms)
    return _ordered(row, escalate(trial.to, _asked(row)), now_ms)


def _may_go_on(row: Row, trial: Trial, now_ms: int) -> bool:
    """Whether a model that refuses is no reason to give up: a cascade asks the better one."""
    waits = _is_open(row) or row.pending is not None or row.refusal is not None
    return trial.threshold is not None and not waits and now_ms < row.slip.deadline_at_ms


def _judged(row: Row, score: float | None, now_ms: int) -> Step:
    """The judge has spoken, or cannot (``None``): the answer that is held goes out, or a better model is asked."""
    doubted = _doubted(row)
    if doubted is None or doubted.trial is None or row.held is None:
        return Step(row)
    trial, held = doubted.trial, row.held
    doubted = replace(doubted, confidence=score)
    row = _with_try(row, doubted, row.priced)
    if row.refusal is not None or now_ms >= row.slip.deadline_at_ms or not trial.escalates(score):
        return Step(row, Verdict(answered_by=doubted, body=orjson.loads(held)))
    return _ordered(row, escalate(trial.to, _asked(row)), now_ms)


def _ordered(row: Row, again: Again, now_ms: int) -> Step:
    number = max(map(_number, row.tries)) + 1
    return Step(replace(row, pending=Pending(number, again, now_ms)))


def _asked(row: Row) -> list[Try]:
    """Attempts to answer: a judge's is none, and it may yet be asked for an answer."""
    return [each for each in row.tries if each.reason != "judge"]


def _doubted(row: Row) -> Try | None:
    return next((each for each in row.tries if each.trial is not None and each.status == "ok"), None)


def allowed(row: Row, policy: Policy) -> Policy:
    """What may be tried, where escalations, judges and hedges come on top of what the pool allows."""
    beyond = sum(each.reason in {"escalate", "judge", "hedge"} for each in row.tries)
    return replace(policy, max_attempts=policy.max_attempts + beyond) if beyond else policy


def _failed(
    row: Row, last: Try, now_ms: int, policy: Policy, *, take: Callable[[], bool], down: AbstractSet[str]
) -> Step:
    if (code := final_code(last, policy)) is not None:
        return _settle(row, code, "the provider turned the request down")
    if _is_open(row) or row.pending is not None:
        return Step(row)
    if row.refusal is not None:
        return _refused(row)
    tries = (*(each for each in _asked(row) if each is not last), last)
    following = next_step(
        allowed(row, policy),
        tries,
        left_ms=row.slip.deadline_at_ms - now_ms,
        jitter=_jitter(row.slip.request_id, last.number),
        take=take,
        down=down,
        patient=row.slip.lane == "batch",
    )
    if isinstance(following, Code):
        return _settle(row, following, "nothing is left to try")
    number = max(map(_number, tries)) + 1
    return Step(replace(row, pending=Pending(number, following, now_ms + following.delay_ms)))


def _refused(row: Row) -> Step:
    """Settle with the refusal, or with what the failed attempts before it amount to."""
    assert row.refusal is not None
    failed = [each for each in row.tries if each.status is not None and not each.withdrawn]
    if not failed or row.refusal.code in _STRONGER:
        return _settle(row, row.refusal.code, row.refusal.message, row.refusal.retry_after_ms)
    return _settle(row, failure_code(row.tries), row.refusal.message)


def _settle(row: Row, code: str, message: str, retry_after_ms: int | None = None) -> Step:
    """With an error, or with the answer that is held."""
    if row.held is not None:
        return Step(row, Verdict(answered_by=_doubted(row), body=orjson.loads(row.held)))
    return _ended(row, code, message, retry_after_ms)


def _ended(row: Row, code: str, message: str, retry_after_ms: int | None = None) -> Step:
    said = f"{message}; attempts: {describe(row.tries)}" if row.tries else message
    return Step(row, Verdict(error=ErrorInfo(code=str(code), message=said, retry_after_ms=retry_after_ms)))


def _order(row: Row, pending: Pending) -> Order:
    slip = row.slip
    return Order(
        request_id=slip.request_id,
        attempt=pending.number,
        reason=pending.again.reason,
        lane=slip.lane,
        origin=slip.origin,
        at_ms=slip.at_ms,
        deadline_at_ms=slip.deadline_at_ms,
        first=First(
            stratum=slip.stratum,
            cohort=slip.cohort or "direct",
            propensity=1.0 if slip.propensity is None else slip.propensity,
            policy_version=slip.policy_version or "",
            model=slip.first_model or row.tries[0].model,
        ),
        prefer=pending.again.prefer,
        exclude=pending.again.exclude,
        last_error=failure_code(row.tries).value,
        answer=pending.again.answer,
        chain=pending.again.chain,
    )


def _find(row: Row, number: int) -> Try | None:
    for each in row.tries:
        if each.number == number:
            return each
    return None


def _with_try(row: Row, new: Try, priced: frozenset[Pair]) -> Row:
    """The row with this attempt, which replaces its open self and answers the order for it."""
    others = [each for each in row.tries if each.number != new.number]
    return Row(
        slip=row.slip,
        tries=tuple(sorted([*others, new], key=_number)) if others else (new,),
        pending=row.pending if row.pending is not None and row.pending.number > new.number else None,
        refusal=row.refusal,
        priced=priced,
        headers=row.headers,
        held=row.held,
    )


def _is_open(row: Row) -> bool:
    return any(each.status is None for each in row.tries)


def _number(each: Try) -> int:
    return each.number


def _jitter(request_id: str, attempt: int) -> float:
    """Uniform in [0, 1), the same after a restart."""
    return (xxhash.xxh3_64_intdigest(f"{request_id}/{attempt}".encode()) >> 11) / 2**53
