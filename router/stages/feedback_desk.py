"""What a lane of feedback keeps: where results lie, which opinions were counted, and who waits for a result."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

from router.contract.codec import encode
from router.contract.releases import by_name
from router.core.records import Load, VerifiedFeedback
from router.kafka.unit import UnitLike
from router.stages.settle_rows import DROP, KEPT, SettleRows, kept_value, read_kept

#: How long feedback by id waits for its result to be read, by the lane's reading.
WAIT_MS = 5_000
LOAD_EVERY_MS = 1_000
#: Of an offset its remainder by this is kept.
OFFSETS = 2**32

_PARKED, _NEWEST, _DOUBLED = b"w", b"o", b"x"


@dataclass(slots=True)
class Desk:
    """What a lane derives from its table.

    ``parked``: request id -> row keys; ``due``: heap of (when, row key, request id).
    """

    rows: SettleRows
    newest: int = -1
    doubled: int = 0
    parked: dict[str, list[bytes]] = field(default_factory=dict)
    due: list[tuple[int, bytes, str]] = field(default_factory=list)
    told_ms: int = 0
    told: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, rows: SettleRows) -> Desk:
        """As the table has it."""
        desk = cls(rows)
        for key, value in rows.items():
            if key[:1] == _PARKED:
                desk._await(key, by_name(VerifiedFeedback, orjson.loads(value)))
            elif key == _NEWEST:
                desk.newest = int.from_bytes(value)
            elif key == _DOUBLED:
                desk.doubled = int.from_bytes(value)
        return desk

    @property
    def waiting(self) -> int:
        """Feedback that waits, some that was joined in the last seconds included."""
        return len(self.due)

    def park(self, verified: VerifiedFeedback, unit: UnitLike) -> None:
        """Let feedback wait for its result."""
        key = _PARKED + verified.source_partition.to_bytes(4) + verified.source_offset.to_bytes(8)
        unit.put(key, encode(verified))
        self._await(key, verified)

    def take(self, request_id: str, unit: UnitLike) -> Iterator[VerifiedFeedback]:
        """What waits for this result; it waits no more."""
        for key in self.parked.pop(request_id):
            yield from _taken(key, unit)

    def overdue(self, unit: UnitLike, most: int) -> Iterator[VerifiedFeedback]:
        """What has waited until everything of its time was read; it waits no more."""
        while most and self.due and self.due[0][0] <= unit.read_to_ms:
            _, key, request_id = heapq.heappop(self.due)
            keys = self.parked.get(request_id, [])
            if key in keys:
                most -= 1
                keys.remove(key)
                if not keys:
                    del self.parked[request_id]
                yield from _taken(key, unit)

    def note(self, unit: UnitLike) -> None:
        """Store how far results were read and how many were doubled."""
        if self.newest >= 0:
            unit.put(_NEWEST, self.newest.to_bytes(8))
        if self.doubled:
            unit.put(_DOUBLED, self.doubled.to_bytes(8))

    def forget(self, unit: UnitLike) -> None:
        """Housekeeping of a tick: one bucket of ids that is to be forgotten, a part of the memory to be freed."""
        read_to_s = unit.read_to_ms // 1000
        bucket = self.rows.droppable(read_to_s)
        if bucket is not None:
            unit.put(DROP + bucket.to_bytes(4), None)
        self.rows.sweep(read_to_s)

    def load(self, partition: int, now_ms: int, read_to_ms: int) -> Load | None:
        """How many ids are kept and results doubled: when that changed, at most once a second."""
        figures = (self.rows.kept, self.doubled)
        if figures == self.told or now_ms < self.told_ms + LOAD_EVERY_MS:
            return None
        self.told, self.told_ms = figures, now_ms
        ids, doubled = figures
        return Load(
            stage="feedback", partition=partition, at_ms=now_ms, read_to_ms=read_to_ms, ids=ids, doubled=doubled
        )

    def kept(self, id16: bytes, unit: UnitLike) -> int | None:
        """What was kept with an id, ``None`` if that has expired or never was."""
        value = unit.get(KEPT + id16)
        if value is None:
            return None
        payload, expires_s = read_kept(value)
        return payload if expires_s * 1000 > unit.read_to_ms else None

    def keep(self, id16: bytes, payload: int, expires_s: int, unit: UnitLike) -> None:
        """Remember an id; a time that was forgotten already is no time."""
        unit.put(KEPT + id16, kept_value(payload, max(expires_s, self.rows.floor_s + 1)))

    def place(self, low: int) -> int:
        """The offset with these low 32 bits, among the newest."""
        return self.newest - (self.newest - low) % OFFSETS

    def _await(self, key: bytes, verified: VerifiedFeedback) -> None:
        self.parked.setdefault(verified.request_id, []).append(key)
        heapq.heappush(self.due, (verified.at_ms + WAIT_MS, key, verified.request_id))


def _taken(key: bytes, unit: UnitLike) -> Iterator[VerifiedFeedback]:
    value = unit.get(key)
    if value is not None:
        unit.put(key, None)
        yield by_name(VerifiedFeedback, orjson.loads(value))
