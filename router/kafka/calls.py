"""A worker of long calls: many at a time over its partitions, finished in any order, each outcome committed once.

Not a stage: a stage's lane stands still while it waits, and a call may take a minute. Plain aiokafka.

- At most ``concurrency`` calls in hand. A call is in hand until its outcome is *committed*: so a SIGKILL repeats at
  most ``concurrency`` calls. Free slots go to interactive topics first, within a lane to the partitions in turn; calls
  of batch topics never hold the last quarter of the slots, nor the last three fifths while interactive ones come.
- What comes too late to be worth a call is passed over (``passes``): it takes no slot and leaves nothing behind.
- One transaction a partition carries outcomes, the low-water offset (below it all is done) and, in the commit's
  metadata, what is done above it (``progress.py``). What finishes while a transaction commits shares the next.
- On revoke nothing new starts and running calls get ``GRACE_S``. What then still runs goes on if the partition comes
  back with the assignment (most do: it is sticky) and is cancelled if not: the new owner makes that call again.
- The producer that fences (``writer.py``) is started before offsets are read, as in a stage.
- Any error ends the worker; what can go wrong in a call is caught in ``call`` and becomes its outcome.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from router.kafka.admin import committed
from router.kafka.client import Client
from router.kafka.progress import Progress
from router.kafka.share import Call, Outcome, Share
from router.kafka.writer import Writer

__all__ = ["Call", "Outcome", "Worker"]

#: What running calls get when a rebalance begins or the worker stops. The whole group waits for it.
GRACE_S = 2.0

#: A worker whose slots are all taken does not poll for as long as its calls last; its heartbeat says that it lives.
MAX_POLL_INTERVAL_S = 24 * 3600

#: More calls in hand might not fit the 4096 bytes that Kafka allows a commit's metadata.
MOST_CONCURRENCY = 400

#: Part of the slots that batch calls leave free, and while interactive ones come: both share more than slots, and what
#: takes most of two busy cores made interactive requests wait up to 1.9 times as long (``benchmarks/wide.py``).
RESERVED, RESERVED_BESIDE = 0.25, 0.6

#: For how long after an interactive call others are expected.
BESIDE_S = 1.0

#: Calls whose durations are remembered.
LATELY = 64

#: How long to wait for records: while some flow or some source is held, and when all is quiet.
WAIT_MS = 20
IDLE_WAIT_MS = 500
IDLE_FETCH_MAX_WAIT_MS = 1_000


class Worker(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """``await run()`` works until ``stop()`` or the first error, which it raises. Make it inside the event loop.

    Args:
        client: where the broker is.
        group: consumer group, and prefix of producer names.
        call: makes one call, returns what it leaves behind. May be cancelled, and made again elsewhere.
        interactive: topics whose records come first.
        batch: topics whose calls leave a quarter of the slots free, three fifths while interactive ones come.
        concurrency: calls in hand at a time, 1..400.
        passes: asked of each record before its call starts, with the seconds that a quick call has taken lately until its
            outcome was committed (0 while none is in hand); ``True`` passes the record over, for good.
        may_start: asked before records of a topic are taken; ``False`` leaves them where they are.
        session_timeout_s: how long a silent worker keeps its partitions.
        instance_id: static membership; only under a supervisor that restarts at once.
    """

    def __init__(
        self,
        client: Client,
        group: str,
        call: Call,
        *,
        interactive: Sequence[str],
        batch: Sequence[str] = (),
        concurrency: int = 32,
        may_start: Callable[[str], bool] = lambda _: True,
        passes: Callable[[ConsumerRecord, float], bool] = lambda _record, _takes_s: False,
        session_timeout_s: float = 6.0,
        instance_id: str | None = None,
    ) -> None:
        if not 1 <= concurrency <= MOST_CONCURRENCY:
            raise ValueError(f"concurrency {concurrency}: 1..{MOST_CONCURRENCY}")
        self.call = call
        self.rebalancing = True
        self.slot_freed = asyncio.Event()
        self.last_start_s = self.last_end_s = float("nan")
        self._client, self._group = client, group
        self._lanes = (frozenset(interactive), frozenset(batch))
        self._concurrency = concurrency
        self._interactive_s = float("-inf")  # when a call of theirs started last
        self._may_start, self._passes = may_start, passes
        self._took_s: deque[float] = deque(maxlen=LATELY)
        self._session_timeout_s = session_timeout_s
        self._shares: dict[TopicPartition, Share] = {}
        self._turns = [0, 0]
        self._assigned = asyncio.Event()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._consumer = client.consumer(
            group_id=group,
            group_instance_id=instance_id,
            # Sticky keeps its state in the class, which all workers of the process would share.
            partition_assignment_strategy=[type("Sticky", (StickyPartitionAssignor,), {})],
            session_timeout_ms=int(session_timeout_s * 1000),
            heartbeat_interval_ms=int(session_timeout_s * 1000 / 3),
            rebalance_timeout_ms=int((session_timeout_s + GRACE_S) * 1000),
            max_poll_interval_ms=MAX_POLL_INTERVAL_S * 1000,
            fetch_max_wait_ms=WAIT_MS,
        )

    async def run(self) -> None:
        self._consumer.subscribe([*self._lanes[0], *self._lanes[1]], listener=self)
        await self._consumer.start()
        fetching = asyncio.create_task(self._fetch())
        fetching.add_done_callback(lambda task: None if task.cancelled() else self.fail(task.exception()))
        try:
            await self._end
        finally:
            fetching.cancel()
            self.rebalancing = True
            await self._grace()
            await asyncio.gather(*(share.close() for share in self._shares.values()))
            await self._consumer.stop()

    def stop(self) -> None:
        """Make ``run`` return after ``GRACE_S`` at the latest."""
        if not self._end.done():
            self._end.set_result(None)

    def fail(self, error: BaseException | None) -> None:
        if error is None or self._end.done():
            return
        self._end.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def passes(self, record: ConsumerRecord) -> bool:
        """Whether to pass the record over. A worker with nothing in hand tries what there is, and so learns its pace."""
        return self._passes(record, self._takes_s() if self._is_busy() else 0.0)

    def took(self, seconds: float) -> None:
        """A call took so long, from its start until its outcome was committed."""
        self._took_s.append(seconds)

    def _takes_s(self) -> float:
        """What the quicker quarter of calls stayed below; 0 before enough are known."""
        return sorted(self._took_s)[len(self._took_s) // 4] if len(self._took_s) >= LATELY // 4 else 0.0

    def liveness(self) -> dict[str, Any]:
        """How the worker stands, for JSON. Ages are ``None`` before the first call started, respectively ended.

        A record that is passed over counts as one that starts.
        """
        now_s = time.monotonic()
        return {
            "group": self._group,
            "assigned": len(self._shares),
            "rebalancing": self.rebalancing,
            "concurrency": self._concurrency,
            "in_hand": {"interactive": self._in_hand(0), "batch": self._in_hand(1)},
            "last_start_age_s": _age(now_s, self.last_start_s),
            "last_end_age_s": _age(now_s, self.last_end_s),
            "lag": self._lag(),
        }

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002 - aiokafka's signature
        self.rebalancing = True
        self._assigned.clear()
        await self._grace()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        try:  # aiokafka would log an error and go on
            lost = [tp for tp, share in self._shares.items() if tp not in assigned or share.committing.done()]
            await asyncio.gather(*(self._shares.pop(tp).close() for tp in lost))
            fresh = assigned - self._shares.keys()
            writers = {tp: self._new_writer(tp) for tp in fresh}
            await asyncio.gather(*(writer.start(()) for writer in writers.values()))
            marks = await self._marks(fresh)
            for tp in fresh:
                self._shares[tp] = Share(tp, Progress(*marks[tp]), writers[tp], self)
            for tp, share in self._shares.items():
                self._consumer.seek(tp, share.progress.wanted)
            self.rebalancing = False
            self._assigned.set()
        except Exception as error:  # noqa: BLE001 - any error ends the worker
            self.fail(error)

    def _new_writer(self, tp: TopicPartition) -> Writer:
        name = f"{tp.topic}-{tp.partition}"
        return Writer(self._client, self._group, name, tp.partition, self._session_timeout_s)

    async def _marks(self, tps: set[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and metadata of the last commit, or the beginning."""
        if not tps:
            return {}
        found = await committed(self._client, self._group, list(tps))
        begins = await self._consumer.beginning_offsets(list(tps))
        # What retention has removed is gone, done or not; holes relative to a mark that lies before it go with it.
        return {
            tp: (found[tp].offset, found[tp].metadata) if found[tp].offset >= begin else (begin, "")
            for tp, begin in begins.items()
        }

    def _lag(self) -> int | None:
        """Records not read yet below the stable ends that the last fetches saw; ``None`` in a rebalance.

        By positions: they pass the markers of transactions, which no call ever sees.
        """
        if self.rebalancing:
            return None
        assignment = self._consumer._subscription.subscription.assignment  # noqa: SLF001 - a pinned package
        states = [assignment.state_value(tp) for tp in assignment.tps if tp in self._shares]
        return sum(
            max(0, int(state.lso - state.position))
            for state in states
            if state.lso is not None and state.has_valid_position
        )

    def _is_busy(self) -> bool:
        return any(share.in_hand for share in self._shares.values())

    def _in_hand(self, lane: int) -> int:
        return sum(share.in_hand for tp, share in self._shares.items() if tp.topic in self._lanes[lane])

    def _room(self, lane: int) -> int:
        """Calls of a lane that may start now."""
        busy = self._in_hand(0), self._in_hand(1)
        free = self._concurrency - sum(busy)
        if lane == 0:
            return free
        beside = time.monotonic() - self._interactive_s < BESIDE_S
        most = max(1, int(self._concurrency * (1 - (RESERVED_BESIDE if beside else RESERVED))))
        return min(free, most - busy[1])

    def _open(self, lane: int) -> list[TopicPartition]:
        """Partitions of a lane whose records may be taken now."""
        return [tp for tp in self._shares if tp.topic in self._lanes[lane] and self._may_start(tp.topic)]

    async def _fetch(self) -> None:
        quiet = 0
        while True:
            await self._assigned.wait()
            taken = await self._take_in_turn(0) + await self._take_in_turn(1)
            quiet = 0 if taken else quiet + 1
            rooms = {lane: room for lane in (0, 1) if (room := self._room(lane)) > 0 and self._open(lane)}
            tps = [tp for lane in rooms for tp in self._open(lane)]
            if not tps:
                self.slot_freed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.slot_freed.wait(), 0.05)
            elif not taken:
                idle = quiet > IDLE_WAIT_MS // WAIT_MS and len(tps) == len(self._shares)
                self._pace(idle=idle)
                # What it brings counts against the smaller room: records of either lane may be among it.
                if await self._take(tps, IDLE_WAIT_MS if idle else WAIT_MS, min(rooms.values())):
                    quiet = 0
                    self._pace(idle=False)

    def _pace(self, *, idle: bool) -> None:
        """Long waits at the broker only when all is quiet and every partition is in the fetch.

        What is left lying (batch, behind interactive) keeps aiokafka from fetching the rest for a while. That is good, for
        as long as it takes to take it: the next fetch would else go out without the partition that has just brought
        something. While all is quiet the next fetch is a long one, and must not.
        """
        fetcher = self._consumer._fetcher  # noqa: SLF001 - a pinned package
        fetcher._fetch_max_wait_ms = IDLE_FETCH_MAX_WAIT_MS if idle else WAIT_MS  # noqa: SLF001
        fetcher._prefetch_backoff = 0.1 if idle else WAIT_MS / 1000  # noqa: SLF001

    async def _take_in_turn(self, lane: int) -> int:
        """Start what lies ready of a lane, a fair share of the room a partition; returns how many were read."""
        tps, taken = self._open(lane), 0
        self._turns[lane] += 1
        for number in range(len(tps)):
            if (room := self._room(lane)) <= 0:
                break
            tp = tps[(self._turns[lane] + number) % len(tps)]
            taken += await self._take([tp], 0, max(1, room // len(tps)))
        return taken

    async def _take(self, tps: Sequence[TopicPartition], timeout_ms: int, most: int) -> int:
        """Start calls for up to ``most`` records; returns how many were read."""
        fetched = await self._consumer.getmany(*tps, timeout_ms=timeout_ms, max_records=most)
        for tp, records in fetched.items():
            share = self._shares.get(tp)
            if share is None:
                continue
            if not self.rebalancing:
                for record in records:
                    share.start(record)
                if tp.topic in self._lanes[0]:
                    self._interactive_s = time.monotonic()
            if tp in self._consumer.assignment() and share.progress.wanted != records[-1].offset + 1:
                self._consumer.seek(tp, share.progress.wanted)
        return sum(map(len, fetched.values()))

    async def _grace(self) -> None:
        """Let calls finish and commit, for ``GRACE_S`` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                while self._is_busy():
                    self.slot_freed.clear()
                    await self.slot_freed.wait()


def _age(now_s: float, at_s: float) -> float | None:
    return None if at_s != at_s else round(now_s - at_s, 3)  # noqa: PLR0124 - NaN: not yet
