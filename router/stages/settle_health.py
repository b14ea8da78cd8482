"""What settle knows of models: the word of ``watch`` in ``llm.health``, which hears all lanes.

The word that a model is down or silent holds until ``until`` only, and is repeated while it is true: should watch die, nothing is
taken away for ever.
"""

from __future__ import annotations

from typing import Any

from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.records import Health
from router.kafka.follow import Follower
from router.stages.context import Context

#: For how long after its rest a model counts as one that is being tried, should nothing more be said of it.
UNWELL_MS = 60_000


class ModelHealth(Follower):
    """A resource of settle, one for all its lanes."""

    def __init__(self, context: Context) -> None:
        self._silent: dict[str, int] = {}
        self._down: dict[str, int] = {}
        self._unwell: dict[str, int] = {}
        self._usual_ms: dict[str, float] = {}
        self._troubled: set[str] = set()
        super().__init__(context.client, (context.names.of("health"),), self._take, confirms=False)

    def silent(self, now_ms: int) -> frozenset[str]:
        """Models that answer nothing now."""
        return _now(self._silent, now_ms)

    def down(self, now_ms: int) -> frozenset[str]:
        """Models that get no new work now while others are left; the silent ones among them."""
        return _now(self._down, now_ms)

    def unwell(self, now_ms: int) -> frozenset[str]:
        """Models that are down, or are being tried again."""
        return _now(self._unwell, now_ms)

    def tail_ms(self, model: str) -> float | None:
        """Below which 95 of 100 calls of the model end; ``None`` while it has a queue, is not well, or nothing is known."""
        return self._usual_ms.get(model)

    def calm(self, model: str) -> bool:
        """Whether nothing is known against asking the model once more: no queue, and it is up."""
        return model not in self._troubled

    def _take(self, record: Any) -> None:
        model = (record.key or b"").decode("utf-8", "replace")
        for known in (self._silent, self._down, self._unwell, self._usual_ms):
            known.pop(model, None)
        self._troubled.discard(model)
        try:
            found = None if record.value is None else decode(Health, record.value)
            if found is None:
                return
            until_ms = None if found.until is None else from_rfc3339(found.until)
        except (BadRecord, ValueError):
            return
        if found.state in {"down", "probing"}:
            self._unwell[found.model] = (until_ms or from_rfc3339(found.at)) + UNWELL_MS
        if until_ms is not None and found.state == "down":
            self._down[found.model] = until_ms
            if found.silent:
                self._silent[found.model] = until_ms
        if found.state != "up" or found.queue_wait_ms:
            self._troubled.add(found.model)
        elif found.p95_ms is not None:
            self._usual_ms[found.model] = found.p95_ms


def _now(until: dict[str, int], now_ms: int) -> frozenset[str]:
    return frozenset(model for model, until_ms in until.items() if now_ms < until_ms) if until else frozenset()
