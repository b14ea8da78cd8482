"""The container of settle's table: open requests as rows, settled ids packed.

| key, as the stage puts it | value | in memory | in the changelog |
|---|---|---|---|
| ``r`` + id | an open request (``core.row_format``) | dict | the same |
| ``k`` + number | a kind of kept id (``Kept``), as JSON | dict | the same |
| ``i`` + id | ``kept_value``: number of its kind, expiry | ``PackedIds`` | one record a turn and bucket |
| ``d`` + bucket | ``None``: forget the bucket | counts | a tombstone for each record of the bucket |

A bucket is a minute of expiry. Its records have the keys ``s`` + bucket + 0, 1, 2 ..., so their count is all that must be
remembered to delete them. Buckets are forgotten oldest first: when they have expired, or when there are more ids than
``max_ids``. What was forgotten lies below ``floor_s``; in memory it goes when ``sweep`` comes by. All of this follows
from the changelog, so a restart leads to the same contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct

from router.core.packed import ID_BYTES, PackedIds
from router.kafka.table import Change

OPEN, KIND, KEPT, DROP, _SEGMENT = b"r", b"k", b"i", b"d", b"s"

BUCKET_S = 60
_VALUE = Struct("<II")
_SLOT = Struct(f"<{ID_BYTES}sII")


def kept_value(kind: int, expires_s: int) -> bytes:
    """The value of an ``i`` key. ``expires_s``: seconds since 1970, not 0."""
    return _VALUE.pack(kind, expires_s)


def read_kept(value: bytes) -> tuple[int, int]:
    """``(kind, expires_s)``."""
    kind, expires_s = _VALUE.unpack(value)
    return kind, expires_s


class SettleRows:
    """See the module's text; the protocol is ``kafka.table.Rows``. ``kept``: ids remembered, ``max_ids`` at most."""

    def __init__(self, max_ids: int) -> None:
        self.ids = PackedIds()
        self.floor_s = 0
        self._max_ids = max_ids
        self._rows: dict[bytes, bytes] = {}
        self._segments: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self.kept = 0

    def get(self, key: bytes) -> bytes | None:
        if key[:1] == KEPT:
            found = self.ids.get(key[1:])
            return None if found is None or found[1] <= self.floor_s else _VALUE.pack(*found)
        return self._rows.get(key)

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """Open requests and kinds; settled ids are only ever looked up."""
        return self._rows.items()

    def changelog(self, changes: Mapping[bytes, bytes | None]) -> Iterable[Change]:
        segments: dict[int, bytearray] = {}
        for key, value in changes.items():
            kind = key[:1]
            if kind == KEPT:
                assert value is not None, "ids are forgotten by bucket"
                segments.setdefault(read_kept(value)[1] // BUCKET_S, bytearray()).extend(key[1:] + value)
            elif kind == DROP:
                bucket = int.from_bytes(key[1:])
                for number in range(self._segments.get(bucket, 0)):
                    yield _segment_key(bucket, number), None
            elif value is not None or key in self._rows:  # a row that came and went within the turn leaves no trace
                yield key, value
        for bucket, slots in segments.items():
            yield _segment_key(bucket, self._segments.get(bucket, 0)), bytes(slots)

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in list(self.changelog(changes)):
            self.absorb(key, value)

    def absorb(self, key: bytes, value: bytes | None) -> None:
        if key[:1] != _SEGMENT:
            if value is None:
                self._rows.pop(key, None)
            else:
                self._rows[key] = value
            return
        bucket = int.from_bytes(key[1:5])
        if value is None:
            self.floor_s = max(self.floor_s, (bucket + 1) * BUCKET_S - 1)
            self._segments.pop(bucket, None)
            self.kept -= self._counts.pop(bucket, 0)
            return
        self._segments[bucket] = max(self._segments.get(bucket, 0), int.from_bytes(key[5:]) + 1)
        self._count(bucket, len(value) // _SLOT.size)
        put, floor_s = self.ids.put, self.floor_s
        for id16, kind, expires_s in _SLOT.iter_unpack(value):
            before = put(id16, kind, expires_s)
            if before is not None and before[1] > floor_s:
                self._count(before[1] // BUCKET_S, -1)

    def droppable(self, now_s: int) -> int | None:
        """The oldest bucket if it is to be forgotten: expired at ``now_s``, or there are too many ids. The newest stays."""
        if not self._segments:
            return None
        oldest = min(self._segments)
        if (oldest + 1) * BUCKET_S <= now_s or (self.kept > self._max_ids and len(self._segments) > 1):
            return oldest
        return None

    def sweep(self, now_s: int) -> int:
        """Free the memory of what has expired or was forgotten, in a 1,024th of the ids; how many."""
        return self.ids.sweep(max(now_s, self.floor_s))

    def _count(self, bucket: int, more: int) -> None:
        self._counts[bucket] = self._counts.get(bucket, 0) + more
        self.kept += more


def _segment_key(bucket: int, number: int) -> bytes:
    return _SEGMENT + bucket.to_bytes(4) + number.to_bytes(4)
