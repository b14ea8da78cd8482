"""Which records a process was handling when it died: kept in a file that outlives any death of the process.

A lane notes the range of offsets before each call of the handler and takes the note back after it. The file is mapped
into memory, so a note costs 0.3 us and no system call; a killed process leaves it behind (a machine that loses power
does not, and need not: then the handler was not the culprit).

Whoever opens the partition next on this machine finds the note. Ranges of consecutive deaths that overlap are narrowed
to what they share; after ``DEATHS`` of them the records in it are handled one by one, and one that dies alone is the
culprit. A commit beyond the range clears it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from router.kafka.transport import Batch

#: Deaths in overlapping ranges after which records are handled one by one.
DEATHS = 3

#: In hand?, topic, first offset, offset after the last; then the suspect range likewise, and how many deaths it has.
NOTE = struct.Struct("<B7xQQQ")
SUSPECT = struct.Struct("<I4xQQQ")
SLOT_BYTES = NOTE.size + SUSPECT.size


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a batch. ``alone``: one record, to be handled by itself; ``culprit``: not by the handler any more."""

    batch: Batch
    alone: bool = False
    culprit: bool = False


class Marks:
    """The file of one stage: a slot a partition. Processes of the same stage on one machine share it."""

    def __init__(self, path: Path, partitions: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, max(os.fstat(file).st_size, partitions * SLOT_BYTES))
            self._map = mmap.mmap(file, 0)
        finally:
            os.close(file)

    def of(self, partition: int) -> Mark:
        """The mark of a lane that opens now."""
        return Mark(self._map, partition * SLOT_BYTES)


class Mark:
    """One lane's note of what it has in hand, and what its predecessors died of."""

    def __init__(self, memory: mmap.mmap, at: int) -> None:
        self._map, self._at = memory, at
        self._topics: dict[str, int] = {}
        self._deaths: int
        in_hand, *in_range = NOTE.unpack_from(memory, at)
        self._deaths, *suspect = SUSPECT.unpack_from(memory, at + NOTE.size)
        self._suspect = (suspect[0], suspect[1], suspect[2])
        if in_hand:
            self._died((in_range[0], in_range[1], in_range[2]))

    @property
    def suspicious(self) -> bool:
        """Whether some range is under suspicion: only then is there anything to ask or to clear."""
        return bool(self._deaths)

    def enter(self, topic: str, first: int, after: int) -> None:
        """The records ``first`` to ``after - 1`` are in hand."""
        NOTE.pack_into(self._map, self._at, 1, self._hash(topic), first, after)

    def leave(self) -> None:
        """Nothing is in hand."""
        self._map[self._at] = 0

    def committed(self, topic: str, offset: int) -> None:
        """What lies before ``offset`` has been handled for good."""
        if self._suspect[0] == self._hash(topic) and offset >= self._suspect[2]:
            self._accuse((0, 0, 0), 0)

    def parts(self, batch: Batch) -> Sequence[Part]:
        """The batch, with the suspects in it each by itself once there were ``DEATHS`` deaths."""
        topic, first, after = self._suspect
        if self._deaths < DEATHS or topic != self._hash(batch.tp.topic):
            return [Part(batch)]
        found: list[Part] = []
        rest: Batch | None = batch
        while rest is not None and rest.records:
            ahead = sum(record.offset < first for record in rest.records)
            if ahead == len(rest.records) or rest.records[0].offset >= after:
                found.append(Part(rest))
                return found
            piece, rest = rest.split(ahead or 1)
            found.append(Part(piece, alone=not ahead, culprit=not ahead and after - first == 1))
        return found or [Part(batch)]

    def _died(self, dead: tuple[int, int, int]) -> None:
        topic, first, after = self._suspect
        if self._deaths and dead[0] == topic and dead[1] < after and first < dead[2]:
            self._accuse((topic, max(first, dead[1]), min(after, dead[2])), self._deaths + 1)
        else:
            self._accuse(dead, 1)
        self.leave()

    def _accuse(self, suspect: tuple[int, int, int], deaths: int) -> None:
        self._suspect, self._deaths = suspect, deaths
        SUSPECT.pack_into(self._map, self._at + NOTE.size, deaths, *suspect)

    def _hash(self, topic: str) -> int:
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = xxhash.xxh3_64_intdigest(topic.encode())
        return found
