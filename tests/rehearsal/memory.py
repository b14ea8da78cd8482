"""The stage on the in-memory log: what ``listener.Log`` asks for, without Kafka."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from router.rehearsal.installation import PARTITIONS, Installation
from router.rehearsal.listener import Hear, heard
from router.testing import MemoryLog

#: The stage waits so long for its own order before it believes that it was released.
_LATER_MS: Final = 10_000


class InMemory:
    """Everything that is written is handled at once."""

    def __init__(self, installation: Installation) -> None:
        self.log = MemoryLog(installation.stage, partitions=PARTITIONS)
        self._topics = (*heard(installation.context.names), installation.changelog)
        self._read = dict.fromkeys(self._topics, 0)

    def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            self.log.produce(topic, key, value)

    def read(self, hear: Hear, until: Callable[[], bool]) -> None:
        for wait_ms in (0, _LATER_MS):
            self.log.clock.advance(wait_ms)
            self.log.run()
            for topic in self._topics:
                found = self.log.partition((topic, 0))[self._read[topic] :]
                self._read[topic] += len(found)
                for record in found:
                    hear(topic, record.key, record.value)
            if until():
                return
        raise AssertionError("the stage has handled everything, and what was waited for did not come")
