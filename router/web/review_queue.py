"""The review queue as one process of the web stage has it: what waits, in which order, and who has it before them right now.

Records in, items out; the time is an argument. Bounded whatever the topics hold: of more than ``MAX_OPEN`` items those due first are let go (the
terminal reads them all), no texts are kept, and of opinions only the newest ``MAX_DONE`` answers' names.

- An item that a reviewer holds is nobody else's for ``LEASE_MS``, and so on each time the reviewer asks again. It is a courtesy: whoever
  answers first is counted.
- Answered here is done here, before the opinion has come back as counted.
- What was written ``retention_ms`` ago is gone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from router.contract.records import ReviewItem
from router.contract.topics import DAY_MS
from router.core.records import CountedFeedback
from router.core.reviewing import Key, Place, due_day, key_of

MAX_OPEN = 10_000
MAX_DONE = 100_000
LEASE_MS = 180_000

Position = tuple[int, str]
"""Day on which it is due, and name: the order of the queue."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item without its texts. ``at``: the record that has them, ``None`` where they lie with request and answer."""

    position: Position
    item: ReviewItem
    at: Place | None
    tenant: str | None
    written_ms: int

    @property
    def name(self) -> str:
        return self.position[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a reviewer may and wants to see; ``None``: all. ``tenant``: of this one's requests alone."""

    tenant: str | None = None
    pool: str | None = None
    stratum: str | None = None

    def has(self, one: Waiting) -> bool:
        return (
            self.tenant in {None, one.tenant}
            and self.pool in {None, one.item.pool}
            and self.stratum in {None, one.item.stratum}
        )


@dataclass(slots=True)
class Queue:
    """``name``: what an answer is called outside (``core.reviewing.namer``); ``tenant_of``: whose the request is, by the item's token."""

    name: Callable[[Key], str]
    tenant_of: Callable[[ReviewItem], str | None]
    retention_ms: int
    max_open: int = MAX_OPEN
    max_done: int = MAX_DONE
    let_go: int = 0
    _open: dict[str, Waiting] = field(default_factory=dict)
    _order: list[Position] = field(default_factory=list)
    _done: dict[str, None] = field(default_factory=dict)
    _leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    _day: int = 0
    _today: dict[str, str] = field(default_factory=dict)

    def note_item(self, item: ReviewItem, written_ms: int, at: Place) -> None:
        """A record of ``reviews``, at ``at``."""
        name = self.name(key_of(item))
        if name in self._done or name in self._open:
            return
        has_texts = item.prompt is not None and item.answer is not None
        kept = replace(item, prompt=None, answer=None)
        one = Waiting((due_day(item), name), kept, at if has_texts else None, self.tenant_of(item), written_ms)
        self._open[name] = one
        insort(self._order, one.position)
        if len(self._order) > self.max_open:
            self._remove(self._order[0][1])
            self.let_go += 1

    def note_opinion(self, said: CountedFeedback) -> None:
        """A reviewer's opinion on an answer counted."""
        name = self.name((said.request_id, said.attempt or 0))
        self.finish(name)
        day = said.at_ms // DAY_MS
        if day > self._day:
            self._day, self._today = day, {}
        if day == self._day and said.kind == "review" and len(self._today) < self.max_done:
            self._today[name] = said.pool or ""

    def finish(self, name: str) -> None:
        """An answer is done: it is not shown again."""
        self._remove(name)
        self._done.pop(name, None)
        self._done[name] = None
        if len(self._done) > self.max_done:
            del self._done[next(iter(self._done))]

    def take(self, name: str, wanted: Wanted) -> Waiting | None:
        """Take an item out, to answer it; ``put_back`` if that fails. ``None``: it is not there for this reviewer."""
        one = self._open.get(name)
        if one is None or not wanted.has(one):
            return None
        self._remove(name)
        return one

    def put_back(self, one: Waiting) -> None:
        if one.name not in self._done and one.name not in self._open:
            self._open[one.name] = one
            insort(self._order, one.position)

    def is_done(self, name: str) -> bool:
        return name in self._done

    def drop(self, one: Waiting) -> None:
        """Its text is no longer kept: nobody can look at it."""
        self._remove(one.name)

    def keep(self, reviewer: str, names: Collection[str], now_ms: int) -> None:
        """``reviewer`` has these before them, and no others any more."""
        for name in [name for name, (whose, _) in self._leases.items() if whose == reviewer and name not in names]:
            del self._leases[name]
        self.hold(reviewer, names, now_ms)

    def hold(self, reviewer: str, names: Iterable[str], now_ms: int) -> None:
        """``reviewer`` gets these, too."""
        for name in names:
            if name in self._open and self._free(name, reviewer, now_ms):
                self._leases[name] = reviewer, now_ms + LEASE_MS

    def following(
        self, wanted: Wanted, reviewer: str | None, now_ms: int, *, after: Position | None = None
    ) -> Iterator[Waiting]:
        """What waits for this reviewer, in order, behind ``after``. The queue may change meanwhile."""
        for _, name in self._order[0 if after is None else bisect_right(self._order, after) :]:
            one = self._open.get(name)
            if one is not None and wanted.has(one) and self._free(name, reviewer, now_ms):
                yield one

    def count(self, wanted: Wanted, reviewer: str | None, now_ms: int) -> Counts:
        """Figures of what waits, by what is wanted; groups are of all that the reviewer may see."""
        mine = replace(wanted, pool=None, stratum=None)
        groups: Counter[tuple[str, str]] = Counter()
        waiting = elsewhere = overdue = 0
        today = now_ms // DAY_MS
        for name, one in self._open.items():
            if mine.has(one):
                groups[one.item.pool, one.item.stratum] += 1
            if wanted.has(one):
                waiting += 1
                elsewhere += not self._free(name, reviewer, now_ms)
                overdue += one.position[0] < today
        return Counts(waiting, elsewhere, overdue, groups)

    def done_today(self, pool: str | None, now_ms: int) -> int:
        """Reviews that counted since midnight (UTC), whoever gave them and where."""
        if self._day != now_ms // DAY_MS:
            return 0
        return sum(pool in {None, each} for each in self._today.values())

    def forget(self, now_ms: int) -> None:
        """Let go what is past retention, and leases that are over."""
        for one in [one for one in self._open.values() if one.written_ms + self.retention_ms <= now_ms]:
            self._remove(one.name)
        for name in [name for name, (_, until_ms) in self._leases.items() if until_ms <= now_ms]:
            del self._leases[name]

    def clear(self) -> None:
        """Nobody looks any more: keep nothing."""
        for each in (self._open, self._order, self._done, self._leases, self._today):
            each.clear()
        self.let_go = self._day = 0

    def __len__(self) -> int:
        return len(self._open)

    def _free(self, name: str, reviewer: str | None, now_ms: int) -> bool:
        whose, until_ms = self._leases.get(name, (None, 0))
        return whose in {None, reviewer} or until_ms <= now_ms

    def _remove(self, name: str) -> None:
        one = self._open.pop(name, None)
        if one is not None:
            del self._order[bisect_left(self._order, one.position)]
            self._leases.pop(name, None)


@dataclass(frozen=True, slots=True)
class Counts:
    """``waiting``: all; of these ``elsewhere``, before others right now, and ``overdue``. ``groups``: waiting by pool and stratum."""

    waiting: int
    elsewhere: int
    overdue: int
    groups: Counter[tuple[str, str]]
