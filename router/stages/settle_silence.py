"""Settle takes requests away from models that answer nothing.

A lane goes through what waits for such a model in parts of ``A_TICK`` requests, interactive ones first, and begins again a second after
the end, for what came meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.stages.settle_book import Book

A_TICK = 400
AGAIN_MS = 1_000


class Silence:
    """How far each lane has come."""

    def __init__(self) -> None:
        self._tours: dict[int, tuple[int, list[bytes]]] = {}

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
