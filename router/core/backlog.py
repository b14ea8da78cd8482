"""What is asked of each model and not answered yet: counted by lanes of settle, put together by ``watch``.

Settle knows each open attempt, so what it says needs no word of the workers and holds for workers in any language, in any
number, in any group. Two things follow from it:

- Nobody answers: the oldest attempt has waited for so long, and no outcome of the model, of whatever kind, was written meanwhile.
  Both are told up to ``read_to_ms``: what lies unread before settle is no silence.
- How long one more request would wait: ``wait_ms``, by Little's law (L = lambda W; Little, "A proof for the queuing
  formula", 1961), from open interactive attempts and the rate at which attempts end. Workers take interactive work first, so batch does not count, nor
  does what was sent ``behind``, to the batch topic, because it exceeds its tenant's share.

A lane whose last word is older than ``STALE_MS`` is not heard: it died, or has nothing open.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import sqrt

from router.contract.releases import by_name
from router.core.settlement import Row

TELL_EVERY_MS = 1_000
STALE_MS = 5_000

#: Attempt of a request: 16 bytes of id, number.
Key = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Backlog:
    """One model in one partition of settle. Times in ms since 1970.

    ``oldest_ms``: when the oldest open attempt was first seen, ``oldest_interactive_ms`` of the interactive ones; 0 without any.
    ``answered_ms``: of the last outcome, 0 before the first. ``behind``: interactive ones that went behind, which are not in ``interactive``.
    """

    partition: int
    at_ms: int
    read_to_ms: int
    interactive: int
    batch: int
    oldest_ms: int
    answered_ms: int
    oldest_interactive_ms: int = 0
    behind: int = 0
    oldest_behind_ms: int = 0

    def to_json(self) -> dict[str, int]:
        """An object, where ``Evidence`` is a list: both travel in ``health.counts``. What an earlier release does not know only where it says something."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value or name not in ("behind", "oldest_behind_ms")}

    @classmethod
    def from_json(cls, value: dict[str, int]) -> Backlog:
        """The inverse of ``to_json``, also of another release's; ``TypeError`` for anything else."""
        made = by_name(cls, value)
        if not all(type(getattr(made, name)) is int for name in cls.__slots__):
            raise TypeError("a backlog is made of whole numbers")
        return made


class Backlogs:
    """The open attempts of one partition by model, oldest first. Every change of a row comes through ``changed``."""

    def __init__(self) -> None:
        self._open: dict[str, dict[Key, tuple[int, str]]] = {}
        self._lanes: Counter[tuple[str, str]] = Counter()
        self._answered: dict[str, int] = {}
        self._told: set[str] = set()
        self._told_ms = 0
        self._first_ms = 0

    def changed(self, id16: bytes, old: Row | None, new: Row | None, now_ms: int) -> None:
        """A row is another now; ``now_ms`` 0: nobody knows since when its attempts wait, so they do from the first ``tell`` on."""
        before, after = _open_tries(old), _open_tries(new)
        if before == after:
            return
        for number, model in before - after:
            kept = self._open[model].pop((id16, number))
            self._lanes[model, kept[1]] -= 1
        for number, model in after - before:
            assert new is not None
            lane = "behind" if new.slip.behind else new.slip.lane
            self._open.setdefault(model, {})[id16, number] = (now_ms, lane)
            self._lanes[model, lane] += 1

    def answered(self, model: str, at_ms: int) -> None:
        """An outcome was read that was written at ``at_ms``."""
        if model in self._open:
            self._answered[model] = max(at_ms, self._answered.get(model, 0))

    def waiting(self, model: str) -> list[bytes]:
        """Ids of the requests with an open attempt on the model, interactive ones first, then the oldest."""
        found = self._open.get(model, {}).items()
        return [
            id16 for lane in ("interactive", "behind", "batch") for (id16, _), (_, of_lane) in found if of_lane == lane
        ]

    def tell(self, partition: int, now_ms: int, read_to_ms: int) -> dict[str, Backlog]:
        """Each model with open attempts, and once more each that had some; nothing while it is too soon."""
        self._first_ms = self._first_ms or now_ms
        if abs(now_ms - self._told_ms) < TELL_EVERY_MS:
            return {}
        busy = {model for model, keys in self._open.items() if keys}
        told = {model: self._backlog(model, partition, now_ms, read_to_ms) for model in sorted(busy | self._told)}
        self._told = busy
        if told:
            self._told_ms = now_ms
        return told

    def _backlog(self, model: str, partition: int, now_ms: int, read_to_ms: int) -> Backlog:
        found = self._open.get(model, {}).values()
        oldest = next(iter(found), None)
        return Backlog(
            partition=partition,
            at_ms=now_ms,
            read_to_ms=read_to_ms,
            interactive=self._lanes[model, "interactive"],
            batch=self._lanes[model, "batch"],
            oldest_ms=0 if oldest is None else oldest[0] or self._first_ms,
            answered_ms=self._answered.get(model, 0),
            oldest_interactive_ms=self._oldest_ms(model, "interactive"),
            behind=self._lanes[model, "behind"],
            oldest_behind_ms=self._oldest_ms(model, "behind"),
        )

    def _oldest_ms(self, model: str, lane: str) -> int:
        if not self._lanes[model, lane]:
            return 0
        seen = next(seen for seen, of_lane in self._open[model].values() if of_lane == lane)
        return seen or self._first_ms


@dataclass(slots=True)
class Queue:
    """A model over all partitions, as last told."""

    lanes: dict[int, Backlog] = field(default_factory=dict)

    def take(self, backlog: Backlog) -> None:
        self.lanes[backlog.partition] = backlog

    def fresh(self, now_ms: int) -> list[Backlog]:
        return [each for each in self.lanes.values() if now_ms - each.at_ms <= STALE_MS]

    def silent_ms(self, now_ms: int) -> int:
        """For how long an attempt has waited without any outcome of the model; 0 where none waits."""
        answered_ms = max((each.answered_ms for each in self.lanes.values()), default=0)
        waits = (each.read_to_ms - max(each.oldest_ms, answered_ms) for each in self.fresh(now_ms) if each.oldest_ms)
        return max(0, max(waits, default=0))

    def answers_since(self, at_ms: int) -> bool:
        """Whether an outcome of any kind was written later than that."""
        return any(each.answered_ms > at_ms for each in self.lanes.values())

    def open(self, now_ms: int) -> int:
        return sum(each.interactive + each.behind + each.batch for each in self.fresh(now_ms))

    def wait_ms(self, now_ms: int, *, ended: int, seconds: int, call_ms: float) -> float:
        """How long an interactive request waits for a free slot, at least.

        Of the open ones those in hand are no queue: as many as rate and call time make, and two standard deviations of chance
        more, for their number is Poisson where slots are free.

        Args:
            now_ms: The time.
            ended: Attempts that ended in the last ``seconds``; 0 gives 0, for nothing is known then.
            seconds: See there; above 0.
            call_ms: Mean time of a call itself.
        """
        if ended == 0:
            return 0.0
        per_ms = ended / (1000.0 * seconds)
        in_hand = per_ms * call_ms
        interactive = sum(each.interactive for each in self.fresh(now_ms))
        return max(0.0, (interactive - in_hand - 2.0 * sqrt(in_hand)) / per_ms)


def _open_tries(row: Row | None) -> set[tuple[int, str]]:
    return set() if row is None else {(each.number, each.model) for each in row.tries if each.status is None}
