"""A record that cannot be used leaves with the reason why. The partition goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from router.contract.errors import BadRecord, PointsmanError, RejectCode
from router.contract.letters import Rejected, dead_letter

__all__ = ["Emitter", "Rejected", "dead_letter", "give_up", "unreadable"]


class Emitter(Protocol):
    """What giving up needs of a unit."""

    now_ms: int

    def emit(self, topic: str, key: bytes | None, value: bytes | None) -> Any: ...


def unreadable(error: Exception) -> BadRecord:
    """For records that only our own stages write, should one not be what it must be."""
    return BadRecord(f"not what a stage of ours writes: {error!r}"[:500], code=RejectCode.INTERNAL_ERROR)


def give_up(stage: str, topic: str) -> Callable[[Rejected, Emitter], None]:
    """A ``Stage.culprit`` for records that nobody waits for: the one that killed the process becomes a dead letter."""

    def culprit(record: Rejected, unit: Emitter) -> None:
        error = PointsmanError(f"stage {stage} died of it three times")
        unit.emit(topic, *dead_letter(record, error, stage=stage, at_ms=unit.now_ms))

    return culprit
