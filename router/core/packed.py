"""Millions of settled ids in little memory: 16-byte id -> small payload and expiry, about 60 bytes an id at worst.

1,024 shards by the id's first bits; a shard is one ``bytearray`` of 24-byte slots (id, payload, expiry) with linear
probing (Knuth, TAOCP 3, 6.4, algorithm L). A shard grows by half when it is 60 % full, so between 40 % and 60 % of all
slots are used: 24 / 0.4 = 60 bytes an id at most, 40 at best. Growing and forgetting rebuild one shard at a time with
numpy, so no pause is long: 2 ms for a shard of 20,000 ids, which is 20 million in all. Nothing is ever deleted in
place; ``sweep`` rebuilds one shard a call without what has expired.

Slots do not wrap around: behind the last home slot lies a tail. The ids of a rebuilt shard are placed in the order of
their home slots, each into the first free slot from its own home on: ``slot_i = max(home_i, slot_(i-1) + 1)``, which is
a running maximum of ``home_i - i``.

Ids are hashes already (xxh3_128) and are used as they are. Whoever could choose them could make a shard slow, not wrong:
one without room near its end just grows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct

import numpy as np

SHARDS = 1024
ID_BYTES = 16
SLOT_BYTES = 24
_FULL, _GROWTH, _SHRUNK = 0.6, 1.5, 0.5
_FIRST_HOMES, _TAIL = 8, 16

_FIELDS = Struct("<II")
_SLOT = np.dtype([("high", "<u8"), ("low", "<u8"), ("payload", "<u4"), ("expires_s", "<u4")])
assert _SLOT.itemsize == SLOT_BYTES


class _Shard:
    """``homes`` slots that ids hash to, then a tail; a slot with ``expires_s`` 0 is free."""

    __slots__ = ("homes", "slots", "used")

    def __init__(self) -> None:
        self.homes = _FIRST_HOMES
        self.used = 0
        self.slots = bytearray((_FIRST_HOMES + _TAIL) * SLOT_BYTES)


class PackedIds:
    """A mapping id -> (payload, expires_s). ``payload`` and ``expires_s`` (seconds since 1970, not 0) are 32 bits."""

    __slots__ = ("_count", "_next_sweep", "_shards")

    def __init__(self) -> None:
        self._shards: list[_Shard | None] = [None] * SHARDS
        self._count = 0
        self._next_sweep = 0

    def __len__(self) -> int:
        """Ids held, expired ones included until a sweep has passed them."""
        return self._count

    @property
    def bytes_used(self) -> int:
        """Memory of the shards."""
        return sum(sys.getsizeof(shard.slots) + sys.getsizeof(shard) for shard in self._shards if shard is not None)

    def get(self, id16: bytes) -> tuple[int, int] | None:
        """``(payload, expires_s)``, or ``None`` for an unknown id. Takes 0.9 us."""
        shard = self._shards[(id16[0] << 2) | (id16[1] >> 6)]
        if shard is None:
            return None
        slots = shard.slots
        at = (int.from_bytes(id16[8:], "little") % shard.homes) * SLOT_BYTES
        while True:
            payload, expires_s = _FIELDS.unpack_from(slots, at + ID_BYTES)
            if not expires_s:
                return None
            if slots.startswith(id16, at):
                return payload, expires_s
            at += SLOT_BYTES

    def put(self, id16: bytes, payload: int, expires_s: int) -> tuple[int, int] | None:
        """Set an id; what it had before, ``None`` if it was new. Takes 2 us, its part of the rebuilding included."""
        number = (id16[0] << 2) | (id16[1] >> 6)
        shard = self._shards[number]
        if shard is None:
            shard = self._shards[number] = _Shard()
        elif shard.used >= shard.homes * _FULL:
            self._rebuild(shard, int(shard.homes * _GROWTH), 0)
        while True:
            slots = shard.slots
            end = len(slots) - SLOT_BYTES  # the last slot stays free: it ends every search
            at = (int.from_bytes(id16[8:], "little") % shard.homes) * SLOT_BYTES
            while at < end:
                payload_before, expires_before = _FIELDS.unpack_from(slots, at + ID_BYTES)
                if not expires_before:
                    slots[at : at + ID_BYTES] = id16
                    _FIELDS.pack_into(slots, at + ID_BYTES, payload, expires_s)
                    shard.used += 1
                    self._count += 1
                    return None
                if slots.startswith(id16, at):
                    _FIELDS.pack_into(slots, at + ID_BYTES, payload, expires_s)
                    return payload_before, expires_before
                at += SLOT_BYTES
            self._rebuild(shard, int(shard.homes * _GROWTH), 0)

    def sweep(self, now_s: int) -> int:
        """Forget what has expired at ``now_s`` in the next shard; how many ids that were. 1,024 calls pass them all."""
        shard = self._shards[self._next_sweep]
        self._next_sweep = (self._next_sweep + 1) % SHARDS
        if shard is None:
            return 0
        expires_s = np.frombuffer(shard.slots, _SLOT)["expires_s"]
        left = int(np.count_nonzero(expires_s > now_s))
        gone = shard.used - left
        if gone:
            homes = shard.homes
            if left < homes * _FULL / _GROWTH:
                homes = max(_FIRST_HOMES, int(left / _SHRUNK))
            self._rebuild(shard, homes, now_s)
        return gone

    def items(self) -> Iterator[tuple[bytes, int, int]]:
        """``(id, payload, expires_s)`` of all, in no particular order. Not while something changes."""
        for shard in self._shards:
            if shard is not None:
                for at in range(0, len(shard.slots), SLOT_BYTES):
                    payload, expires_s = _FIELDS.unpack_from(shard.slots, at + ID_BYTES)
                    if expires_s:
                        yield bytes(shard.slots[at : at + ID_BYTES]), payload, expires_s

    def _rebuild(self, shard: _Shard, homes: int, now_s: int) -> None:
        """Move what expires after ``now_s`` into a table with ``homes`` slots, or more if its tail would overflow."""
        table = np.frombuffer(shard.slots, _SLOT)
        kept = table[table["expires_s"] > now_s]
        while True:
            home = (kept["low"] % np.uint64(homes)).astype(np.int64)
            order = np.argsort(home, kind="stable")
            step = np.arange(len(kept))
            slot = np.maximum.accumulate(home[order] - step) + step if len(kept) else step
            if not len(kept) or slot[-1] < homes + _TAIL - 1:
                break
            homes = int(homes * _GROWTH)
        slots = bytearray((homes + _TAIL) * SLOT_BYTES)
        np.frombuffer(slots, _SLOT)[slot] = kept[order]
        self._count -= shard.used - len(kept)
        shard.slots, shard.homes, shard.used = slots, homes, len(kept)
