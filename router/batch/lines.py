"""A batch file before it is sent: every line is looked at once, so that nothing can fail half-way for a reason known before.

Memory: 8 bytes a line (half of its request id), sorted; a bit a line for what is done.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import xxhash

from router.contract.errors import ConfigError
from router.contract.ids import DEFAULT_TENANT, request_id
from router.contract.topics import MIB

#: What a produce request adds to a line of at most a record's size.
MAX_LINE_BYTES = MIB - 4096
MAX_CUSTOM_ID = 256

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Line:
    """One request ready to be produced: ``key`` is the Kafka key, ``half`` the first 64 bits of the request id."""

    key: bytes
    half: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """A whole file: ``halves`` sorted, one a line; ``digest`` names its content and the tenant it is sent for."""

    count: int
    halves: Keys
    digest: str


def read_lines(path: Path, tenant: str | None, start: int = 0) -> Iterator[tuple[int, Line]]:
    """Lines from byte ``start`` on, each with the byte after it; empty lines are passed over.

    Raises:
        ConfigError: a line that no result could come back for; the message has its number (counted from ``start``).
    """
    with path.open("rb") as file:
        file.seek(start)
        for number, raw in enumerate(iter(file.readline, b""), 1):
            start += len(raw)
            if text := raw.strip():
                yield start, parse_line(text, tenant, f"{path}: line {number}")


def parse_line(text: bytes, tenant: str | None, where: str) -> Line:
    """One line of a batch file; ``tenant`` is put where the line names none."""
    if len(text) > MAX_LINE_BYTES:
        raise ConfigError(f"{where}: {len(text):,} bytes, at most {MAX_LINE_BYTES:,} are possible")
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON, at character {error.pos + 1}: {error.msg}") from None
    if not isinstance(request, dict):
        raise ConfigError(f"{where}: a JSON object is expected, not {type(request).__name__}")
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        raise ConfigError(f"{where}: custom_id must be a string of 1 to {MAX_CUSTOM_ID} characters")
    options = request.get("router")
    if tenant is not None and options is None:
        options = request["router"] = {}
    if tenant is not None and isinstance(options, dict) and "tenant" not in options:
        options["tenant"] = tenant
        text = orjson.dumps(request)
    owner, session = _owner(options)
    found = request_id(owner, custom_id)
    return Line(session.encode("utf-8", "surrogatepass") if session else found.encode(), int(found[:16], 16), text)


def _owner(options: Any) -> tuple[str, str | None]:
    """Tenant and session as the router will read them."""
    if not isinstance(options, dict):
        return DEFAULT_TENANT, None
    tenant, session = options.get("tenant", DEFAULT_TENANT), options.get("session")
    usable = isinstance(tenant, str) and 0 < len(tenant) <= 128
    return tenant if usable else DEFAULT_TENANT, session if isinstance(session, str) else None


def scan(path: Path, tenant: str | None) -> Scan:
    """Read the whole file once.

    Raises:
        ConfigError: a line that cannot be sent, or two lines with one ``custom_id``.
    """
    halves, content = array("Q"), xxhash.xxh3_128((tenant or "").encode())
    for _, line in read_lines(path, tenant):
        halves.append(line.half)
        content.update(line.value)
    keys = np.array(halves, dtype=np.uint64)
    del halves
    keys.sort()
    equal = keys[1:][keys[1:] == keys[:-1]]
    if equal.size:
        _refuse_doubles(path, tenant, {int(half) for half in equal})
    return Scan(len(keys), keys, content.hexdigest())


def _refuse_doubles(path: Path, tenant: str | None, suspects: set[int]) -> None:
    """Name the first two lines of one id."""
    seen: dict[int, int] = {}
    for number, (_, line) in enumerate(read_lines(path, tenant), 1):
        if line.half in suspects:
            if line.half in seen:
                raise ConfigError(
                    f"{path}: requests {seen[line.half]} and {number} have the same custom_id: "
                    f"{orjson.loads(line.value)['custom_id']!r}"
                )
            seen[line.half] = number


class Done:
    """Which lines of a scan have their result."""

    def __init__(self, scanned: Scan) -> None:
        self._halves = scanned.halves
        self._done = np.zeros(scanned.count, dtype=np.bool_)
        self.count = 0

    def has(self, half: int) -> bool:
        at = self._find(half)
        return at is not None and bool(self._done[at])

    def add(self, half: int) -> bool:
        """Mark a line; ``False`` when it is no line of this file, or was marked before."""
        at = self._find(half)
        if at is None or self._done[at]:
            return False
        self._done[at] = True
        self.count += 1
        return True

    def _find(self, half: int) -> int | None:
        at = int(np.searchsorted(self._halves, np.uint64(half)))
        return at if at < len(self._halves) and int(self._halves[at]) == half else None
