"""Who may ask: bearer keys, of which only the sha256 is configured.

``web.keys_env`` names a variable with JSON ``[{"sha256", "tenant", "role"}]``. With it every path asks but ``OPEN``, which tell nothing of
any tenant: probes, scrapers and browsers that open a page have no key.

Without it only loopback is served, and nobody is asked. But a browser on this machine also runs other people's pages. So all but ``OPEN`` is served
under a name of this machine only (a page whose own name was pointed at 127.0.0.1 gets nothing), and to no other site's page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from router.config import WebConfig
from router.contract.errors import ConfigError

OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/review"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
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


def keys_of(config: WebConfig, environ: Mapping[str, str] = os.environ) -> list[Key]:
    """The configured keys; none where no variable is named.

    Raises:
        ConfigError: the variable is missing or not such JSON (its content is never shown), or there are no keys and
            ``web.host`` is not loopback.
    """
    if config.keys_env is None:
        _check_loopback(config.host)
        return []
    if config.keys_env not in environ:
        raise ConfigError(f"web.keys_env: variable {config.keys_env} is not set")
    try:
        return _KEYS.validate_json(environ[config.keys_env])
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        raise ConfigError(
            f"web.keys_env: {config.keys_env}{where}: {first['msg'][:80]}; "
            'expected [{"sha256": 64 hex digits, "tenant", "role": viewer, operator or admin}]'
        ) from None


def _check_loopback(host: str) -> None:
    if not _is_loopback(host):
        raise ConfigError(f"web.host {host}: only loopback (127.0.0.1, ::1) is served without web.keys_env")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asks_for(keys: list[Key]) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """An aiohttp middleware: 401 without a known key. Without ``keys``: 421 under a foreign name, 403 for a foreign page."""

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
        asking.set(key)
        return await handler(request)

    return ask


def _foreign(request: web.Request) -> web.Response | None:
    """What to answer to a request that a page of somebody else's may have made; ``None``: go on."""
    host = request.headers.get("Host", "").lower()
    if not _is_loopback(_PORT.sub("", host).strip("[]")):
        return _refusal(421, "wrong_host", "without web.keys_env this answers to localhost, 127.0.0.1 and [::1] only")
    safe, headers = request.method in SAFE, request.headers
    ours = headers.get("Sec-Fetch-Site", "none") in {"same-origin", "none"}
    if not ours and not (safe and headers.get("Sec-Fetch-Mode") == "navigate"):  # following a link is a person's act
        return _refusal(403, "forbidden", "another site's page may not ask this")
    if not safe and headers.get("Origin") not in {None, f"http://{host}", f"https://{host}"}:
        return _refusal(403, "forbidden", "another site's page may not do this")
    return None


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)


def _known(authorization: str, keys: list[Key]) -> Key | None:
    """The key that was shown; all are compared, in constant time."""
    shown = _BEARER.fullmatch(authorization)
    digest = hashlib.sha256(shown[1].encode("utf-8", "surrogateescape")).hexdigest() if shown else ""
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return found[0] if found else None
