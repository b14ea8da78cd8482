"""What a client of the HTTP server may take: connections, time, bytes. A slow or hostile one costs a place for a while, and no memory.

| limit | what happens beyond it |
|---|---|
| connections at a time | a further one is closed at once |
| time until a request's headers are there, also between two requests | the connection is closed |
| time until a body is there | 408 |
| size of a body | 413 |
| compressed bodies | 415: nothing that is sent here is worth it, and a few kilobytes may become gigabytes |
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

MOST_CONNECTIONS = 500
HEADERS_S = 30.0
BODY_S = 30.0


class BodyRefused(Exception):  # noqa: N818 - an answer
    """Becomes an answer with ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Runner(web.AppRunner):
    """Of an application, with the limits of connections: ``most`` at a time, each of which has ``headers_s`` to say what it wants."""

    def __init__(
        self, app: web.Application, *, most: int = MOST_CONNECTIONS, headers_s: float = HEADERS_S, **options: Any
    ) -> None:
        # Not inflated on the way in: the library would do it before anyone could look at the size.
        super().__init__(app, keepalive_timeout=headers_s, auto_decompress=False, **options)
        self._most = most

    @property
    def server(self) -> web.Server | None:
        """What makes the protocol of each new connection."""
        server = super().server
        return None if server is None else cast("web.Server", _Door(server, self._most))


class _Door:
    def __init__(self, server: web.Server, most: int) -> None:
        self._server, self._most = server, most

    def __call__(self) -> asyncio.Protocol:
        return _Full() if len(self._server.connections) >= self._most else self._server()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class _Full(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


async def body_of(request: web.Request, most_bytes: int, within_s: float = BODY_S) -> bytes:
    """The body of a request. Raises ``BodyRefused``: too large, too slow, compressed."""
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise BodyRefused(415, "a body that is not compressed is wanted")
    found = bytearray()
    try:
        async with asyncio.timeout(within_s):
            while request.can_read_body and len(found) <= most_bytes and not request.content.at_eof():
                found += await request.content.read(most_bytes + 1 - len(found))
    except TimeoutError:
        raise BodyRefused(408, f"the body did not come within {within_s:g} s") from None
    if len(found) > most_bytes:
        raise BodyRefused(413, f"at most {most_bytes} bytes")
    return bytes(found)
