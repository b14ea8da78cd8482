"""A stage's handlers without Kafka: what takes their records, and the CPU time of work that they do at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Of each part, before the best is taken.
TIMES = 5


class NoWriter:
    """What a unit needs to know of topics, each of ``partitions``; it takes what a turn commits and writes nothing."""

    partition = 0

    def __init__(self, topics: frozenset[str], partitions: int) -> None:
        self.partitions = dict.fromkeys(topics, partitions) | {"changelog": partitions}

    async def commit(self, outputs: Any, offsets: Any) -> dict[Any, int]:
        del outputs, offsets
        return {}


def cpu_us(work: Callable[[], Any], *, of: int = 1, before: Callable[[], Any] = lambda: None) -> float:
    """Best CPU time in microseconds of ``work`` by each of the ``of`` things that it does; ``before`` it is not counted."""
    best_s = float("inf")
    for _ in range(TIMES):
        before()
        began_s = time.process_time()
        work()
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / of * 1e6
