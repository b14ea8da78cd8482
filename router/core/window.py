"""Tumbling windows by event time that close once, exactly, whoever was down: the arithmetic of ``stages/account``.

The problem: n lanes count records; the rows of a window are merged elsewhere, by dimensions. A row may be called final
only when no lane will ever add to it. Watermarks guess; here each lane *says* so.

| rule | |
|---|---|
| mark | a lane's mark is the last window end such that it has read everything its sources held ``grace`` after it. It never moves back |
| counting | a record counts in the window of its own time, or, where the mark has passed that, in the window at the mark |
| announcing | a lane announces the mark (to all merging lanes, behind its own counts) when it has counted in a window that the mark has passed, or when another lane announced further than it: an announcement is answered. So traffic anywhere closes the window everywhere, and silence costs nothing |
| answering | goes no further than what was heard or counted: two lanes cannot keep each other awake |
| final | a row is final when all n lanes have announced the end of its window. Nobody can add to it any more |

The mark is not stored, only what was announced: after a restart a lane starts from there, and a late record may fall
into an older window that is still open everywhere. Sums stay exact, a window stays final once.

All times are milliseconds since the epoch; windows start at multiples of their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: A record claiming to come from further ahead than this counts at this distance: it must not hold a window open.
AHEAD_MS = 60_000


def start_of(at_ms: int, size_ms: int) -> int:
    """Start of the window that holds a time.

    >>> start_of(61_500, 60_000)
    60000
    """
    return at_ms - at_ms % size_ms


@dataclass(slots=True)
class Marks:
    """How far one lane has closed windows: ``mark_ms`` for itself, ``announced_ms`` for all."""

    size_ms: int
    grace_ms: int
    announced_ms: int = 0
    mark_ms: int = 0

    def __post_init__(self) -> None:
        self.mark_ms = max(self.mark_ms, self.announced_ms)

    def read_to(self, read_to_ms: int) -> None:
        """All that the sources held at ``read_to_ms`` has been counted."""
        self.mark_ms = max(self.mark_ms, start_of(max(0, read_to_ms - self.grace_ms), self.size_ms))

    def window(self, at_ms: int, now_ms: int) -> int:
        """Start of the window in which a record of ``at_ms`` counts."""
        return start_of(max(min(at_ms, now_ms + AHEAD_MS), self.mark_ms), self.size_ms)

    def due(self, counted: Iterable[int], heard_ms: int) -> int | None:
        """What to announce now, or ``None``.

        ``counted``: starts of the windows that this lane has counted in since it last announced. ``heard_ms``: the
        furthest that any lane announced.
        """
        ends = (start + self.size_ms for start in counted)
        wanted_ms = max((end for end in ends if end <= self.mark_ms), default=0)
        to_ms = min(self.mark_ms, max(wanted_ms, heard_ms))
        return to_ms if to_ms > self.announced_ms else None

    def announce(self, to_ms: int) -> None:
        """``to_ms`` has been announced."""
        self.announced_ms = to_ms


def closed_by_all(announced: Mapping[int, int], lanes: int) -> int:
    """Up to where every one of ``lanes`` lanes has announced; 0 while one has said nothing.

    >>> closed_by_all({0: 120_000, 1: 60_000}, 2), closed_by_all({0: 120_000}, 2)
    (60000, 0)
    """
    return min(announced.values()) if len(announced) >= lanes else 0
