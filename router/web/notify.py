"""Alerts leave the system: each record of ``alerts`` is posted to a webhook, and to an Alertmanager in its own format.

At least once: the group's offset is committed after the answer, so a record may come twice after a crash; its ``id`` and ``state`` tell. What is not
taken (no answer, 5xx, 429) is tried again with growing pauses, in order; a 3xx or 4xx is logged and left. Runs in the web process, where a URL is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import aiohttp
import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from router.config.kinds import masked
from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.records import Alert
from router.contract.topics import Names
from router.kafka.client import Client

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Notifier:
    """``start`` and ``stop``. ``webhook_url``, ``alertmanager_url``: ``None`` where there is none."""

    def __init__(self, client: Client, names: Names, webhook_url: str | None, alertmanager_url: str | None) -> None:
        self._client, self._topic, self._group = client, names.of("alerts"), names.group("notify")
        targets: list[tuple[str, Callable[[Alert], Any]]] = []
        if webhook_url:
            targets.append((webhook_url, as_webhook))
        if alertmanager_url:
            targets.append((f"{alertmanager_url.rstrip('/')}/api/v2/alerts", as_alertmanager))
        self._targets = targets
        self._task: asyncio.Task[None] | None = None
        self.sent = 0

    async def start(self) -> None:
        """Begin, if there is somebody to tell."""
        if self._targets:
            self._task = asyncio.create_task(self._forever())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _forever(self) -> None:
        while True:
            try:
                await self._one_connection()
            except (KafkaError, OSError) as error:
                log.warning("alerts are not read: %r", error)
            await asyncio.sleep(_FIRST_PAUSE_S)

    async def _one_connection(self) -> None:
        consumer = self._client.consumer(self._topic, group_id=self._group)
        await consumer.start()
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
                async for record in consumer:
                    await self._tell(session, record.value)
                    await consumer.commit({TopicPartition(record.topic, record.partition): record.offset + 1})
        finally:
            await consumer.stop()

    async def _tell(self, session: aiohttp.ClientSession, value: bytes | None) -> None:
        try:
            alert = decode(Alert, value)
        except BadRecord:
            return
        for url, body_of in self._targets:
            await self._post(session, url, orjson.dumps(body_of(alert)))
        self.sent += 1

    async def _post(self, session: aiohttp.ClientSession, url: str, body: bytes) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            why = ""
            try:
                headers = {"Content-Type": "application/json"}
                # Nobody but the configuration says where an alert goes: a redirect is a refusal.
                async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    if answer.status < 300:
                        return
                    why = f"HTTP {answer.status}"
                    if answer.status < 500 and answer.status != 429:
                        log.error("an alert was refused by %s: %s", masked(url), why)
                        return
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = type(error).__name__  # its text may hold the whole address
            log.warning("an alert was not taken by %s (%s); again in %.0f s", masked(url), why, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def as_webhook(alert: Alert) -> dict[str, Any]:
    """The record itself, and one line for a chat."""
    return {"text": headline(alert), "alert": asdict(alert)}


def as_alertmanager(alert: Alert) -> list[dict[str, Any]]:
    """One alert of Alertmanager's API, version 2; a closed one has an end."""
    labels = {
        "alertname": f"pointsman_{alert.signal}",
        "severity": alert.severity,
        "pool": alert.pool,
        "stratum": alert.stratum,
        "model": alert.model,
    }
    annotations = {
        "summary": headline(alert),
        "command": alert.action.command,
        "undo": alert.action.undo,
        "state": alert.state,
        "id": alert.id,
    }
    found: dict[str, Any] = {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": alert.since,
    }
    if alert.state == "closed":
        found["endsAt"] = alert.at
    return [found]


def headline(alert: Alert) -> str:
    """What is wrong, where, and what to do, in one line."""
    where = "/".join(part for part in (alert.pool, alert.stratum, alert.model) if part) or "all"
    what = alert.evidence.get("summary") or alert.evidence.get("reason") or alert.signal
    done = alert.action.taken or alert.action.proposed or ""
    return f"[{alert.severity}, {alert.state}] {where}: {what}" + (f". {done[:1].upper()}{done[1:]}." if done else "")
