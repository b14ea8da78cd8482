"""The dead letter of a consumed record, with the reason why it could not be used.

Whatever the record is, its letter can be written, so that a stage can always go on: value and key are cut. What fits is
there whole, and the letter lies under the record's own key; with a key that was cut it lies under none.
"""

from __future__ import annotations

import base64
from typing import Protocol

from router.contract.codec import encode, to_rfc3339
from router.contract.errors import PointsmanError
from router.contract.records import DeadLetter, ErrorInfo
from router.contract.topics import MIB

MAX_VALUE_BYTES = MIB
MAX_KEY_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 2_000


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


def dead_letter(record: Rejected, error: PointsmanError, *, stage: str, at_ms: int) -> tuple[bytes | None, bytes]:
    """Key and value of the letter, 1.5 MiB at most. ``truncated``: of key or value the beginning is there."""
    key, value = record.key, record.value or b""
    cut_key = key is not None and len(key) > MAX_KEY_BYTES
    letter = encode(
        DeadLetter(
            reason=ErrorInfo(code=str(error.code), message=str(error)[:MAX_MESSAGE_CHARACTERS]),
            stage=stage,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            at=to_rfc3339(at_ms),
            key_base64=None if key is None else base64.b64encode(key[:MAX_KEY_BYTES]).decode(),
            value_base64=None if record.value is None else base64.b64encode(value[:MAX_VALUE_BYTES]).decode(),
            value_bytes=len(value),
            truncated=cut_key or len(value) > MAX_VALUE_BYTES,
        )
    )
    return None if cut_key else key, letter
