"""The answers of a cascade's sample that are to be labelled, with their prompts, out of the topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import xxhash

from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.records import ReviewItem
from router.contract.topics import Names
from router.core.judging import said_in
from router.history.cascade import reward_in
from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.kafka.scan import scan

#: Bodies of answers that are read at once.
_AT_ONCE = 200


async def to_label(client: Client, names: Names, pool: str, most: int) -> list[dict[str, Any]]:
    """Up to ``most`` answers of the pool's sample that nobody has labelled, evenly drawn, as feedback records without a value.

    Beside them stand ``prompt`` (messages) and ``answer`` (text), for whoever labels; nothing says which model it was.
    """
    done = set()
    async for record in scan(client, [names.of("rewards")]):
        reward = reward_in(record.value)
        if reward is not None and reward.label is not None:
            done.add((reward.request_id, reward.answered_by_attempt))
    items: list[ReviewItem] = []
    async for record in scan(client, [names.of("reviews")]):
        item = _review(record.value)
        if item is not None and item.pool == pool and (item.request_id, item.attempt) not in done:
            items.append(item)
    items.sort(key=lambda one: xxhash.xxh3_64_intdigest(one.request_id.encode()))
    if not items:
        return []
    bodies = BodyReader(client, names.bodies())
    await bodies.start()
    try:
        return [line async for line in _lines(items, bodies, most)]
    finally:
        await bodies.stop()


async def _lines(items: Sequence[ReviewItem], bodies: BodyReader, most: int) -> Any:
    given = 0
    for start in range(0, len(items), _AT_ONCE):
        part = [
            one for one in items[start : start + _AT_ONCE] if one.request_at is not None and one.answer_at is not None
        ]
        asked = await bodies.fetch([_place(one.request_at) for one in part])
        answered = await bodies.fetch([_place(one.answer_at) for one in part])
        for item, request, outcome in zip(part, asked, answered, strict=True):
            if request is None or outcome is None:
                continue  # past retention
            if given >= most:
                return
            given += 1
            yield {
                "request_id": item.request_id,
                "attempt": item.attempt,
                "kind": "label",
                "source": "reviewer",
                "value": None,
                "stratum": item.stratum,
                "prompt": _prompt(orjson.loads(request.value)),
                "answer": said_in(orjson.loads(outcome.value).get("body") or {}),
            }


def _place(origin: Any) -> tuple[str, int, int]:
    return origin.topic, origin.partition, origin.offset


def _prompt(request: Mapping[str, Any]) -> Any:
    body = request.get("body") or {}
    return body.get("messages", body.get("prompt"))


def _review(value: bytes | None) -> ReviewItem | None:
    try:
        item = None if value is None else decode(ReviewItem, value)
    except BadRecord:
        return None
    labelled = item is not None and item.attempt is not None and item.sample in {None, "cascade"}
    return item if labelled else None
