"""Which models a person has banned: standing orders ``model:<name>/ban`` of the control topic, followed whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.contract.codec import decode_control, from_rfc3339
from router.contract.errors import BadRecord
from router.kafka.client import Client
from router.kafka.follow import Follower

FOREVER_MS = 2**63


class Bans:
    """Applies control records; ``banned(model)`` says whether an order holds now. ``clock``: wall clock, ms."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._until_ms: dict[str, int] = {}

    def banned(self, model: str) -> bool:
        until_ms = self._until_ms.get(model)
        return until_ms is not None and self._clock() < until_ms

    def apply(self, record: Any) -> None:
        """One record of the control topic. What is no order is passed over: ``watch`` sends it to the dead letter."""
        if record.value is None:
            scope, _, action = (record.key or b"").decode("utf-8", "replace").rpartition("/")
            if action == "ban":
                self._until_ms.pop(scope.removeprefix("model:"), None)
            return
        try:
            order = decode_control(record.value)
        except BadRecord:
            return
        if order.action != "ban":
            return
        model = order.scope.removeprefix("model:")
        if order.active:
            self._until_ms[model] = FOREVER_MS if order.expires_at is None else from_rfc3339(order.expires_at)
        else:
            self._until_ms.pop(model, None)


def follow_bans(bans: Bans, client: Client, control_topic: str) -> Follower:
    """A follower, not started yet, that keeps ``bans`` up to date."""
    return Follower(client, [control_topic], bans.apply, confirms=False)
