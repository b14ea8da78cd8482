"""The journal of what was decided about traffic, by whom, on what evidence, until when."""

from __future__ import annotations

from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.orders import within
from router.contract.topics import Names
from router.core.records import Entry
from router.kafka.client import Client
from router.kafka.scan import scan


async def entries(client: Client, names: Names, *, scope: str | None = None, since_ms: int = 0) -> list[Entry]:
    """In the order of their times. ``scope``: of exactly this one, or what lies within it (``pool:auto`` holds ``stratum:auto/...``)."""
    found = []
    async for record in scan(client, [names.of("journal")]):
        try:
            entry = decode(Entry, record.value)
            at_ms = from_rfc3339(entry.at)
        except (BadRecord, ValueError):
            continue
        if at_ms >= since_ms and (scope is None or within(entry.scope, scope)):
            found.append((at_ms, record.offset, entry))
    return [entry for *_, entry in sorted(found, key=lambda one: one[:2])]
