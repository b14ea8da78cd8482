"""Settle takes requests away from models that answer nothing.

Which ones those are ``watch`` says in ``health`` (``silent``), from what all lanes of settle told it: one lane alone sees too
little. Its word holds until ``until`` only, and is repeated while it is true: should watch die, nothing is taken away for ever.

A lane goes through what waits for such a model in parts of ``A_TICK`` requests, interactive ones first, and begins again a second after
the end, for what came meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.records import Health
from router.kafka.follow import Follower
from router.stages.context import Context
from router.stages.settle_book import Book

A_TICK = 400
AGAIN_MS = 1_000


class Silence(Follower):
    """A resource of settle, one for all its lanes."""

    def __init__(self, context: Context) -> None:
        self._until: dict[str, int] = {}
        self._tours: dict[int, tuple[int, list[bytes]]] = {}
        super().__init__(context.client, (context.names.of("health"),), self._take, confirms=False)

    def models(self, now_ms: int) -> frozenset[str]:
        """Those that answer nothing now."""
        if not self._until:
            return frozenset()
        return frozenset(model for model, until_ms in self._until.items() if now_ms < until_ms)

    def waiting(self, silent: frozenset[str], book: Book, partition: int, now_ms: int) -> Iterator[bytes]:
        """Some of the open requests that wait for one of ``silent``."""
        begun_ms, left = self._tours.get(partition, (0, []))
        if not left and abs(now_ms - begun_ms) >= AGAIN_MS:
            found = [id16 for model in sorted(silent) for id16 in book.backlogs.waiting(model)]
            begun_ms, left = now_ms, found[::-1]
        part = left[-A_TICK:][::-1]
        del left[-A_TICK:]
        self._tours[partition] = begun_ms, left
        return (id16 for id16 in part if id16 in book.open)

    def _take(self, record: Any) -> None:
        model = (record.key or b"").decode("utf-8", "replace")
        self._until.pop(model, None)
        try:
            found = None if record.value is None else decode(Health, record.value)
            if found is not None and found.silent and found.until is not None:
                self._until[found.model] = from_rfc3339(found.until)
        except (BadRecord, ValueError):
            return
