"""Runs stage apps in this process until told to stop or until one of them fails. No command line, no signal magic.

Whoever calls it owns the process: an error means that the process must end (exit code 1) and be started anew. Faust's
threads may outlive a failed app, so end it with ``os._exit`` once logs are flushed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from router.kafka.stage_app import StageApp, create_changelogs

#: A failed app gets this long to leave in order: its partitions then move at once instead of after the session.
LEAVE_S = 5.0


async def run_apps(apps: Sequence[StageApp], until: asyncio.Event, *, started: asyncio.Event | None = None) -> None:
    """Start all, set ``started``, wait for ``until``, stop all in reverse order.

    Raises:
        Exception: what made one of them fail; the others have been stopped.
    """
    try:
        await create_changelogs(apps)
        await asyncio.gather(*(app.start() for app in apps))
        if started is not None:
            started.set()
        await _first(until, *(app.failed for app in apps))
    except BaseException:
        await _leave(apps)
        raise
    failed = next((app for app in apps if app.failed.is_set()), None)
    if failed is None:
        for app in reversed(apps):
            await app.stop()
        return
    await _leave(apps)
    reason = failed.crash_reason
    raise reason if isinstance(reason, Exception) else RuntimeError(f"{failed.stage.name} failed: {reason!r}")


def stop_on_signals(until: asyncio.Event) -> None:
    """SIGTERM and SIGINT set ``until``; a second one ends the process at once, as if nobody listened."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        until.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _leave(apps: Sequence[StageApp]) -> None:
    stops = [asyncio.create_task(app.stop()) for app in reversed(apps)]
    await asyncio.wait(stops, timeout=LEAVE_S)
