"""Keeps the view fresh and the snapshot file written, whatever the broker does.

Two loops of one second, slower while nothing moves. ``_watch`` reads topics and groups; when the broker is away it waits
and starts over, and the figures grow old. ``_publish`` builds the status document and writes ``<data_dir>/status.json``,
whole or not at all, when it says something new, else every ``REWRITE_S``: so that ``status`` knows that somebody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from router import __version__
from router.config import Config
from router.contract.codec import decode
from router.contract.errors import BadRecord, Unavailable
from router.contract.records import Alert, Control, DeadLetter, Health, MetricWindow, Weights
from router.contract.topics import Names
from router.core.records import Load, Sight, TenantState
from router.kafka.client import Client
from router.web.ages import STALE_S, without_ages
from router.web.groups import Groups
from router.web.lanes import READER
from router.web.registry import running, write_whole
from router.web.status import build_status
from router.web.tail import Tail
from router.web.view import Setup, View

log = logging.getLogger(__name__)

EVERY_S = 1.0
#: The same while nothing moves and nobody is behind.
IDLE_EVERY_S = 2.5
#: Turns in a row that then ask for nothing but the ends: as long as those stay, nobody's offset can move either, unless
#: somebody sets it by hand.
GLANCES = 3
REWRITE_S = STALE_S / 3
FILE = "status.json"

WHOLE: dict[str, type] = {
    "weights": Weights,
    "health": Health,
    "control": Control,
    "load": Load,
    "alerts": Alert,
    "guard.sight": Sight,
    "tenants": TenantState,
}
RECENT: dict[str, type] = {"metrics": MetricWindow, "dead-letter": DeadLetter}


class Observer:
    """Follows one installation. ``clock``: milliseconds since 1970."""

    name = "observer"

    def __init__(self, config: Config, names: Names, client: Client, data_dir: Path, clock: Callable[[], int]) -> None:
        self.view = View(setup=setup_of(config, names, client))
        self._clock = clock
        self._client = client
        self._file = data_dir / FILE
        self._data_dir = data_dir
        self._types = {names.of(name): kind for name, kind in (WHOLE | RECENT).items()}
        works = [names.work(model, lane) for model in config.models for lane in ("interactive", "batch")]
        self._sources = frozenset([*map(names.of, READER), *works])
        self._whole = [names.of(name) for name in WHOLE]
        self._recent = [names.of(name) for name in RECENT]
        self._prefix = names.prefix
        self._written: Any = None
        self._written_ms = 0
        self._turns = 0
        self._every_s = EVERY_S
        self._glances = 0
        self._ends: Mapping[TopicPartition, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to look; needs no broker."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._publish())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def status(self) -> dict[str, Any]:
        """The document of now."""
        return build_status(
            self.view,
            self._clock(),
            version=__version__,
            processes=[
                {"name": one.name, "pid": one.pid, "address": f"http://{one.host}:{one.port}"}
                | {"uptime_s": (self._clock() - one.started_at_ms) / 1000}
                for one in running(self._data_dir)
            ],
        )

    def liveness(self) -> dict[str, Any]:
        """Never behind: a broker that is away makes figures old, not this process sick. A loop that has ended does."""
        ended = any(task.done() for task in self._tasks)
        return {"lag": int(ended), "progress": self._turns, "ready": bool(self.view.confirmed_ms), "turns": self._turns}

    async def _watch(self) -> None:
        told = False
        while True:
            try:
                await self._watch_one_connection()
            except (KafkaError, Unavailable, TimeoutError, OSError) as error:
                if not told:
                    log.warning("no figures: %r", error)
                told = True
            else:
                told = False
            await asyncio.sleep(EVERY_S)

    async def _watch_one_connection(self) -> None:
        """Read everything into a new view, show it once it is whole, keep it up to date until something fails."""
        tail = Tail(self._client, whole=self._whole, recent=self._recent, others=sorted(self._sources))
        groups = Groups(self._client, self._prefix, self._sources)
        view = View(setup=self.view.setup, tracks=self.view.tracks)
        self._glances = 0
        try:
            if not await tail.open(self._clock()):
                return
            while True:
                began_s = time.monotonic()
                moved = await self._turn(view, tail, groups)
                self.view = view
                self._turns += 1
                self._every_s = EVERY_S if moved else IDLE_EVERY_S
                await asyncio.sleep(max(EVERY_S / 2, began_s + self._every_s - time.monotonic()))
        finally:
            self._every_s = EVERY_S
            await groups.close()
            await tail.close()

    async def _turn(self, view: View, tail: Tail, groups: Groups) -> bool:
        """Whether any topic has grown since the last turn, or somebody is behind.

        One question for all ends: on a consumer's connection it waits behind the fetch that is under way. Where a glance
        finds that they have moved they are asked for once more, after what is committed.
        """
        asked_ms = self._clock()
        if self._glances:
            self._glances -= 1
            if await tail.ends() == self._ends:
                view.confirmed_ms["topics"] = view.confirmed_ms["groups"] = asked_ms
                return False
        marks = await groups.committed(tail)
        ends = await tail.ends()
        await tail.read_to(ends, partial(self._apply, view))
        view.confirmed_ms["topics"] = asked_ms
        await groups.note(view.tracks, marks, ends, asked_ms)
        view.confirmed_ms["groups"] = asked_ms
        moved = ends != self._ends or any(track.lag for track in view.tracks.values())
        self._ends, self._glances = ends, 0 if moved else GLANCES
        return moved

    def _apply(self, view: View, record: ConsumerRecord) -> None:
        if record.value is None:
            return
        try:
            view.fold(decode(self._types[record.topic], record.value), record.timestamp)
        except (BadRecord, ValueError) as error:
            view.unreadable += 1
            log.warning("%s %d %d: %s", record.topic, record.partition, record.offset, error)

    async def _publish(self) -> None:
        while True:
            self.view.forget(self._clock())
            document = self.status()
            news = without_ages(document)
            if news != self._written or document["at_ms"] - self._written_ms >= REWRITE_S * 1000:
                await asyncio.to_thread(self._write, document)
                self._written, self._written_ms = news, document["at_ms"]
            await asyncio.sleep(self._every_s)

    def _write(self, document: dict[str, Any]) -> None:
        try:
            write_whole(self._file, orjson.dumps(document))
        except OSError as error:  # a full disk must not end the one who could tell
            log.warning("%s: %s", self._file, error)


def setup_of(config: Config, names: Names, client: Client) -> Setup:
    """What the view needs of the configuration."""
    return Setup(
        prefix=names.prefix,
        broker=client.bootstrap,
        models=tuple(config.models),
        pools={name: tuple(pool.models) for name, pool in config.pools.items()},
        baselines={name: pool.baseline for name, pool in config.pools.items()},
        call_s=max((model.timeout_s for model in config.models.values()), default=60.0),
        dedupe_window_s=config.settle.dedupe_window_s,
        dedupe_max_ids=config.settle.dedupe_max_ids,
    )
