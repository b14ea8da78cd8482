"""How far a consumer group is behind in one partition, and since when, judged from outside by its committed offsets.

Rules
- Behind: what lies between the committed offset and the last stable offset. Kafka's transaction markers take offsets
  too, so an idle group stands one or two short of the end: ``verified_empty`` says that a reader found no record there.
- Progress: the committed offset moved, or what is written beside it. Older than the first look nothing is known; then the age counts from that look.
- Waiting since: the oldest unread record lay there when the end was first seen beyond the committed offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Looks kept of a partition whose group stands still; beyond it every second one is forgotten, the oldest never.
MAX_LOOKS = 128


@dataclass(slots=True)
class Track:
    """One partition of one group, look after look. Offsets are Kafka's, times milliseconds since 1970.

    ``committed`` is ``None`` while the group never committed there: then all that is retained (``begin``) waits.
    """

    first_look_ms: int
    committed: int | None = None
    metadata: str = ""
    begin: int = 0
    end: int = 0
    progress_ms: int | None = None
    empty_at: tuple[int, int] | None = None
    _ends: list[tuple[int, int]] = field(default_factory=list)

    def look(self, now_ms: int, committed: int | None, begin: int, end: int, metadata: str = "") -> None:
        """Note what the broker answered at ``now_ms``; ``metadata`` is the commit's (workers keep their holes there)."""
        if self.committed is not None and (committed, metadata) != (self.committed, self.metadata):
            self.progress_ms = now_ms
        self.committed, self.begin, self.end, self.metadata = committed, begin, end, metadata
        if not self._ends or self._ends[-1][1] != end:
            self._ends.append((now_ms, end))
        done = 0
        while done < len(self._ends) and self._ends[done][1] <= self.position:
            done += 1
        del self._ends[:done]
        if len(self._ends) > MAX_LOOKS:
            del self._ends[1::2]

    def verified_empty(self, committed: int, end: int) -> None:
        """A reader went from ``committed`` to ``end`` and met no record."""
        self.empty_at = (committed, end)

    @property
    def position(self) -> int:
        """The first offset that the group has not committed."""
        return self.begin if self.committed is None else max(self.committed, self.begin)

    @property
    def lag(self) -> int:
        """Offsets not yet committed below the last stable offset; 0 where a reader found nothing but markers."""
        if self.empty_at == (self.position, self.end):
            return 0
        return max(0, self.end - self.position)

    @property
    def waiting_since_ms(self) -> int | None:
        """When the oldest unread record was first seen to be there; ``None`` without lag."""
        return self._ends[0][0] if self.lag and self._ends else None

    def still_s(self, now_ms: int) -> float:
        """Seconds without a commit, as far as this observer can know."""
        return max(0, now_ms - (self.progress_ms or self.first_look_ms)) / 1000

    def stuck_s(self, now_ms: int) -> float:
        """Seconds for which records waited and nothing was committed; 0.0 without lag."""
        since_ms = self.waiting_since_ms
        return 0.0 if since_ms is None else max(0, now_ms - max(since_ms, self.progress_ms or 0)) / 1000
