"""Tells Faust who may write when: each partition of a stage has its own transactional producer.

Order on assignment (Faust calls in this order, we only fill in the first): start writers -> changelog end offsets ->
replay -> seek to committed offsets -> flow. Never read offsets or state before the writer has started: starting it
(InitProducerId) ends what an earlier owner left open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from faust.transport.consumer import TransactionManager
from faust.types import TP

from router.kafka.transport import BatchTransport
from router.kafka.writer import Writer


class Transactions(TransactionManager):  # type: ignore[misc] # Faust's types are loose
    """Faust's place for transactions: called on every rebalance before tables recover and offsets are read."""

    writer_type: ClassVar[type[Writer]] = Writer
    writers: dict[int, Writer]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.writers = {}

    async def on_rebalance(self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP]) -> None:  # noqa: ARG002 - Faust's signature
        """Own exactly the writers of the assigned partitions, each started anew.

        Also of partitions that stay here: a commit returns while Kafka still writes its markers, and until they are
        written the group's offsets are those before it. Starting a writer waits for them.
        """
        changelogs = self.app.tables.changelog_topics
        await self.on_stop()
        wanted = {tp.partition for tp in assigned if tp.topic not in changelogs}
        fresh = {partition: self._new_writer(partition) for partition in wanted}
        try:
            await asyncio.gather(*(writer.start(self.app.stage.outputs) for writer in fresh.values()))
        except BaseException:
            await asyncio.gather(*(writer.stop() for writer in fresh.values()), return_exceptions=True)
            raise
        self.writers |= fresh

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Nothing is open here: the lanes have ended."""

    async def commit(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        """Offsets went with their turn; a second, later commit from Faust's timer could only move them back."""
        return True

    async def on_stop(self) -> None:
        await asyncio.gather(*(writer.stop() for writer in self.writers.values()))
        self.writers.clear()

    def _new_writer(self, partition: int) -> Writer:
        app = self.app
        return self.writer_type(app.client, app.conf.id, str(partition), partition, app.conf.broker_session_timeout)


class ExactlyOnceTransport(BatchTransport):
    """Faust transport for ``exactly-once://host:port`` broker addresses."""

    TransactionManager: ClassVar[type[Transactions]] = Transactions
