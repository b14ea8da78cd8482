"""The review queue's rules, the same in the terminal, in files and in the web: what an item is called, its texts, and an opinion on it.

An item is done when a reviewer's opinion on its answer counted, whoever sent it and however. Two items of one answer are one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import xxhash

from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.records import Feedback, Origin, ReviewItem
from router.contract.topics import DAY_MS
from router.core.judging import asked_in, said_in
from router.core.keyring import Keyring
from router.core.records import CountedFeedback

Key = tuple[str, int]
"""Request id and attempt: an answer."""
Place = tuple[str, int, int]
"""Topic, partition, offset."""

#: Opinions of these kinds, by reviewers, are about how good an answer is.
KINDS: Final = frozenset({"review", "label"})
#: What is written into an item, where that is turned on: of a prompt its end, of an answer its beginning, in characters: an item stays below
#: the topic's limit however they are written.
MOST_TEXT: Final = 64_000
_BY_REVIEWER: Final = b'"reviewer"'


@dataclass(frozen=True, slots=True)
class Shard:
    """The ``number``-th of ``of`` parts, from 1."""

    number: int = 1
    of: int = 1

    def has(self, request_id: str) -> bool:
        return xxhash.xxh3_64_intdigest(request_id.encode()) % self.of == self.number - 1


@dataclass(frozen=True, slots=True)
class Shown:
    """An item with its texts, redacted."""

    item: ReviewItem
    prompt: str
    answer: str


def key_of(item: ReviewItem) -> Key:
    """The answer that an item is about."""
    return item.request_id, item.attempt or 0


def due_day(item: ReviewItem) -> int:
    """Days since 1970. Both answers of a pair are due at once, so what is due on one day is put in an order that says nothing."""
    return from_rfc3339(item.due_at) // DAY_MS


def order_of(item: ReviewItem) -> tuple[int, int]:
    """What is due first comes first, within a day in no order that says anything."""
    return due_day(item), xxhash.xxh3_64_intdigest(f"{item.request_id}/{item.attempt}".encode())


def namer(keyring: Keyring) -> Callable[[Key], str]:
    """Names for answers, 16 hex digits, by which nobody without the secret finds the request or the attempt; the same in all processes.

    The number of an attempt says that an answer is a shadow or a fallback, and by a request's id its model can be looked up.
    """
    secret = hmac.digest(keyring.keys[0], b"pointsman review name 1", "sha256")
    return lambda key: hashlib.blake2b(f"{key[0]}/{key[1]}".encode(), key=secret, digest_size=8).hexdigest()


def item_in(value: bytes | None) -> ReviewItem | None:
    """The item in a record of ``reviews``, if it is one and names an answer."""
    found = _decoded(ReviewItem, value)
    return found if found is not None and found.attempt is not None else None


def opinion_in(value: bytes | None) -> CountedFeedback | None:
    """A reviewer's opinion on an answer that counted, if the record of ``feedback.counted`` is one. Quick where it is not."""
    if value is None or _BY_REVIEWER not in value:
        return None
    one = _decoded(CountedFeedback, value)
    counts = one is not None and one.kind in KINDS and one.source == "reviewer" and not one.repeat and one.attempt
    return one if counts else None


def places(of: Iterable[ReviewItem]) -> list[Place]:
    """Where the texts lie of those that do not have them: each one's request, then its answer."""
    return [_place(at) for one in of if _elsewhere(one) for at in (one.request_at, one.answer_at) if at is not None]


def with_texts(of: Sequence[ReviewItem], found: Mapping[Place, bytes], redact: Callable[[str], str]) -> list[Shown]:
    """Items with their texts, without those that have none any more. ``found``: the records that are still at ``places``."""
    shown = []
    for one in of:
        if one.prompt is not None and one.answer is not None:
            shown.append(Shown(one, str(one.prompt), str(one.answer)))
        elif one.request_at is not None and one.answer_at is not None:
            request, outcome = found.get(_place(one.request_at)), found.get(_place(one.answer_at))
            if request is not None and outcome is not None:
                shown.append(Shown(one, redact(asked_in(_body(request))), redact(said_in(_body(outcome)))))
    return shown


def feedback_on(item: ReviewItem, value: float, comment: str | None = None) -> Feedback:
    """What a reviewer says of an item, ``value`` 0..1."""
    return Feedback(
        kind="review",
        value=value,
        source="reviewer",
        feedback_token=item.feedback_token,
        request_id=item.request_id if item.feedback_token is None else None,
        weight=item.weight,
        comment=comment or None,
        attempt=item.attempt,
    )


def _elsewhere(item: ReviewItem) -> bool:
    placed = item.request_at is not None and item.answer_at is not None
    return placed and (item.prompt is None or item.answer is None)


def _place(origin: Origin) -> Place:
    return origin.topic, origin.partition, origin.offset


def _body(value: bytes) -> Any:
    return orjson.loads(value).get("body") or {}


def _decoded(kind: type[Any], value: bytes | None) -> Any:
    try:
        return None if value is None else decode(kind, value)
    except BadRecord:
        return None
