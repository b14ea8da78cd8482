"""What a lane of account keeps in its table, and what it derives from that.

Table rows (all times ms since the epoch, 8 bytes big-endian):

| key | value | |
|---|---|---|
| ``a`` | time | step 1: announced up to here |
| ``d`` + window + dimensions | empty | step 1: dimensions seen in a window, for the bound on rows |
| ``l`` + lane (4 bytes) | time | step 2: that lane has announced up to here |
| ``r`` + window + dimensions | counts | step 2: an open row |
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from router.core.counts import Admission, Counts, Dimensions
from router.core.window import Marks
from router.kafka.table import Rows
from router.kafka.unit import UnitLike

UPDATE_EVERY_MS = 1_000

ANNOUNCED, _SEEN, _LANE, _ROW = b"a", b"d", b"l", b"r"

#: Start of a window, ms since the epoch, and a set of dimensions in it.
Part = tuple[int, Dimensions]


@dataclass(slots=True)
class Row:
    """An open row: its counts, when it was last published, and whether it waits to be again."""

    counts: Counts
    published_ms: int
    waits: bool = False


@dataclass(slots=True)
class Books:
    """What a lane derives from its table: step 1 has ``marks`` and ``admission``, step 2 the rest.

    ``due``: heap of (time, window, dimensions) to be published. ``opened_ms``: first tick; rows that an earlier owner
    may have published just now wait a second from there.
    """

    marks: Marks
    admission: Admission
    announced: dict[int, int] = field(default_factory=dict)
    rows: dict[int, dict[Dimensions, Row]] = field(default_factory=dict)
    due: list[tuple[int, int, Dimensions]] = field(default_factory=list)
    opened_ms: int | None = None

    @property
    def heard_ms(self) -> int:
        """The furthest that any lane announced."""
        return max(self.announced.values(), default=0)

    @classmethod
    def of(cls, rows: Rows, marks: Marks, max_rows: int) -> Books:
        """As the table has them; ``marks`` of a lane that never announced."""
        seen: list[Part] = []
        books = cls(marks, Admission(max_rows))
        for key, value in rows.items():
            kind = key[:1]
            if kind == _ROW:
                start_ms, dimensions = _part_of(key)
                books.rows.setdefault(start_ms, {})[dimensions] = Row(Counts.from_json(orjson.loads(value)), 0, True)
                books.due.append((0, start_ms, dimensions))
            elif kind == _SEEN:
                seen.append(_part_of(key))
            elif kind == _LANE:
                books.announced[int.from_bytes(key[1:])] = int.from_bytes(value)
            else:
                books.marks = Marks(marks.size_ms, marks.grace_ms, int.from_bytes(value))
        books.admission = Admission(max_rows, seen)
        heapq.heapify(books.due)
        return books

    def hear(self, lane: int, to_ms: int, unit: UnitLike) -> None:
        """A lane has announced."""
        self.announced[lane] = to_ms
        unit.put(_LANE + lane.to_bytes(4), to_ms.to_bytes(8))

    def add(self, start_ms: int, dimensions: Iterable[str], counts: list[Any]) -> Part:
        """Merge a part into its row."""
        part = (start_ms, Dimensions(*dimensions))
        rows = self.rows.setdefault(start_ms, {})
        row = rows.get(part[1])
        if row is None:
            row = rows[part[1]] = Row(Counts(), 0)
        row.counts.merge(Counts.from_json(counts))
        return part

    def store(self, start_ms: int, dimensions: Dimensions, unit: UnitLike) -> None:
        """Put a row that changed into the table, and let it wait to be published."""
        row = self.rows[start_ms][dimensions]
        unit.put(row_key(start_ms, dimensions), orjson.dumps(row.counts.to_json()))
        if not row.waits:
            row.waits = True
            heapq.heappush(self.due, (row.published_ms + UPDATE_EVERY_MS, start_ms, dimensions))


def row_key(start_ms: int, dimensions: Dimensions) -> bytes:
    """Of an open row."""
    return _ROW + start_ms.to_bytes(8) + orjson.dumps([*dimensions])


def seen_key(start_ms: int, dimensions: Dimensions) -> bytes:
    """Of dimensions that were seen in a window."""
    return _SEEN + start_ms.to_bytes(8) + orjson.dumps([*dimensions])


def _part_of(key: bytes) -> Part:
    return int.from_bytes(key[1:9]), Dimensions(*orjson.loads(key[9:]))
