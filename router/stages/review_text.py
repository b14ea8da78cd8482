"""Puts prompt and answer into review items, where the configuration turns that on: redacted, cut to a length, read at their places.

    reviews.wanted (an item without text) -> [ read both records, redact ] -> reviews

What is past retention, or cannot be redacted, stays away; the item goes out all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from router.config.redact import redactor
from router.contract.errors import BadRecord
from router.contract.wire import parse
from router.core.judging import asked_in, said_in
from router.core.reviewing import MOST_TEXT
from router.kafka.bodies import BodyReader, Place
from router.kafka.stage import Stage
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable

NAME = "reviews"


class ReviewText:
    """The stage's handlers for one configuration."""

    def __init__(self, context: Context, bodies: BodyReader) -> None:
        names = context.names
        self._name = names.group(NAME)
        self._wanted, self._reviews, self._dead = (
            names.of("reviews.wanted"),
            names.of("reviews"),
            names.of("dead-letter"),
        )
        self._bodies = bodies
        self._redact = redactor(context.config.reviews.redact)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._wanted,),
            outputs=frozenset({self._reviews, self._dead}),
            handle=self.handle,
            prefetch=self.prefetch,
            resources=(self._bodies,),
            linger_s=PATIENT_LINGER_S,
            gather_s=GATHER_S,
            culprit=give_up(NAME, self._dead),
        )

    async def prefetch(self, batch: Batch) -> list[Any]:
        """For each item the records of its request and of its answer; ``None`` for what cannot be read."""
        places = [_places(record.value) for record in batch.records]
        found = iter(await self._bodies.fetch_in_the_end([place for both in places for place in both]))
        return [[next(found) for _ in both] for both in places]

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        for record, bodies in zip(batch.records, batch.fetched, strict=True):
            try:
                item: Any = parse(record.value)
                item["prompt"], item["answer"] = self._texts(bodies)
            except (BadRecord, TypeError) as error:
                unit.emit(self._dead, *dead_letter(record, unreadable(error), stage=NAME, at_ms=unit.now_ms))
                continue
            unit.emit(self._reviews, record.key, orjson.dumps(item))

    def _texts(self, bodies: Sequence[Any]) -> tuple[str | None, str | None]:
        request, outcome = bodies if len(bodies) == 2 else (None, None)
        asked = None if request is None else asked_in(orjson.loads(request.value).get("body") or {})
        said = None if outcome is None else said_in(orjson.loads(outcome.value).get("body") or {})
        return (
            None if asked is None else self._redact(asked)[-MOST_TEXT:],
            None if said is None else self._redact(said)[:MOST_TEXT],
        )


def _places(value: bytes | None) -> list[Place]:
    """Where an item's two records lie; none where it does not say so."""
    try:
        item: Any = parse(value)
        both = [item["request_at"], item["answer_at"]]
        return [(one["topic"], one["partition"], one["offset"]) for one in both]
    except (BadRecord, TypeError, KeyError):
        return []
