"""Where a stage's rows live: bytes to bytes, one container a partition, committed through a changelog topic.

``Rows`` is the container; a stage chooses it (``Stage.rows``). ``PartitionStore`` tells Faust's recovery about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from faust.stores.base import Store
from faust.types import TP, EventT

Change = tuple[bytes, bytes | None]


class Rows(Protocol):
    """One partition's rows. All but ``get`` is called a turn, not a record."""

    def get(self, key: bytes) -> bytes | None:
        """The committed value."""

    def items(self) -> Iterable[tuple[bytes, bytes]]:
        """All rows, for ``Stage.index``."""

    def changelog(self, changes: Mapping[bytes, bytes | None]) -> Iterable[Change]:
        """The records that say what a turn changed (``None``: deleted); ``absorb`` of the same leads to the same."""

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        """The turn has committed."""

    def absorb(self, key: bytes, value: bytes | None) -> None:
        """Recovery: one record of the changelog, oldest first; of a key at least the last one is there."""


class DictRows(dict[bytes, bytes]):
    """The default: a dict, one changelog record a changed key."""

    def changelog(self, changes: Mapping[bytes, bytes | None]) -> Iterable[Change]:
        return changes.items()

    def apply(self, changes: Mapping[bytes, bytes | None]) -> None:
        for key, value in changes.items():
            self.absorb(key, value)

    def absorb(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.pop(key, None)
        else:
            self[key] = value


class PartitionStore(Store):  # type: ignore[misc] # Faust's types are loose
    """Faust's place for a table's contents: a partition that leaves takes one ``pop``.

    Compare it with ``is None``: an empty one is false.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.partitions: defaultdict[int, Rows] = defaultdict(self.app.stage.rows)
        self._applied: dict[int, int] = {}

    @property
    def data(self) -> dict[bytes, bytes]:
        """Faust's view of the table; nobody reads a stage's rows but its lanes."""
        return {}

    def apply(self, partition: int, changes: Mapping[bytes, bytes | None], offset: int | None) -> None:
        """Take over committed changes; ``offset`` is that of the last changelog record among them."""
        self.partitions[partition].apply(changes)
        if offset is not None:
            self._applied[partition] = offset

    def apply_changelog_batch(self, batch: Iterable[EventT], to_key: Any, to_value: Any) -> None:  # noqa: ARG002 - Faust's signature
        """Recovery: each event is a ``Batch`` of the changelog."""
        for event in batch:
            found = event.value
            absorb = self.partitions[found.tp.partition].absorb
            for record in found.records:
                absorb(record.key, record.value)
            self._applied[found.tp.partition] = found.next_offset - 1

    def persisted_offset(self, tp: TP) -> int | None:
        """Where recovery goes on: a partition that stays through a rebalance is not read again."""
        return self._applied.get(tp.partition)

    async def on_rebalance(
        self,
        assigned: set[TP],  # noqa: ARG002 - Faust's signature
        revoked: set[TP],
        newly_assigned: set[TP],  # noqa: ARG002
        generation_id: int = 0,  # noqa: ARG002
    ) -> None:
        changelog = self.table.changelog_topic_name
        for tp in revoked:
            if tp.topic == changelog:
                self.partitions.pop(tp.partition, None)
                self._applied.pop(tp.partition, None)

    def reset_state(self) -> None:
        """Nothing on disk to remove."""

    async def backup_partition(self, tp: TP | int, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        raise NotImplementedError("the changelog is the backup")

    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        raise NotImplementedError("the changelog is the backup")
