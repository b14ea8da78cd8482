"""Batch is admitted, not merely second: its requests stay unread while enough of them are in work.

In work = open batch requests as settle last said, partition by partition, plus what this process dispatched there since.
Settle says so at most ten times a second (``llm.load``), and stays silent where nothing is open; what was dispatched more
than ``TRUST_S`` ago and before settle last spoke is then settled too. The gate also closes when settle falls behind.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.core.records import Load
from router.kafka.follow import Follower
from router.stages.context import Context

#: Settle reads on while it handles; only a lag beyond this says that it has too much to do.
LAG_MS = 500
#: A word of settle older than this says nothing of now: it repeats itself every second while anything is open.
CURRENT_MS = 1_500
TRUST_MS = 2_000


class Admission(Follower):
    """A resource of the batch route. ``open()`` is asked before each fetch."""

    def __init__(self, context: Context) -> None:
        self._max_inflight = context.config.route.max_inflight
        self._clock = context.clock
        self._loads: dict[int, Load] = {}
        self._dispatched: defaultdict[int, deque[list[int]]] = defaultdict(deque)
        super().__init__(context.client, (context.names.of("load"),), self._take, confirms=False)

    def note(self, partition: int, now_ms: int) -> None:
        """A request whose id belongs to ``partition`` was dispatched."""
        noted = self._dispatched[partition]
        if noted and noted[-1][0] == now_ms:
            noted[-1][1] += 1
        else:
            noted.append([now_ms, 1])

    def in_work(self) -> int:
        """Batch requests that have no result yet, as far as this process knows."""
        now_ms = self._clock()
        total = sum(load.open.get("batch", 0) for load in self._loads.values())
        for partition, noted in self._dispatched.items():
            load = self._loads.get(partition)
            while noted and load is not None and _is_known(noted[0][0], load, now_ms):
                noted.popleft()
            total += sum(count for _, count in noted)
        return total

    def open(self) -> bool:
        """Whether batch requests may be read."""
        lagging = any(load.open.get("batch", 0) for load in self._lagging())
        return not lagging and self.in_work() < self._max_inflight

    def calm(self) -> bool:
        """Whether there is time for what nobody waits for: batch requests may be read, and settle has no backlog of any kind."""
        return not any(self._lagging()) and self.open()

    def _lagging(self) -> Iterator[Load]:
        """Partitions of settle that have fallen behind, as they say now."""
        now_ms = self._clock()
        for load in self._loads.values():
            if now_ms - load.at_ms < CURRENT_MS and load.at_ms - load.read_to_ms > LAG_MS:
                yield load

    def _take(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            load = decode(Load, record.value)
        except BadRecord:
            return
        if load.stage == "settle":
            self._loads[load.partition] = load


def _is_known(at_ms: int, load: Load, now_ms: int) -> bool:
    return at_ms <= load.read_to_ms or (at_ms <= load.at_ms and now_ms - at_ms > TRUST_MS)
