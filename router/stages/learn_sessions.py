"""How many opinions each conversation has given, in learn's table: ``PREFIX`` + 8 bytes -> how many, and until when that is known.

The 8 bytes are a hash of stratum, arm, kind of feedback and session; all of a stratum's rewards meet here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson
import xxhash

from router.core.bandit import Observation
from router.kafka.unit import UnitLike
from router.stages.due import Due

PREFIX: Final = b"\0session/"
#: From its last opinion on; what comes later is as good as another conversation.
KEPT_MS: Final = 14 * 86_400_000
#: Conversations a partition; beyond it the one that was silent longest is forgotten.
MOST: Final = 100_000
FORGOTTEN_A_TICK: Final = 500


class Sessions:
    """Of one lane. ``rows``: those of its table with ``PREFIX``."""

    def __init__(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}
        for key, value in rows:
            count, until_ms, *_ = orjson.loads(value)
            self._known[key] = count, until_ms
        self._due = Due(self._until, self._known)

    def number(self, stratum: str, seen: Observation, session: str, unit: UnitLike) -> int:
        """Which opinion of its conversation this is: 1 for the first."""
        name = f"{stratum}\0{seen.model}\0{seen.kind}\0{session}"
        key = PREFIX + xxhash.xxh3_64_digest(name.encode("utf-8", "surrogatepass"))
        count, until_ms = self._known.get(key, (0, 0))
        if until_ms <= unit.now_ms:
            count = 0
        if key not in self._known and len(self._known) >= MOST and (oldest := self._due.first()):
            self._forget(oldest[1], unit)
        self._known[key] = count + 1, unit.now_ms + KEPT_MS
        self._due.push(unit.now_ms + KEPT_MS, key)
        unit.put(key, orjson.dumps(self._known[key]))
        return count + 1

    def forget(self, unit: UnitLike) -> None:
        """Some of those that were silent for too long."""
        for key in list(self._due.pop_until(unit.now_ms, FORGOTTEN_A_TICK)):
            self._forget(key, unit)

    def _forget(self, key: bytes, unit: UnitLike) -> None:
        if self._known.pop(key, None) is not None:
            unit.put(key, None)

    def _until(self, key: bytes) -> int | None:
        found = self._known.get(key)
        return None if found is None else found[1]
