"""What a lane of settle derives from its table: open requests as values, what is due, and how they stand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from router.contract.topics import MIB
from router.core.backlog import Backlogs
from router.core.further import Further
from router.core.records import Load
from router.core.row_format import row_from_bytes, row_to_bytes
from router.core.settlement import MOST_HELD, Pair, Row
from router.core.slip import Slip
from router.kafka.unit import UnitLike
from router.stages.due import Due
from router.stages.settle_rows import DROP, KEPT, KIND, OPEN, SettleRows, kept_value, read_kept

LANES: tuple[str, ...] = ("interactive", "batch")
LOAD_EVERY_MS = 100
#: While something is open and nothing changes, how far the lane has read is news all the same.
LOAD_AT_LEAST_EVERY_MS = 1_000
OVERDUE_MS = 10_000
#: Of all answers that a lane holds while a better one is asked for, in bytes. Beyond, an answer is let go.
MOST_HELD_OF_ALL = 64 * MIB
#: Open requests looked at in a tick, whatever the heaps say: a hundred thousand take a minute at most.
WALKED_A_TICK = 128


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of an id without a row: whether it has its result, and which outcomes were priced."""

    settled: bool
    priced: frozenset[Pair]


NOTHING = Kept(settled=False, priced=frozenset())


class Book:
    """The open requests and kept ids of one partition; every change goes to the unit and is visible at once.

    A turn that fails ends the process, so values here never run ahead of what will be committed.
    """

    def __init__(self, rows: SettleRows) -> None:
        self.rows = rows
        self.open: dict[bytes, Row] = {}
        self._kinds: list[Kept] = []
        self._numbers: dict[Kept, int] = {}
        for key, value in sorted(rows.items()):
            if key[:1] == OPEN:
                self.open[key[1:]] = row_from_bytes(value)
            elif key[:1] == KIND:
                settled, priced, *_ = orjson.loads(value)
                self._remember(Kept(settled, frozenset((attempt, model) for attempt, model in priced)))
        self.orders = Due(self._order_due, self.open)
        self._deadlines = Due(self._deadline, self.open)
        self._overdue: OrderedDict[bytes, None] = OrderedDict()
        self._oldest = {
            lane: Due(self._at, (id16 for id16, row in self.open.items() if row.slip.lane == lane)) for lane in LANES
        }
        self._count = dict.fromkeys(LANES, 0)
        for row in self.open.values():
            self._count[row.slip.lane] += 1
        #: Of this turn: (lane, partition of the requests, pool, of shadows) -> requests done, what they were charged, what was spent.
        self.spent: dict[tuple[str, int, str, bool], list[int]] = {}
        self._held_bytes = sum(len(row.held or b"") for row in self.open.values())
        #: Budgets of further attempts, by pool and model; of hedges without a model. Requests that may be hedged, by when.
        self.further: dict[tuple[str | None, str | None], Further] = {}
        self.probes: Further | None = None
        self.tails: list[tuple[int, bytes]] = []
        self._published: Load | None = None
        self._walk: list[bytes] = []
        self.backlogs = Backlogs()
        for id16, row in self.open.items():
            self.backlogs.changed(id16, None, row, 0)

    def set(self, unit: UnitLike, id16: bytes, row: Row) -> None:
        """Open a request, or change an open one."""
        slip, old = row.slip, self.open.get(id16)
        is_new = old is None
        if row.held is not None and (old is None or old.held is None):
            self._held_bytes += len(row.held)
        self.backlogs.changed(id16, old, row, unit.now_ms)
        self.open[id16] = row  # before it is pushed: a heap asks here which of its entries live
        if is_new:
            self._count[slip.lane] += 1
            self._oldest[slip.lane].push(slip.at_ms, id16)
            self._deadlines.push(slip.deadline_at_ms, id16)
        unit.put(OPEN + id16, row_to_bytes(row))
        if (due_ms := self._order_due(id16)) is not None:
            self.orders.push(due_ms, id16)

    def close(self, unit: UnitLike, id16: bytes) -> None:
        """Forget the row of a request that has its result, if there is one."""
        row = self.open.pop(id16, None)
        if row is not None:
            self.backlogs.changed(id16, row, None, unit.now_ms)
            self._count[row.slip.lane] -= 1
            self._held_bytes -= len(row.held or b"")
            self._overdue.pop(id16, None)
            unit.put(OPEN + id16, None)

    @property
    def room(self) -> int:
        """Bytes that one more answer may have to be held."""
        return min(MOST_HELD, MOST_HELD_OF_ALL - self._held_bytes)

    def spend(self, slip: Slip, *, requests: int = 0, charged: int = 0, cost: int = 0) -> None:
        """Note what is to be told to the lane of route that charged a pool's budget, or its allowance for shadows."""
        assert slip.pool is not None
        about = (slip.lane, slip.origin.partition, slip.pool, slip.mirror is not None)
        sums = self.spent.setdefault(about, [0, 0, 0])
        for at, amount in enumerate((requests, charged, cost)):
            sums[at] += amount

    def passed(self, read_to_ms: int) -> Iterator[bytes]:
        """Take out the open ids whose deadline has passed, earliest first; one for each that is asked for."""
        while self._overdue:
            id16 = next(iter(self._overdue))
            if self.open[id16].slip.deadline_at_ms > read_to_ms:
                return
            del self._overdue[id16]
            yield id16
        yield from self._deadlines.pop_until(read_to_ms)

    def walk(self, now_ms: int) -> None:
        """A part of a tour through the open requests themselves: one long overdue is put back into the heap it fell out of.

        Deadlines, and the count of what is lost, would otherwise hang on the same heap: its defect would not show.
        """
        if not self._walk:
            self._walk = list(self.open)
        for id16 in self._walk[-WALKED_A_TICK:]:
            due_ms = self._deadline(id16)
            if due_ms is not None and due_ms < now_ms - OVERDUE_MS and id16 not in self._overdue:
                self._deadlines.push(due_ms, id16)
        del self._walk[-WALKED_A_TICK:]

    def kept(self, unit: UnitLike, id16: bytes) -> tuple[Kept, int]:
        """What is known of an id that is not open, and its expiry in seconds since 1970; 0 if nothing is kept."""
        value = unit.get(KEPT + id16)
        if value is not None:
            number, expires_s = read_kept(value)
            if expires_s * 1000 > unit.read_to_ms:
                return self._kinds[number], expires_s
        return NOTHING, 0

    def keep(self, unit: UnitLike, id16: bytes, kept: Kept, expires_s: int) -> None:
        """Remember an id until ``expires_s``."""
        number = self._numbers.get(kept)
        if number is None:
            number = self._remember(kept)
            unit.put(KIND + number.to_bytes(4), orjson.dumps([kept.settled, sorted(kept.priced)]))
        unit.put(KEPT + id16, kept_value(number, max(expires_s, self.rows.floor_s + 1)))

    def forget(self, unit: UnitLike) -> None:
        """Housekeeping of a tick: one bucket of ids that is to be forgotten, a part of the memory to be freed."""
        read_to_s = unit.read_to_ms // 1000
        bucket = self.rows.droppable(read_to_s)
        if bucket is not None:
            unit.put(DROP + bucket.to_bytes(4), None)
        self.rows.sweep(read_to_s)

    def load(self, unit: UnitLike) -> Load | None:
        """How the partition stands, if that is news and not too soon after the last."""
        last = self._published
        age_ms = LOAD_AT_LEAST_EVERY_MS if last is None else unit.now_ms - last.at_ms
        if age_ms < LOAD_EVERY_MS:
            return None
        new = Load(
            stage="settle",
            partition=unit.partition,
            at_ms=unit.now_ms,
            read_to_ms=unit.read_to_ms,
            open=dict(self._count),
            oldest_at_ms={lane: entry[0] for lane in LANES if (entry := self._oldest[lane].first()) is not None},
            overdue=self._count_overdue(unit.now_ms),
            ids=self.rows.kept,
        )
        if last is not None and _state(new) == _state(last) and (age_ms < LOAD_AT_LEAST_EVERY_MS or not self.open):
            return None
        self._published = new
        return new

    def _remember(self, kept: Kept) -> int:
        self._kinds.append(kept)
        self._numbers[kept] = len(self._kinds) - 1
        return len(self._kinds) - 1

    def _count_overdue(self, now_ms: int) -> int:
        """Each is counted once, when it becomes overdue: then settle is behind and has no time to count them all again."""
        self._overdue |= dict.fromkeys(self._deadlines.pop_until(now_ms - OVERDUE_MS - 1))
        return len(self._overdue)

    def _order_due(self, id16: bytes) -> int | None:
        row = self.open.get(id16)
        if row is None or row.pending is None or row.pending.sent:
            return None
        return row.pending.due_at_ms

    def _deadline(self, id16: bytes) -> int | None:
        row = self.open.get(id16)
        return None if row is None else row.slip.deadline_at_ms

    def _at(self, id16: bytes) -> int | None:
        row = self.open.get(id16)
        return None if row is None else row.slip.at_ms


def _state(load: Load) -> tuple[object, ...]:
    return load.open, load.oldest_at_ms, load.overdue, load.ids
