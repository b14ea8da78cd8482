"""The dead letter of a consumed record: whole up to 1 MiB, with the reason why it could not be used."""

from __future__ import annotations

import base64
from typing import Protocol

from router.contract.codec import encode, to_rfc3339
from router.contract.errors import PointsmanError
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
