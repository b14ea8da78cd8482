"""What route cannot send on its way: a decision that refuses, a dead letter, or both; nothing for what comes beside a result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from router.contract.codec import encode
from router.contract.errors import Code, PointsmanError
from router.contract.records import Lane, Origin
from router.contract.requests import BadRequest
from router.contract.topics import MIB
from router.core.audit import refusal_record
from router.core.facts import Refusal
from router.core.slip import Slip, sign
from router.kafka.unit import UnitLike
from router.stages.context import Context
from router.stages.dead_letter import dead_letter
from router.stages.headers import passed_on
from router.stages.route_intake import Unusable
from router.stages.route_records import bare_slip, request_time_ms

MAX_SLIP_CHARACTERS = 2 * MIB


class Refusals:
    """Of one lane; ``stage``: as its dead letters name it."""

    def __init__(self, context: Context, lane: Lane, *, stage: str, default_deadline_ms: int) -> None:
        self._lane: Lane = lane
        self._name = stage
        self._keyring = context.keyring
        self._default_deadline_ms = default_deadline_ms
        self._decisions, self._dead = context.names.of("decisions"), context.names.of("dead-letter")

    def turn_down(self, record: Any, item: Unusable, unit: UnitLike) -> None:
        """A request that cannot be read, or a body that is gone."""
        error, order = item.error, item.order
        if order is not None and order.mirror is not None:
            return  # of a shadow: its request has its result
        if order is not None:
            bad = order.first is None and isinstance(error, BadRequest)
            refusal = Refusal(Code.INVALID_REQUEST if bad else Code.INTERNAL_ERROR, str(error))
            slip = bare_slip(
                order.request_id,
                item,
                origin=order.origin,
                at_ms=order.at_ms,
                deadline_at_ms=order.deadline_at_ms,
                lane=self._lane,
            )
            self.emit(refusal, slip, sign(slip, self._keyring), record, unit)
            return
        self.bury(record, error, unit)
        if isinstance(error, BadRequest):
            self.refuse_unread(record, error, item.key, unit, code=Code.INVALID_REQUEST)

    def refuse_unread(self, record: Any, error: BadRequest, key: bytes | None, unit: UnitLike, *, code: Code) -> None:
        """The decision of attempt 0 for a request that is answerable but nothing more, if it is that."""
        if error.request_id is None:
            return
        at_ms = request_time_ms(record, unit.now_ms)
        slip = bare_slip(
            error.request_id,
            Unusable(error, key),
            origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
            at_ms=at_ms,
            deadline_at_ms=at_ms + self._default_deadline_ms,
            lane=self._lane,
        )
        signed = sign(slip, self._keyring)
        if len(signed) > MAX_SLIP_CHARACTERS:
            slip = replace(slip, metadata=None)
            signed = sign(slip, self._keyring)
        # The full message is in the dead letter. Behind "not" it shows a value, which may be prompt text.
        self.emit(Refusal(code, str(error).partition(", not ")[0]), slip, signed, record, unit)

    def emit(self, refusal: Refusal, slip: Slip, signed: str, record: Any, unit: UnitLike) -> None:
        """The decision of attempt 0."""
        decision = refusal_record(
            refusal,
            request_id=slip.request_id,
            tenant=slip.tenant,
            at_ms=unit.now_ms,
            lane=self._lane,
            origin=slip.origin,
        )
        key = slip.request_id.encode()
        headers = [("slip", signed.encode()), *passed_on(record.headers)]
        unit.emit(self._decisions, key, encode(decision), partition=unit.by_key(self._decisions, key), headers=headers)

    def bury(self, record: Any, error: PointsmanError, unit: UnitLike) -> None:
        """The dead letter."""
        unit.emit(self._dead, *dead_letter(record, error, stage=self._name, at_ms=unit.now_ms))
