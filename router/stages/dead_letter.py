"""A record that cannot be used leaves whole, up to 1 MiB, with the reason why. The partition goes on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Protocol

from router.contract.codec import encode, to_rfc3339
from router.contract.errors import BadRecord, PointsmanError, RejectCode
from router.contract.records import DeadLetter, ErrorInfo
from router.contract.topics import MIB


class Rejected(Protocol):
    """What a dead letter tells of a consumed record."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Emitter(Protocol):
    """What giving up needs of a unit."""

    now_ms: int

    def emit(self, topic: str, key: bytes | None, value: bytes | None) -> Any: ...


def dead_letter(record: Rejected, error: PointsmanError, *, stage: str, at_ms: int) -> bytes:
    """The dead letter's value; its key is the record's own."""
    value = record.value
    return encode(
        DeadLetter(
            reason=ErrorInfo(code=str(error.code), message=str(error)),
            stage=stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            at=to_rfc3339(at_ms),
            key_base64=None if record.key is None else base64.b64encode(record.key).decode(),
            value_base64=None if value is None else base64.b64encode(value[:MIB]).decode(),
            value_bytes=len(value or b""),
            truncated=len(value or b"") > MIB,
        )
    )


def unreadable(error: Exception) -> BadRecord:
    """For records that only our own stages write, should one not be what it must be."""
    return BadRecord(f"not what a stage of ours writes: {error!r}"[:500], code=RejectCode.INTERNAL_ERROR)


def give_up(stage: str, topic: str) -> Callable[[Rejected, Emitter], None]:
    """A ``Stage.culprit`` for records that nobody waits for: the one that killed the process becomes a dead letter."""

    def culprit(record: Rejected, unit: Emitter) -> None:
        error = PointsmanError(f"stage {stage} died of it three times")
        unit.emit(topic, record.key, dead_letter(record, error, stage=stage, at_ms=unit.now_ms))

    return culprit
