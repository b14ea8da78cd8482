"""One stage on Kafka: a Faust app whose lanes live from the end of recovery until their partitions are revoked.

Faust keeps the group, the rebalances, the recovery of tables and the life of the process's tasks. Ours are batches
(``transport.py``), transactions (``transaction.py``), lanes (``lane.py``) and rows (``table.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faust
from faust.stores import STORES
from faust.transport.drivers import TRANSPORTS
from faust.types import TP, StreamT

from router.contract.errors import ConfigError
from router.kafka.admin import COMPACTED, MIB, TopicSpec, create_topics, partitions_of
from router.kafka.asker import EASY_S, PUNCTUAL_S, Asker, asker_of
from router.kafka.client import Client, Security
from router.kafka.horizon import Ends, Where
from router.kafka.lane import Lane, Tally
from router.kafka.marks import Marks
from router.kafka.stage import Stage
from router.kafka.transport import SETTINGS, Batch, BatchApp, BatchSchema

#: A stage is quiet when it has had no records for this long.
QUIET_AFTER_S = 1.0

#: A row may hold what a request brought with it, which grows when it is written anew.
MAX_ROW_BYTES = 4 * MIB

#: How often the group is asked to deal out anew when a table's changelog is missing from the assignment.
MAX_ASKED_AGAIN = 5


class StageApp(BatchApp):
    """See the module's text. Made by ``new_stage_app``."""

    #: Faust says no, without a word, unless a ``faust.Worker`` was started with this very app as its first.
    in_transaction = True

    def __init__(self, *args: Any, stage: Stage, client: Client, clock: Callable[[], int], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.stage = stage
        self.gather_s = stage.gather_s
        self.client = client
        self.clock = clock
        self.lanes: dict[int, Lane] = {}
        self.tally = Tally()
        self.failed = asyncio.Event()
        self.marks: Marks | None = None
        self.table: faust.Table | None = None
        self.has_changelog = False
        self._asker: Asker | None = None
        self._assigned = False
        self._asked_again = 0
        self.on_partitions_assigned.connect(self._on_assigned)

    def readable(self, tp: TP) -> bool:
        gate, holds = self.stage.readable, self.stage.holds
        if gate is not None and not gate(tp):
            return False
        lane = self.lanes.get(tp.partition) if holds is not None else None
        return lane is None or holds is None or not holds(tp.topic, lane.standing(self._ends()))

    async def on_start(self) -> None:
        """Resources first: a stage that decides needs to know before its first batch."""
        await super().on_start()
        await create_changelogs([self])
        for resource in self.stage.resources:
            await resource.start()
        self._asker = asker_of(self.client, self.clock)
        self._asker.join(self)

    async def on_stop(self) -> None:
        await super().on_stop()
        if self._asker is not None:
            await self._asker.leave(self)
        for resource in reversed(self.stage.resources):
            await resource.stop()

    def on_rebalance_start(self) -> None:
        self._assigned = False
        super().on_rebalance_start()

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Faust sends this signal right after it has asked for the recovery that belongs to an assignment."""
        self._assigned = True

    def on_rebalance_end(self) -> None:
        """Faust calls this when tables are back and sources stand at their committed offsets.

        It also calls it when a recovery ends that the next rebalance has overtaken. Lanes would then be made of what is
        being taken away, and sources read that nobody handles: Faust would go on behind them, for good.
        """
        if not self._assigned or self.tables.recovery.signal_recovery_start.is_set():
            return
        if grown := [number for number in self.consumer.transactions.writers if number >= self.conf.topic_partitions]:
            raise ConfigError(f"a source has partition {max(grown)}, of {self.conf.topic_partitions}: fixed for good")
        if missing := self._missing_changelogs():
            self._ask_again(missing)
            return
        self._asked_again = 0
        super().on_rebalance_end()
        for partition, writer in self.consumer.transactions.writers.items():
            if partition not in self.lanes:
                self.lanes[partition] = Lane(
                    self.stage,
                    writer,
                    clock=self.clock,
                    crash=self.crash,
                    store=self.table.data if self.table is not None else None,
                    changelog=self.table.changelog_topic_name if self.table is not None else None,
                    mark=self.marks.of(partition) if self.marks is not None else None,
                    ends=self._newest_ends,
                    pause_s=writer.pause_s,
                    tally=self.tally,
                )

    def _missing_changelogs(self) -> set[TP]:
        """A lane whose table was not read again would take every request for new."""
        if self.table is None:
            return set()
        wanted = {TP(self.table.changelog_topic_name, number) for number in self.consumer.transactions.writers}
        return wanted.difference(self.tables.recovery.active_tps)

    def _ask_again(self, missing: set[TP]) -> None:
        """Kafka gives a static member what it had before, even when its stage has had no table then."""
        names = ", ".join(f"{tp.topic}/{tp.partition}" for tp in sorted(missing))
        self._asked_again += 1
        if self._asked_again > MAX_ASKED_AGAIN:
            raise RuntimeError(f"assigned without {names}, {self._asked_again} times")
        self.log.warning("assigned without %s: the group is asked to deal out anew", names)
        self.consumer.rejoin()

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Faust waits here, before it gives partitions up or stops, until every batch is acknowledged."""
        await asyncio.gather(*(lane.close() for lane in self.lanes.values()))
        self.lanes.clear()
        await super()._consumer_wait_empty(consumer, logger)

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self.loop.call_soon_threadsafe(self.failed.set)

    def busy_s(self, given: AbstractSet[int]) -> float:
        """Until the first lane is free."""
        return min((lane.busy_s(given=number in given) for number, lane in list(self.lanes.items())), default=0.0)

    def source_partitions(self) -> list[TP]:
        """What ``asker.py`` asks for."""
        return [TP(source, number) for source in self.stage.sources for number in self.lanes]

    def patience_s(self) -> float:
        """How old the ends of the sources may become: longer when no lane has had anything to do for a while."""
        now_s = time.monotonic()
        busy, quiet = PUNCTUAL_S if self.stage.punctual else EASY_S
        return quiet if all(now_s - lane.progress_s > QUIET_AFTER_S for lane in self.lanes.values()) else busy

    def _ends(self) -> Mapping[Where, int]:
        newest = self._newest_ends()
        return newest.offsets if newest is not None else {}

    def _newest_ends(self) -> Ends | None:
        return self._asker.newest if self._asker is not None else None

    def liveness(self) -> dict[str, Any]:
        """How the stage stands, for JSON. ``lag``: records and markers to the end; ``None`` where not known yet."""
        now_s, ends = time.monotonic(), self._ends()
        return {
            "stage": self.stage.name,
            "state": self.state,
            "ready": bool(self.lanes) and (self.stage.ready is None or self.stage.ready()),
            "rebalancing": self.rebalancing,
            "done": asdict(self.tally),
            "partitions": {
                f"{source}/{number}": _stand(lane, (source, number), ends, now_s)
                for number, lane in sorted(self.lanes.items())
                for source in self.stage.sources
            },
        }


def _stand(lane: Lane, source: Where, ends: Mapping[Where, int], now_s: float) -> dict[str, Any]:
    return {
        "position": lane.horizon.positions.get(source),
        "end": ends.get(source),
        "lag": lane.lag(source, ends),
        "progress_age_s": round(now_s - lane.progress_s, 3),
        "commit_age_s": round(now_s - lane.committed_s, 3),
        "read_to_ms": lane.horizon.read_to_ms,
        "waiting": lane.waiting,
    }


async def create_changelogs(apps: Sequence[StageApp]) -> None:
    """Those that are missing, all at once. Faust makes them, too, but may then deal out assignments without them.

    Raises:
        ConfigError: one that exists has another number of partitions.
    """
    specs = {
        app.table.changelog_topic_name: TopicSpec(
            partitions=app.conf.topic_partitions,
            cleanup="compact",
            max_bytes=MAX_ROW_BYTES,
            replication=app.conf.topic_replication_factor,
        )
        for app in apps
        if app.table is not None and not app.has_changelog
    }
    if not specs:
        return
    client = apps[0].client
    while not all((counts := await partitions_of(client, specs)).values()):
        await create_topics(client, {name: specs[name] for name, count in counts.items() if not count})
        await asyncio.sleep(0.02)  # metadata follows later
    for name, spec in specs.items():
        if counts[name] != spec.partitions:
            raise ConfigError(f"topic {name} has {counts[name]} partitions, not {spec.partitions}: fixed for good")
    for app in apps:
        app.has_changelog = True


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def new_stage_app(
    stage: Stage,
    client: Client,
    *,
    partitions: int,
    data_dir: Path | str,
    replication: int = 1,
    session_timeout_s: float = 6.0,
    instance_id: str | None = None,
    clock: Callable[[], int] = wall_clock_ms,
) -> StageApp:
    """The app that runs ``stage``; the topics must exist. Make it inside the event loop it shall run in.

    Args:
        stage: what to run.
        client: where the broker is.
        partitions: of the sources and of the table's changelog, which is created.
        replication: copies of the table's changelog, in a cluster of several brokers.
        data_dir: of this machine: marks of records that killed the process lie there.
        session_timeout_s: how long a silent process keeps its partitions.
        instance_id: static membership: a restart takes its partitions back at once. Only under a supervisor that
            restarts at once; unique in the group.
        clock: milliseconds, what ticks and units see.
    """
    TRANSPORTS.aliases["exactly-once"] = "router.kafka.transaction:ExactlyOnceTransport"
    STORES.aliases["partitions"] = "router.kafka.table:PartitionStore"
    folder = Path(data_dir) / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    app = StageApp(
        stage.name,
        stage=stage,
        client=client,
        clock=clock,
        **SETTINGS,
        broker=[f"exactly-once://{address}" for address in client.bootstrap.split(",")],
        broker_credentials=_credentials(client.security),
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=session_timeout_s / 3,
        consumer_group_instance_id=instance_id,
        datadir=folder,
        store="partitions://",
        Schema=BatchSchema,
        processing_guarantee="exactly_once",
        topic_partitions=partitions,
        topic_replication_factor=replication,
    )
    app.marks = Marks(folder / "marks", partitions)
    if stage.rows is not None:
        # A buffer of 1 would mean to Faust: follow your own changelog after recovery.
        settings = COMPACTED | {"max.message.bytes": str(MAX_ROW_BYTES)}
        app.table = app.Table("rows", partitions=partitions, recovery_buffer_size=2, extra_topic_configs=settings)
    _take_batches(app)
    return app


def _take_batches(app: StageApp) -> None:
    @app.agent(app.topic(*app.stage.sources), name=app.stage.name)  # type: ignore[untyped-decorator]
    async def run(stream: StreamT[Batch]) -> None:
        async for event in stream.noack().events():
            lane = app.lanes.get(event.value.tp.partition)
            if lane is None:
                event.ack()  # taken from the queue while its partition was revoked: its next owner reads it again
            else:
                await lane.put(event)


def _credentials(security: Security | None) -> Any:
    """Faust's words for the same."""
    if security is None or security.protocol == "PLAINTEXT":
        return None
    if security.protocol == "SSL":
        return faust.SSLCredentials(security.ssl_context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.password,
        mechanism=security.sasl_mechanism,
        ssl_context=security.ssl_context,
    )
