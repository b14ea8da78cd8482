"""Server-sent events out of bytes, as WHATWG HTML 9.2.6 has them. Pure.

Lines end with LF, CR or CRLF; an event with an empty line; ``data`` lines of one event are joined by LF. Comments and all other
fields but ``event`` are skipped, and so is an event that is not ended. What is kept of an unfinished one is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.work.inflate import TooLarge

_BOM = b"\xef\xbb\xbf"


class Events:
    """Reads one stream. An event's lines together are at most ``limit_bytes`` long, else ``TooLarge``."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""
        self._first = True
        self._after_cr = False

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Name (mostly empty) and data of each event that is complete with this piece."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if not piece:
            return
        self._after_cr = piece.endswith(b"\r")
        self._rest += piece
        if len(self._rest) + self._size > self._limit + len(piece):
            raise TooLarge
        if b"\n" not in piece and b"\r" not in piece:
            return
        lines = bytes(self._rest).splitlines(keepends=True)
        self._rest = bytearray() if lines[-1].endswith((b"\n", b"\r")) else bytearray(lines.pop())
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def _line(self, line: bytes) -> Iterator[tuple[bytes, bytes]]:
        if self._first:
            line, self._first = line.removeprefix(_BOM), False
        if not line:
            if self._data:
                yield self._name, b"\n".join(self._data)
            self._data, self._size, self._name = [], 0, b""
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value) + 1
            if self._size > self._limit:
                raise TooLarge
        elif field == b"event":
            self._name = value
