"""The life of one partition in a stage: turns of waiting batches and due ticks, one transaction at a time.

    batch arrives -> prefetch, prepare (beside the open turn) -> handle, piece by piece -> one commit -> table, acks

- Batches that arrive while a turn commits share the next one: a quiet partition commits each record at once, a busy one
  rarely and in bulk. No timer to tune.
- A stage may let a turn without ``urgent`` output stay open for ``linger_s`` after the last commit: fewer transactions.
  Every turn stays open while Kafka would turn it down (``pace.py``).
- A turn ends after ``TURN_S`` of handler time; where commits take longer than that, after as long as they take (at most
  ``MAX_TURN_S``, or ``TURN_BYTES`` emitted). A busy broker thereby gets fewer and larger transactions, which is what relieves it.
- Long batches are cut into pieces of about ``PIECE_S``, and the loop runs between pieces: other partitions and commits get
  their share.
- ``tick`` runs at least every 100 ms, in the open turn or in one of its own; one that changes nothing commits nothing.
  While nothing comes of them, all lanes of the process share the timer of their ticks (``rest.py``).
- The lane lives from the end of recovery until its partition is revoked; then its open turn ends and no other begins.
- Any error ends the process: left to itself Faust would restart the agent and go on *after* the failed batch. A fresh
  process recovers from the changelog, which is cheaper to trust than a repair in place. What was in hand is noted
  (``marks.py``): a record that kills process after process is found and given to ``Stage.culprit``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from router.kafka.horizon import Ends, Horizon, Where
from router.kafka.marks import Mark
from router.kafka.rest import REST_TICK_S, rest_of_loop
from router.kafka.stage import PREPARERS, Stage, Standing
from router.kafka.table import Rows
from router.kafka.transport import Batch
from router.kafka.unit import Committer, Unit, UnitLike

__all__ = ["Lane", "Stage", "Unit", "UnitLike"]

#: Handler time after which a turn commits: on a broker that answers at once, and on the slowest.
TURN_S, MAX_TURN_S = 0.020, 0.200

#: Bytes emitted after which it commits, too: they wait in memory until then.
TURN_BYTES = 4 * 1024 * 1024

#: The piece of a batch after which other lanes get the loop.
PIECE_S = 0.005

#: Well under the 100 ms promised: a turn and its commit may come between two ticks.
TICK_S = 0.030

#: A lane without work for that long is at rest, and ticks every ``REST_TICK_S``.
REST_AFTER_S = 1.0

#: How soon a lane that was not ready asks again, and how long an advance without records may stay uncommitted.
READY_S = 0.020
ADVANCE_S = 1.0

#: What Kafka says of a record that it will never take.
OF_THE_RECORD = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTimestampError, CorruptRecordException)

#: A batch without more than this in its values is prepared on the loop.
SMALL_BYTES = 8 * 1024

#: Batches that may wait in a lane, and so the most that are prepared ahead.
LANE_BATCHES = 8


class Delivery(Protocol):
    """A Faust event whose value is a batch."""

    value: Batch

    def ack(self) -> Any: ...


class Store(Protocol):
    """What a lane needs of a table store."""

    partitions: Any

    def apply(self, partition: int, changes: Any, offset: int | None) -> None: ...


@dataclass(slots=True)
class Tally:
    """What the lanes of a stage have done since its process began.

    ``records`` read and ``partitions`` written to, summed over ``transactions``, and how long their commits took.
    """

    transactions: int = 0
    records: int = 0
    partitions: int = 0
    commit_seconds: float = 0.0


@dataclass(slots=True)
class Waiting:
    """A batch or a part of one, what of it is still to be handled, and the task that prepares it.

    ``event``: to be acknowledged with the last part.
    """

    event: Delivery | None
    rest: Batch
    alone: bool = False
    culprit: bool = False
    preparing: asyncio.Task[Batch] | None = None


@dataclass(slots=True)
class Turn:
    """What one transaction will hold.

    ``worth``: whether there is more in it than advances without records. ``handled``: first offset and the one after
    the last, of each source that has records in it. ``spent_s``: handler time since it holds something; it is full after
    ``turn_s`` of it.
    """

    unit: Unit
    turn_s: float
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    done: list[Delivery] = field(default_factory=list)
    worth: bool = False
    handled: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    spent_s: float = 0.0
    read: int = 0

    @property
    def full(self) -> bool:
        """Whether it is to take no more."""
        return self.spent_s >= self.turn_s or self.unit.emitted_bytes >= TURN_BYTES

    @property
    def holds(self) -> bool:
        """Whether there is anything in it to commit for its own sake."""
        return self.worth or bool(self.unit)


class Lane:
    """See the module's text. ``clock`` gives milliseconds; ``crash`` is told of the error that ended the lane."""

    def __init__(
        self,
        stage: Stage,
        writer: Committer,
        *,
        clock: Callable[[], int],
        crash: Callable[[BaseException], Awaitable[None]],
        store: Store | None = None,
        changelog: str | None = None,
        mark: Mark | None = None,
        ends: Callable[[], Ends | None] = lambda: None,
        pause_s: Callable[[], float] = lambda: 0.0,
        tally: Tally | None = None,
    ) -> None:
        self._stage = stage
        self._writer = writer
        self._clock = clock
        self._crash = crash
        self._store = store
        self._changelog = changelog
        self._mark = mark
        self._pause_s = pause_s
        self._tally = tally if tally is not None else Tally()
        self._rows: Rows | None = store.partitions[writer.partition] if store is not None else None
        self._index = stage.index(self._rows if self._rows is not None else {}) if stage.index else None
        self.horizon = Horizon([(source, writer.partition) for source in stage.sources], ends)
        self.committed_s = self.progress_s = time.monotonic()
        self._waiting: deque[Waiting] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._commit_s = 0.0  # how long commits take, as seen lately
        self._committing_s: float | None = None  # since when
        self._record_s = 20e-6  # handler time a record, as seen lately; sizes the pieces
        self._now_ms = 0
        self._worked_s = time.perf_counter()  # when there was something to do last
        self._next_tick_s = 0.0 if stage.tick else float("inf")
        self._rest = rest_of_loop()
        self._task = asyncio.create_task(self._run())

    @property
    def waiting(self) -> int:
        """Batches that wait to be handled."""
        return len(self._waiting)

    def standing(self, ends: Mapping[Where, int]) -> Standing:
        """``ends``: of the sources, as the broker last said."""
        taken, partition = dict.fromkeys(self._stage.sources, 0), self._writer.partition
        for waiting in list(self._waiting):  # asked from other threads, too
            taken[waiting.rest.tp.topic] += len(waiting.rest.records)
        return Standing(self._index, taken, {source: self.lag((source, partition), ends) or 0 for source in taken})

    def lag(self, source: Where, ends: Mapping[Where, int]) -> int | None:
        """Records and markers of a source that are not handled yet; ``None`` where that is not known."""
        position, end = self.horizon.positions.get(source), ends.get(source)
        return max(0, end - position) if position is not None and end is not None else None

    def busy_s(self, *, given: bool) -> float:
        """How long it will most likely begin no turn; ``given``: it is about to get a batch. From any thread."""
        if (began_s := self._committing_s) is not None:
            return max(0.0, began_s + self._commit_s - time.monotonic())
        return self._commit_s if given or self._waiting else 0.0

    async def put(self, event: Delivery) -> None:
        """Wait here when the lane is full: that is the back pressure towards the fetcher."""
        while len(self._waiting) >= LANE_BATCHES and not self._task.done():
            self._room.clear()
            await self._room.wait()
        if self._task.done():
            event.ack()  # commits nothing; see _run
            return
        batch = event.value
        if batch.records:  # the first one begins where the lane's predecessor committed
            self.horizon.positions.setdefault(batch.tp, batch.records[0].offset)
        for waiting in self._parts(event):
            self._waiting.append(waiting)
            if not waiting.alone:  # one that may be a culprit is prepared when its turn comes, while it is noted
                self._prepare_ahead(waiting)
        self._news.set()

    async def close(self) -> None:
        """Begin no further turn, return when the open one has ended. What waits is left to the next owner."""
        self._closing = True
        self._news.set()
        await asyncio.wait([self._task])

    def _parts(self, event: Delivery) -> list[Waiting]:
        batch = event.value
        if self._mark is None or not self._mark.suspicious or not batch.records:
            return [Waiting(event, batch)]
        able = self._stage.culprit is not None
        found = [Waiting(None, part.batch, part.alone, part.culprit and able) for part in self._mark.parts(batch)]
        found[-1].event = event
        return found

    def _prepare_ahead(self, waiting: Waiting) -> None:
        stage, batch = self._stage, waiting.rest
        missing = (stage.prefetch and not batch.fetched) or (stage.prepare and not batch.prepared)
        if missing and batch.records and waiting.preparing is None:
            waiting.preparing = asyncio.create_task(self._prepare(batch))
            waiting.preparing.add_done_callback(lambda _: self._news.set())

    async def _prepare(self, batch: Batch) -> Batch:
        if self._stage.prefetch:
            batch = replace(batch, fetched=await self._stage.prefetch(batch))
        if self._stage.prepare:
            if _is_small(batch):
                return replace(batch, prepared=self._stage.prepare(batch))
            loop = asyncio.get_running_loop()
            batch = replace(batch, prepared=await loop.run_in_executor(PREPARERS, self._stage.prepare, batch))
        return batch

    async def _run(self) -> None:
        turn = self._new_turn()
        try:
            while not self._closing:
                await self._work(turn)
                await self._sleep(turn)
                if self._is_due(turn):
                    await self._commit(turn)
                    turn = self._new_turn()
            if self._mark is not None:
                self._mark.leave()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of native code is no Exception; any error is told
            await self._crash(error)
        finally:
            self._let_go(turn)

    def _let_go(self, turn: Turn) -> None:
        """Acknowledging commits nothing; it only tells Faust not to wait for these batches: the next owner reads them."""
        for event in (*turn.done, *(waiting.event for waiting in self._waiting)):
            if event is not None:
                event.ack()
        for waiting in self._waiting:
            if waiting.preparing is not None:
                waiting.preparing.cancel()
        self._room.set()

    def _new_turn(self) -> Turn:
        turn_s = min(max(TURN_S, self._commit_s), MAX_TURN_S)
        return Turn(Unit(self._writer, self._rows, self._changelog, self._index), turn_s)

    async def _work(self, turn: Turn) -> None:
        """Ticks and pieces until the turn is full, or until nothing is left to do."""
        if not turn.holds:
            turn.spent_s = 0.0
        while not turn.full:
            began_s = time.perf_counter()
            if began_s >= self._next_tick_s:
                self._tick(turn)
            elif (piece := self._take(turn)) is not None:
                self._handle(piece, turn)
                if piece.alone:
                    return
            else:
                return
            turn.spent_s += time.perf_counter() - began_s
            await asyncio.sleep(0)

    def _handle(self, waiting: Waiting, turn: Turn) -> None:
        piece = waiting.rest
        if piece.records:
            began_s = time.perf_counter()
            self._tell_time(turn.unit)
            self._call_handler(waiting, turn.unit)
            self._worked_s = ended_s = time.perf_counter()
            self._record_s = (self._record_s + (ended_s - began_s) / len(piece.records)) / 2
            turn.worth = True
            turn.read += len(piece.records)
            first, after = piece.records[0].offset, piece.records[-1].offset + 1
            turn.handled[piece.tp] = (turn.handled.get(piece.tp, (first, after))[0], after)
        turn.offsets[piece.tp] = self.horizon.positions[piece.tp] = piece.next_offset
        self.progress_s = time.monotonic()

    def _call_handler(self, waiting: Waiting, unit: Unit) -> None:
        piece = waiting.rest
        self._note(piece)
        if waiting.culprit:
            assert self._stage.culprit is not None
            self._stage.culprit(piece.records[0], unit)
        else:
            self._stage.handle(piece, unit)
        if self._mark is not None:
            self._mark.leave()

    def _tick(self, turn: Turn) -> None:
        assert self._stage.tick is not None
        self._tell_time(turn.unit)
        more = self._stage.tick(self._now_ms, turn.unit)
        now_s = time.perf_counter()
        if turn.unit:
            self._worked_s = now_s
        every_s = TICK_S if now_s - self._worked_s < REST_AFTER_S else REST_TICK_S
        self._next_tick_s = now_s if more else (now_s // every_s + 1) * every_s

    def _tell_time(self, unit: Unit) -> None:
        self._now_ms = unit.now_ms = max(self._now_ms, self._clock())  # a lane's time never runs backwards
        unit.read_to_ms = self.horizon.look()

    def _take(self, turn: Turn) -> Waiting | None:
        """The next piece of the oldest batch, ``None`` while there is none or it may not be handled yet."""
        if not self._waiting:
            return None
        head = self._waiting[0]
        if head.rest.records and not self._may_start(head):
            return None
        if head.alone and (turn.worth or turn.unit):
            return None  # a suspect has a turn of its own, so that its commit, too, succeeds or fails alone
        piece, rest = head.rest.split(max(1, int(PIECE_S / self._record_s)))
        if rest is None:
            self._waiting.popleft()
            if head.event is not None and piece.records:
                turn.done.append(head.event)
            elif head.event is not None:
                head.event.ack()  # nothing to wait for; its offset goes with the next commit
            self._room.set()
        else:
            head.rest = rest
        return Waiting(None, piece, head.alone, head.culprit)

    def _may_start(self, head: Waiting) -> bool:
        if self._stage.ready is not None and not self._stage.ready():
            return False
        if head.alone and not head.culprit:
            self._prepare_ahead(head)
        if head.preparing is None:
            return True
        if not head.preparing.done():
            if head.alone:
                self._note(head.rest)  # a process that dies of preparing it, dies of it
            return False
        self._note(head.rest)
        head.rest, head.preparing = head.preparing.result(), None
        return True

    def _note(self, batch: Batch) -> None:
        if self._mark is not None:
            self._mark.enter(batch.tp.topic, batch.records[0].offset, batch.records[-1].offset + 1)

    def _is_due(self, turn: Turn) -> bool:
        """Whether the turn is to be committed now."""
        if turn.holds:
            return self._closing or turn.full or self._open_s(turn) <= 0
        return bool(turn.offsets) and time.monotonic() - self.committed_s > ADVANCE_S

    def _open_s(self, turn: Turn) -> float:
        """How much longer the turn may stay open. While a record is sought that kills the process: not at all."""
        if self._mark is not None and self._mark.suspicious:
            return 0.0
        linger_s = 0.0 if turn.unit.emits(self._stage.urgent) else self._stage.linger_s
        return self.committed_s + max(linger_s, self._pause_s()) - time.monotonic()

    async def _commit(self, turn: Turn) -> None:
        if time.perf_counter() >= self._next_tick_s - TICK_S * 2 / 3:
            self._tick(turn)  # soon due, and none can run while this commits
        began_s = self._committing_s = time.monotonic()
        try:
            offset = await turn.unit.commit(turn.offsets)
        except Exception as error:
            self._accuse(turn, error)
            raise
        if self._store is not None:
            self._store.apply(self._writer.partition, turn.unit.changes, offset)
        self.committed_s, self._committing_s = time.monotonic(), None
        self._count(turn, self.committed_s - began_s)
        if self._mark is not None and self._mark.suspicious:
            for (topic, _), reached in turn.offsets.items():
                self._mark.committed(topic, reached)
        for event in turn.done:
            event.ack()

    def _count(self, turn: Turn, took_s: float) -> None:
        """A commit has taken ``took_s``: turns to come and fetches go by that, soon where it was short."""
        self._commit_s = min(took_s, (self._commit_s + took_s) / 2)
        if not turn.holds:
            return
        tally = self._tally
        tally.transactions += 1
        tally.records += turn.read
        tally.partitions += turn.unit.touched
        tally.commit_seconds += took_s

    def _accuse(self, turn: Turn, error: Exception) -> None:
        """A commit that fails for what is in it (no bytes, too large), not for how Kafka stands, fails again."""
        if self._mark is None or (isinstance(error, KafkaError) and not isinstance(error, OF_THE_RECORD)):
            return
        for (topic, _), (first, after) in list(turn.handled.items())[:1]:
            self._mark.enter(topic, first, after)

    async def _sleep(self, turn: Turn) -> None:
        """Until a batch arrives or is prepared, the next tick or the open turn is due, or the lane is to close."""
        if self._is_due(turn):
            return
        if self._may_rest(turn):
            await self._rest_until_news(turn)
            return
        wait_s = self._next_tick_s - time.perf_counter()
        if turn.holds:
            wait_s = min(wait_s, self._open_s(turn))
        if self._waiting and (self._waiting[0].preparing is None or self._waiting[0].preparing.done()):
            wait_s = min(wait_s, READY_S)  # not ready: nobody tells when that changes
        if wait_s == float("inf"):
            await self._news.wait()
        else:
            alarm = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._news.set)
            await self._news.wait()
            alarm.cancel()
        self._news.clear()

    def _may_rest(self, turn: Turn) -> bool:
        """Whether nothing but ticks has been left to do for a while."""
        now_s = time.perf_counter()
        nothing = not (turn.holds or turn.offsets or self._waiting)
        return nothing and now_s < self._next_tick_s < float("inf") and now_s - self._worked_s >= REST_AFTER_S

    async def _rest_until_news(self, turn: Turn) -> None:
        """Until a batch arrives or something comes of a tick; an error of a tick is raised here."""
        failed: list[BaseException] = []

        def tick() -> None:
            try:
                self._tick(turn)
            except BaseException as error:  # noqa: BLE001 - the lane's, not of those that tick after it
                failed.append(error)
            if failed or turn.holds or self._next_tick_s <= time.perf_counter():
                self._news.set()

        self._rest.lie_down(tick)
        try:
            await self._news.wait()
        finally:
            self._rest.get_up(tick)
        self._news.clear()
        if failed:
            raise failed[0]


def _is_small(batch: Batch) -> bool:
    """Whether to prepare it here: a thread's turn costs more than a quiet partition's few records."""
    return not any(batch.fetched) and sum(len(record.value or b"") for record in batch.records) <= SMALL_BYTES
