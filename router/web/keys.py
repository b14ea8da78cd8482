"""Who may ask: bearer keys, of which only the sha256 is configured.

``web.keys_env`` names a variable with JSON ``[{"sha256", "tenant", "role"}]``, ``web.keys_file`` a file, which is read again when it has changed:
so keys come and go without a restart. With either every path asks but ``OPEN``, which tell nothing of any tenant: probes, scrapers and browsers
that open a page have no key. What only reads takes a ``viewer``, what changes anything an ``operator``; ``ROLES`` are the exceptions.

Without them only loopback is served, and nobody is asked. But a browser on this machine also runs other people's pages. So all but ``OPEN`` is served
under a name of this machine only (a page whose own name was pointed at 127.0.0.1 gets nothing), and to no other site's page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from router.config import WebConfig
from router.contract.errors import ConfigError

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/review"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: From the one who may least to the one who may most.
RANKS = ("viewer", "operator", "admin")
#: Paths that take another role than their method says: answers to users' prompts are shown there.
ROLES: Mapping[str, str] = {"/v1/reviews": "operator"}
#: A file of keys is looked at this often, while somebody asks.
LOOK_S = 1.0
_PORT = re.compile(r":[0-9]{1,5}$")
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One configured key. ``role``: what its owner may do, ``viewer`` least."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    tenant: Annotated[str, Field(min_length=1, max_length=128)]
    role: Literal["viewer", "operator", "admin"]


#: Whose request is being handled; ``None`` where there are no keys.
asking: ContextVar[Key | None] = ContextVar("asking", default=None)
_KEYS = TypeAdapter(Annotated[list[Key], Field(min_length=1)])


class KeyFile:
    """The keys of a file, as it is now: going through them looks whether it has changed.

    A change that is no list of keys is logged, and those that were there before stay.
    """

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        """``ConfigError`` when there are no keys in it."""
        self._path = path
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._stamp, self._keys = self._read()

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Key]:
        if self._clock_s() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock_s()
            self._look()
        return iter(self._keys)

    def _look(self) -> None:
        try:
            if self._stamp_of() == self._stamp:
                return
            self._stamp, self._keys = self._read()
        except ConfigError as error:
            log.error("the keys stay as they were: %s", error)  # noqa: TRY400 - said in full
        else:
            log.info("web.keys_file: %d keys from now on", len(self._keys))

    def _read(self) -> tuple[tuple[int, ...], list[Key]]:
        stamp = self._stamp_of()  # before the content: a change between the two is seen at the next look
        try:
            return stamp, _parsed(self._path.read_bytes(), f"web.keys_file: {self._path}")
        except OSError as error:
            raise ConfigError(f"web.keys_file: {self._path}: {(error.strerror or str(error)).lower()}") from None

    def _stamp_of(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise ConfigError(f"web.keys_file: {self._path}: {(error.strerror or str(error)).lower()}") from None
        return found.st_ino, found.st_mtime_ns, found.st_size


Keys = Sequence[Key] | KeyFile


def keys_of(config: WebConfig, environ: Mapping[str, str] = os.environ) -> Keys:
    """The configured keys; none where neither a variable nor a file is named.

    Raises:
        ConfigError: the variable or file is missing or not such JSON (its content is never shown), or there are no keys
            and ``web.host`` is not loopback.
    """
    if config.keys_file is not None:
        return KeyFile(config.keys_file)
    if config.keys_env is None:
        _check_loopback(config.host)
        return []
    if config.keys_env not in environ:
        raise ConfigError(f"web.keys_env: variable {config.keys_env} is not set")
    return _parsed(environ[config.keys_env].encode("utf-8", "surrogateescape"), f"web.keys_env: {config.keys_env}")


def _parsed(text: bytes, named: str) -> list[Key]:
    try:
        return _KEYS.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ConfigError(
            f"{named}{where}: {first['msg'][:80]}; "
            'expected [{"sha256": 64 hex digits, "tenant", "role": viewer, operator or admin}]'
        ) from None


def _check_loopback(host: str) -> None:
    if not _is_loopback(host):
        raise ConfigError(
            f"web.host {host}: only loopback (127.0.0.1, ::1) is served without web.keys_env or web.keys_file"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asks_for(keys: Keys) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """An aiohttp middleware: 401 without a known key, 403 with one of too low a role. Without ``keys``: 421 under a foreign name, 403 for a foreign page."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        if not keys:
            refusal = _foreign(request)
            return refusal if refusal is not None else await handler(request)
        key = _known(request.headers.get("Authorization", ""), keys)
        if key is None:
            return _refusal(401, "unauthorized", "a known bearer key is needed", {"WWW-Authenticate": "Bearer"})
        if RANKS.index(key.role) < RANKS.index(needed := role_for(request.method, request.path)):
            return _refusal(403, "forbidden", f"a key of role {needed} is needed, or of a higher one")
        asking.set(key)
        return await handler(request)

    return ask


def role_for(method: str, path: str) -> str:
    """The lowest role that may ask this."""
    return ROLES.get(path) or ("viewer" if method in SAFE else "operator")


def _foreign(request: web.Request) -> web.Response | None:
    """What to answer to a request that a page of somebody else's may have made; ``None``: go on."""
    host = request.headers.get("Host", "").lower()
    if not _is_loopback(_PORT.sub("", host).strip("[]")):
        return _refusal(421, "wrong_host", "without keys this answers to localhost, 127.0.0.1 and [::1] only")
    safe, headers = request.method in SAFE, request.headers
    ours = headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
    if not ours and not (safe and headers.get("Sec-Fetch-Mode") == "navigate"):  # following a link is a person's act
        return _refusal(403, "forbidden", "another site's page may not ask this")
    if not safe and headers.get("Origin") not in {None, f"http://{host}", f"https://{host}"}:
        return _refusal(403, "forbidden", "another site's page may not do this")
    return None


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)


def _known(authorization: str, keys: Keys) -> Key | None:
    """The key that was shown; all are compared, in constant time."""
    shown = _BEARER.fullmatch(authorization)
    digest = hashlib.sha256(shown[1].encode("utf-8", "surrogateescape")).hexdigest() if shown else ""
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return found[0] if found else None
