"""Alerts as they are in their topic, and what people say of them: acknowledged, closed."""

from __future__ import annotations

from typing import Literal

import orjson

from router.contract.codec import decode, to_rfc3339
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import Alert
from router.contract.topics import Names
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.kafka.scan import scan

Act = Literal["acknowledge", "close"]


async def known(client: Client, prefix: str) -> list[Alert]:
    """The last record of every alert that is kept, the newest last."""
    found: dict[str, Alert] = {}
    async for record in scan(client, [Names(prefix).of("alerts")]):
        try:
            alert = decode(Alert, record.value)
        except BadRecord:
            continue
        found.pop(alert.id, None)
        found[alert.id] = alert
    return list(found.values())


async def act(client: Client, prefix: str, id_: str, what: str, *, by: str, reason: str, now_ms: int) -> Alert:
    """Say it of the open alert whose id begins so.

    Raises:
        ConfigError: there is none, or there are several, or nobody can say that of it.
    """
    names = Names(prefix)
    alerts = [alert for alert in await known(client, prefix) if alert.state != "closed"]
    fitting = [alert for alert in alerts if alert.id.startswith(id_)]
    if len(fitting) != 1:
        there = ", ".join(alert.id[:8] for alert in alerts) or "none"
        raise ConfigError(
            f"{id_}: {'several alerts begin so' if fitting else 'no open alert begins so'}; open: {there}"
        )
    alert = fitting[0]
    if alert.stratum is None and alert.model is not None:
        raise ConfigError(f"{id_}: {alert.signal} of a model closes by itself when the model is well again")
    value = {"id": alert.id, "act": what, "by": by, "reason": reason, "at": to_rfc3339(now_ms)}
    await put(client, names.of("alert.acts"), [Said(alert.id.encode(), orjson.dumps(value))])
    return alert
