"""Names that many programs must compute alike: request ids, partitions, draws."""

from __future__ import annotations

import re

import xxhash

#: Model, pool and configured tenant names.
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
DEFAULT_TENANT = "default"
#: The table of all tenants that have none.
OTHER = "other"
DEFAULT_POOL = "auto"


def request_id(tenant: str, custom_id: str) -> str:
    """``xxh3_128(tenant + NUL + custom_id)`` as 32 hex digits.

    A lone surrogate, which JSON can carry but UTF-8 cannot, is hashed by its code point, so any text has an id.

    >>> request_id("acme", "r-1")
    '1462af60e975e034dad89dbdd8b130e1'
    """
    return xxhash.xxh3_128_hexdigest(f"{tenant}\0{custom_id}".encode("utf-8", "surrogatepass"))


def session_hash(tenant: str, session: str | None) -> str | None:
    """By which a conversation is told from others without its name; ``None`` for none.

    >>> session_hash("acme", "s-9")
    'bb7ba21ee29de252'
    """
    if not session:
        return None
    return xxhash.xxh3_64_hexdigest(f"{tenant}\0{session}".encode("utf-8", "surrogatepass"))


def partition_of(key: bytes, partitions: int) -> int:
    """``xxh3_64(key) mod n``: where decisions and outcomes of a request id lie, rewards of a stratum, and so on."""
    return xxhash.xxh3_64_intdigest(key) % partitions
