"""Records of a later major version go to the dead letter, before any handler sees them (``contract.versions``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from router.contract.versions import refusal
from router.kafka.stage import Stage
from router.kafka.transport import Batch
from router.stages.dead_letter import dead_letter


def reading_known(stage: Stage, name: str, dead_topic: str) -> Stage:
    """The stage, given only records that this release reads. ``name``: as dead letters have it."""

    def handle(batch: Batch, unit: Any) -> None:
        refused = {}
        for at, record in enumerate(batch.records):
            if record.headers and (error := refusal(record.headers)) is not None:
                refused[at] = error
                unit.emit(dead_topic, *dead_letter(record, error, stage=name, at_ms=unit.now_ms))
        known = _without(batch, refused.keys()) if refused else batch
        if known.records:
            stage.handle(known, unit)

    return replace(stage, handle=handle)


def _without(batch: Batch, left_out: Any) -> Batch:
    def kept(items: Any) -> list[Any]:
        return [item for at, item in enumerate(items) if at not in left_out]

    return replace(batch, records=kept(batch.records), fetched=kept(batch.fetched), prepared=kept(batch.prepared))
