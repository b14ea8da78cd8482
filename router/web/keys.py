"""Who may ask: bearer keys, of which only the sha256 is configured.

``web.keys_env`` names a variable with JSON ``[{"sha256", "tenant", "role"}]``. Without it only loopback is served, and
nobody is asked. With it every path asks but ``OPEN``, which tell nothing of any tenant and which probes and scrapers need.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from aiohttp import web
from pydantic import Field, TypeAdapter, ValidationError

from router.config import WebConfig
from router.contract.errors import ConfigError

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One configured key. ``role``: what its owner may do, ``viewer`` least."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    tenant: Annotated[str, Field(min_length=1, max_length=128)]
    role: Literal["viewer", "operator", "admin"]


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
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(f"web.host {host}: only loopback (127.0.0.1, ::1) is served without web.keys_env")


def asks_for(keys: list[Key]) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """An aiohttp middleware: 401 without a known key, 200 and the like with one. Without ``keys`` nobody is asked."""

    @web.middleware
    async def ask(request: web.Request, handler: Handler) -> web.StreamResponse:
        if keys and request.path not in OPEN and _known(request.headers.get("Authorization", ""), keys) is None:
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response(
                {"error": {"code": "unauthorized", "message": "a known bearer key is needed"}},
                status=401,
                headers=headers,
            )
        return await handler(request)

    return ask


def _known(authorization: str, keys: list[Key]) -> Key | None:
    """The key that was shown; all are compared, in constant time."""
    shown = _BEARER.fullmatch(authorization)
    digest = hashlib.sha256(shown[1].encode("utf-8", "surrogateescape")).hexdigest() if shown else ""
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return found[0] if found else None
