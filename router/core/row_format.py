"""An open request as the bytes of a table row, and back. JSON arrays: short, and quick to read after a restart."""

from __future__ import annotations

from typing import Any

import orjson

from router.contract.records import ErrorInfo, Origin
from router.contract.releases import by_place
from router.core.attempts import Charge, Try
from router.core.backoff import Again
from router.core.cascade import trial_of
from router.core.settlement import Pending, Row
from router.core.slip import from_list, to_list


def row_to_bytes(row: Row) -> bytes:
    """500 bytes for a request without metadata."""
    pending, refusal = row.pending, row.refusal
    return orjson.dumps(
        [
            to_list(row.slip),
            [_try_to_list(each) for each in row.tries],
            pending and [pending.number, _again_to_list(pending.again), pending.due_at_ms, pending.sent],
            refusal and [refusal.code, refusal.message, refusal.retry_after_ms],
            sorted(row.priced),
            [[name, value.decode("latin-1")] for name, value in row.headers],
            None if row.held is None else orjson.Fragment(row.held),
        ]
    )


def row_from_bytes(value: bytes) -> Row:
    """The inverse of ``row_to_bytes``; only our own transactions write rows, of this release or another, so they are trusted."""
    slip, tries, pending, refusal, priced, headers, *later = orjson.loads(value)
    held = later[0] if later else None  # an earlier release held nothing
    return Row(
        slip=from_list(slip),
        tries=tuple(_try_from_list(each) for each in tries),
        pending=pending and Pending(pending[0], _again_from_list(pending[1]), pending[2], pending[3]),
        refusal=refusal and ErrorInfo(**dict(zip(("code", "message", "retry_after_ms"), refusal, strict=False))),
        priced=frozenset((attempt, model) for attempt, model in priced),
        headers=tuple((name, text.encode("latin-1")) for name, text in headers),
        held=None if held is None else orjson.dumps(held),
    )


def _again_to_list(again: Again) -> list[Any]:
    return [
        again.reason,
        again.delay_ms,
        again.prefer,
        again.exclude,
        _place_to_list(again.answer),
        again.chain,
        again.waits,
    ]


def _again_from_list(values: list[Any]) -> Again:
    reason, delay_ms, prefer, exclude, *later = values
    known = dict(zip(("answer", "chain", "waits"), later, strict=False))  # an earlier release had fewer
    answer, chain = _place_from_list(known.get("answer")), tuple(known.get("chain", ()))
    return Again(reason, delay_ms, prefer, tuple(exclude), answer, chain, known.get("waits", False))


def _place_to_list(place: Origin | None) -> list[Any] | None:
    return None if place is None else [place.topic, place.partition, place.offset]


def _place_from_list(values: list[Any] | None) -> Origin | None:
    return None if values is None else Origin(topic=values[0], partition=values[1], offset=values[2])


def _try_to_list(each: Try) -> list[Any]:
    if each.status is None:
        return [each.number, each.model, each.reason]
    charge = each.charge
    return [
        each.number,
        each.model,
        each.reason,
        each.status,
        each.code,
        each.retry_after_ms,
        each.endpoint,
        each.served_model,
        each.latency_ms,
        charge and [charge.cost_nano_usd, charge.price_version, charge.instead],
        each.confidence,
        each.trial and each.trial.values(),
        _place_to_list(each.place),
    ]


def _try_from_list(values: list[Any]) -> Try:
    number, model, reason, *rest = values
    if not rest:
        return Try(number=number, model=model, reason=reason)
    status, code, retry_after_ms, endpoint, served_model, latency_ms, charge, *later = rest
    confidence, trial, place = (*later, None, None, None)[:3]
    return Try(
        number=number,
        model=model,
        reason=reason,
        status=status,
        code=code,
        retry_after_ms=retry_after_ms,
        endpoint=endpoint,
        served_model=served_model,
        latency_ms=latency_ms,
        charge=charge and by_place(Charge, charge),
        confidence=confidence,
        trial=trial_of(trial),
        place=_place_from_list(place),
    )
