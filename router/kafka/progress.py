"""What of a partition is done when calls finish in any order: a low-water offset, and the holes above it.

Not as a list of what is done: "all below ``upto`` is done but these holes". Holes are calls in hand, so the metadata of
a commit stays short however long one call holds the low-water offset back. Values in, values out.
"""

from __future__ import annotations

from aiokafka.structs import OffsetAndMetadata


class Progress:
    """``committed`` and ``metadata``: an earlier owner's mark."""

    def __init__(self, committed: int, metadata: str = "") -> None:
        upto, *holes = (committed + int(number) for number in metadata.split() or ["0"])
        self._next = committed  # the first offset that was not read here
        self._upto, self._holes = upto, holes
        self._open: dict[int, None] = {}  # in hand; ascending, as they were read

    @property
    def wanted(self) -> int:
        """The next offset worth reading."""
        return next((hole for hole in self._holes if hole >= self._next), max(self._next, self._upto))

    def start(self, offset: int) -> bool:
        """Whether the call of the record just read is to be made; ``False``: it was made, or is in hand."""
        if offset < self._next:
            return False
        self._next = offset + 1
        if offset < self._upto and offset not in self._holes:
            return False
        self._open[offset] = None
        return True

    def finish(self, offset: int) -> None:
        del self._open[offset]

    def mark(self) -> OffsetAndMetadata:
        """The low-water offset, and ``upto hole hole ...`` relative to it."""
        holes = [*self._open, *(hole for hole in self._holes if hole >= self._next)]
        upto = max(self._next, self._upto)
        low = holes[0] if holes else upto
        return OffsetAndMetadata(low, " ".join(str(offset - low) for offset in (upto, *holes)) if holes else "")
