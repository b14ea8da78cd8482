"""Decompression that stops at a limit: an answer of a few kilobytes must not become gigabytes in memory.

``gzip`` and ``deflate`` only, which is what a request of ours says it accepts. Done here and not by the HTTP client,
because the client would expand a whole chunk before anyone could look at its size.
"""

from __future__ import annotations

import zlib

#: What ``Accept-Encoding`` may say.
ACCEPTED = "gzip, deflate"


class TooLarge(Exception):  # noqa: N818 - an outcome of reading, not a fault of the program
    """More bytes than the limit."""


class Inflater:
    """Collects the bytes of one body, decompressed; ``encoding`` as in ``Content-Encoding``.

    ``feed`` raises ``TooLarge`` beyond ``limit_bytes``, and ``zlib.error`` for damaged data or an unknown encoding.
    """

    def __init__(self, encoding: str, limit_bytes: int) -> None:
        self._out = bytearray()
        self._limit = limit_bytes
        self._taken = 0
        self._encoding = encoding.strip().lower() or "identity"
        if self._encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise zlib.error("unknown content encoding")
        # 47: gzip or zlib, told apart by their first bytes.
        self._stream = None if self._encoding == "identity" else zlib.decompressobj(47)

    def feed(self, chunk: bytes) -> None:
        if self._stream is not None:
            if self._stream.eof:  # zlib would keep what follows, without a limit
                raise zlib.error("bytes after the end of the compressed body")
            chunk = self._stream.decompress(chunk, self._limit + 1 - self._taken - len(self._out))
        self._out += chunk
        if self._taken + len(self._out) > self._limit:
            raise TooLarge

    def take(self) -> bytes:
        """What has come since it was last asked; all of it still counts towards the limit."""
        piece = bytes(self._out)
        self._taken += len(piece)
        self._out.clear()
        return piece

    def finish(self) -> bytes:
        """The whole body; ``zlib.error`` when compressed data ended early."""
        if self._stream is not None and not self._stream.eof:
            raise zlib.error("the compressed body ends early")
        return bytes(self._out)
