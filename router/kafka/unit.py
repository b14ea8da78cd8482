"""What a handler sees: state, outputs and time of one turn. Nothing it does is visible before the turn commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

import xxhash

from router.kafka.client import MAX_REQUEST_BYTES
from router.kafka.table import Rows
from router.kafka.writer import NO_HEADERS, Headers, Record, Where

#: Nothing larger is ever accepted by a broker: better to fail in the handler, where the record is known, than later.
MAX_VALUE_BYTES = MAX_REQUEST_BYTES - 256 * 1024


class UnitLike(Protocol):
    """What handlers and ticks may use; ``Unit`` on Kafka and in ``router.testing``, anything else in a unit test.

    ``now_ms``: the lane's clock; never runs backwards. ``read_to_ms``: every record that the lane's sources held then,
    open transactions included, has been handled in this turn or an earlier one; 0 while that is not known. Where the
    broker stamps records (``append_time``) and its clock is ours, "held then" is "stamped ``read_to_ms`` or earlier".
    """

    index: Any
    partition: int
    now_ms: int
    read_to_ms: int

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes | None) -> None: ...
    def emit(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None: ...
    def by_key(self, topic: str, key: bytes) -> int: ...


class Committer(Protocol):
    """What a unit needs of a writer. ``partitions``: of each topic that the stage may write."""

    partition: int
    partitions: dict[str, int]

    async def commit(
        self, outputs: Mapping[Where, Sequence[Record]], offsets: Mapping[Where, int]
    ) -> Mapping[Where, int]: ...


class Unit:
    """What one turn does to the world, held back until it commits.

    ``partition`` is the lane's number. ``index`` is what ``Stage.index`` made of the table when the lane opened; it may
    be changed in place: a turn that fails ends the process.
    """

    __slots__ = (
        "_changelog", "_outputs", "_rows", "_writer", "changes", "emitted_bytes", "index", "now_ms", "partition", "read_to_ms",
    )  # fmt: skip

    def __init__(self, writer: Committer, rows: Rows | None, changelog: str | None, index: Any = None) -> None:
        self.index = index
        self.partition = writer.partition
        self.now_ms = 0
        self.read_to_ms = 0
        self.emitted_bytes = 0
        self.changes: dict[bytes, bytes | None] = {}
        self._writer = writer
        self._rows = rows
        self._changelog = changelog
        self._outputs: dict[Where, list[Record]] = defaultdict(list)

    def __bool__(self) -> bool:
        """Whether there is anything to commit, offsets aside."""
        return bool(self._outputs or self.changes)

    def get(self, key: bytes) -> bytes | None:
        """State as this turn sees it: its own changes first, then what is committed."""
        if key in self.changes:
            return self.changes[key]
        return None if self._rows is None else self._rows.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Set a key, or delete it with ``None``. However often a turn changes a key, the changelog gets one record."""
        if self._rows is None:
            raise TypeError("this stage keeps no table: give it `rows=DictRows`")
        self.changes[key] = value

    def emit(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Send a record when the turn commits, by default to the partition number of the lane.

        That keeps the order of a key and touches one partition of a topic instead of all: each touched partition costs
        a transaction an append and a marker. To regroup by another key: ``partition=unit.by_key(topic, key)``.

        Raises:
            KeyError: the stage did not name the topic among its outputs.
            ValueError: no broker would take a record that large.
        """
        if partition is None:
            partition = self.partition % self._writer.partitions[topic]
        elif topic not in self._writer.partitions:
            raise KeyError(topic)
        size = len(value or b"") + len(key or b"") + sum(len(content or b"") for _, content in headers)
        if size > MAX_VALUE_BYTES:
            raise ValueError(f"a record of {size} bytes for {topic}; at most {MAX_VALUE_BYTES} can be sent")
        self.emitted_bytes += size
        self._outputs[topic, partition].append((key, value, headers))

    @property
    def touched(self) -> int:
        """How many partitions it writes to; that of the changelog counts once it is committed."""
        return len(self._outputs)

    def by_key(self, topic: str, key: bytes) -> int:
        """Partition for a key, by xxh3: 0.05 us. Foreign producers use murmur2, which takes 3.5 us in Python."""
        return xxhash.xxh3_64_intdigest(key) % self._writer.partitions[topic]

    def emits(self, topics: AbstractSet[str]) -> bool:
        """Whether there is a record for one of these topics."""
        return any(topic in topics for topic, _ in self._outputs)

    async def commit(self, offsets: Mapping[Where, int]) -> int | None:
        """Returns the changelog offset of the last change, ``None`` without changes."""
        if self._changelog is not None and self._rows is not None and self.changes:
            records: list[Record] = [(key, value, NO_HEADERS) for key, value in self._rows.changelog(self.changes)]
            if records:
                self._outputs[self._changelog, self.partition] = records
        ends = await self._writer.commit(self._outputs, offsets)
        return ends.get((self._changelog, self.partition)) if self._changelog else None
