"""Up to when a lane has read: the time by which deadlines fire, windows become final and ids expire.

A task asks the broker for the ends of all source partitions, open transactions included (``read_uncommitted`` high
watermarks), and notes the time from *before* the question. A lane whose positions have reached those ends has handled
every record that was there then.

- Positions, not records: transaction markers and aborted records take offsets, so a lane is also told of advances
  without records, in order with the batches.
- A position is known only from the first fetch after the lane opened. Until every source has one, nothing is known.
- An open transaction holds the last stable offset, and with it the position, below the high watermark. So it holds the
  horizon back until it ends.
- One question is kept until it is reached, then the newest is taken: under steady load, when the newest end is never
  reached, the horizon still advances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Where = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Ends:
    """``offsets``: the high watermark of each source partition, as asked for at ``asked_ms`` or later."""

    asked_ms: int
    offsets: Mapping[Where, int]


class Horizon:
    """``read_to_ms``: every record that the lane's sources held then has been handled. 0: not known yet."""

    def __init__(self, sources: Iterable[Where], newest: Callable[[], Ends | None]) -> None:
        self.positions: dict[Where, int] = {}
        self.read_to_ms = 0
        self._sources = tuple(sources)
        self._newest = newest
        self._goal: Ends | None = None

    def look(self) -> int:
        """``read_to_ms``, as far as positions and answers allow now."""
        while True:
            if self._goal is None:
                newest = self._newest()
                if newest is None or newest.asked_ms <= self.read_to_ms or not self._answered(newest.offsets):
                    return self.read_to_ms
                self._goal = newest
            if not self._reached(self._goal.offsets):
                return self.read_to_ms
            self.read_to_ms, self._goal = self._goal.asked_ms, None

    def _reached(self, ends: Mapping[Where, int]) -> bool:
        positions = self.positions
        return all(positions.get(source, -1) >= ends[source] for source in self._sources)

    def _answered(self, ends: Mapping[Where, int]) -> bool:
        """Whether the question was about this lane, too: it may be older than the lane."""
        return all(source in ends for source in self._sources)
