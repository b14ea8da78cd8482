"""A stage as a value: what it reads, what it writes, and the functions that turn the one into the other.

The same value runs on Kafka (``stage_app.py``) and on the in-memory log (``router.testing``).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import ConsumerRecord
from faust.types import TP

from router.kafka.table import Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike

#: Threads that prepare, for all lanes of the process. More than there are cores to spare only fight for the GIL.
PREPARERS = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "prepare")

Handler = Callable[[Batch, Any], None]


class Resource(Protocol):
    """Something that lives as long as a stage's process: a follower, a reader of bodies. ``topics``: which it reads."""

    @property
    def topics(self) -> tuple[str, ...]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """How a lane stands. By source: records ``taken`` from the topic and not handled yet, and those and the unread: ``lag``."""

    index: Any
    taken: Mapping[str, int]
    lag: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a stage does. All but ``name``, ``sources`` and ``handle`` is optional; all but ``prefetch`` is free of I/O.

    Handlers may change their index in place and nothing else: whatever fails in a turn ends the process, and the next
    one starts from what was committed.

    Args:
        name: consumer group, Faust app id and prefix of producer names: unique in the cluster (``Names.group``).
        sources: full topic names, all with equally many partitions.
        outputs: full names of all topics that are written, besides the table's changelog.
        handle: called with each batch (or a piece of one, never an empty one), in order within a partition.
        tick: called with the clock's milliseconds at least every 100 ms in every partition, records or not; ``True``
            says that more is due already, and it is called again as soon as a turn allows.
        prefetch: awaited before ``prepare``; one item a record, e.g. the body it points to; ``batch.fetched``.
        prepare: run in a thread, for a small batch on the loop; one item a record, e.g. its tokens; ``batch.prepared``. Pays where calls release the
            GIL for long and a core is free. Both run while earlier turns compute and commit, so they must not look at
            state.
        ready: while ``False`` no batch is handled; ticks go on, what waits still waits.
        readable: asked before every fetch; ``False`` pauses that topic-partition without holding up the others; what a
            running fetch brings, and what already waits, still comes.
        holds: asked like ``readable``, of a topic in a lane: ``True`` leaves it unread while others have records that matter
            more to what the lane keeps in memory.
        index: builds from the table's rows what ``unit.index`` shall be, when a lane opens: heaps, open windows.
        rows: makes the container of one partition's table (``DictRows``, or one of the stage's own); ``None``: no table.
        resources: started before the first fetch, stopped after the last.
        linger_s: how long after a commit the next one may wait, so that more shares it. A transaction costs some 2 ms of
            CPU, here and at the broker. 0: every turn commits at once.
        punctual: whether somebody waits for what ticks do by ``read_to_ms``: it then lags the clock by 0.25 s at most.
        gather_s: how long the broker may gather records before it answers a fetch: fewer fetches. 0: not at all.
        urgent: outputs that somebody waits for: a turn that has a record for one of them commits at once.
        culprit: called instead of ``handle`` with the one record that killed the process again and again.
    """

    name: str
    sources: tuple[str, ...]
    handle: Callable[[Batch, Any], None]
    outputs: frozenset[str] = frozenset()
    tick: Callable[[int, Any], bool | None] | None = None
    prefetch: Callable[[Batch], Awaitable[Sequence[Any]]] | None = None
    prepare: Callable[[Batch], Sequence[Any]] | None = None
    ready: Callable[[], bool] | None = None
    readable: Callable[[TP], bool] | None = None
    holds: Callable[[str, Standing], bool] | None = None
    index: Callable[[Any], Any] | None = None
    rows: Callable[[], Rows] | None = None
    resources: tuple[Resource, ...] = field(default=())
    linger_s: float = 0.0
    punctual: bool = False
    gather_s: float = 0.0
    urgent: frozenset[str] = frozenset()
    culprit: Callable[[ConsumerRecord, Any], None] | None = None


__all__ = ["PREPARERS", "Batch", "Handler", "Resource", "Stage", "Standing", "UnitLike"]
