"""Ends a process that stands still: exit code 1, so that whoever keeps it running starts it again.

Two halves. A task on the event loop asks the probes once a second. A thread looks whether that task still runs and what
it found: a blocked loop cannot hide. Time is counted in the thread's own turns, so that a process which was stopped and
continued is not blamed for the pause. What a probe raises is a defect of ours and ends the process too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from router.web.standstill import LIMIT_S, Look, judge, shortened, stuck_s

log = logging.getLogger(__name__)

ASK_S = 1.0


class Probe(Protocol):
    """Something in this process that can stand still: a stage's app, a worker, a follower."""

    @property
    def name(self) -> str: ...

    def liveness(self) -> Mapping[str, Any]:
        """How it stands, cheaply and without waiting.

        ``lag``: records below the last stable offset not yet done, ``None`` while that end is not known.
        ``progress``: any value that changes with progress. ``ready``: may it take work? Further figures are shown in
        ``/healthz`` and, if they are numbers, in ``/metrics``.
        """
        ...


@dataclass(slots=True)
class Watched:
    """A probe and what it said lately."""

    probe: Probe
    said: Mapping[str, Any] = field(default_factory=dict)
    history: list[Look] = field(default_factory=list)

    def ask(self, now_s: float) -> None:
        self.said = dict(self.probe.liveness())
        self.history.append(Look(now_s, self.said.get("lag", 0), self.said.get("progress")))
        self.history = shortened(self.history)

    def stalled(self, now_s: float, limit_s: float) -> str | None:
        why = judge(self.history, now_s, limit_s)
        return why and f"{self.probe.name}: {why}"

    @property
    def ready(self) -> bool:
        return bool(self.said.get("ready", False))


class Watchdog:
    """Watches probes; calls ``on_stall(why)``, from a thread of its own, once, when one has stalled for ``limit_s``."""

    def __init__(
        self,
        probes: Iterable[Probe],
        on_stall: Callable[[str], None],
        *,
        limit_s: float = LIMIT_S,
        ask_s: float = ASK_S,
    ) -> None:
        self.watched = [Watched(probe) for probe in probes]
        self._on_stall = on_stall
        self._limit_s = limit_s
        self._ask_s = ask_s
        self._awake_s = 0.0
        self._asked_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="watchdog", daemon=True)

    def add(self, probe: Probe) -> None:
        """Watch one more; from the event loop's thread only."""
        self.watched.append(Watched(probe))

    async def start(self) -> None:
        self._task = asyncio.create_task(self._ask(), name="watchdog")
        self._thread.start()

    async def stop(self) -> None:
        self._ended.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def stalled(self) -> list[str]:
        """Why this process is unhealthy; empty when it is well."""
        now_s = self._awake_s
        found = [why for one in list(self.watched) if (why := one.stalled(now_s, self._limit_s))]
        if (blocked_s := now_s - self._asked_s) >= self._limit_s:
            found.append(f"event loop: blocked for {blocked_s:.0f} s, or a probe has failed")
        return found

    def stuck_s(self, watched: Watched) -> float:
        """For how long a probe has had lag and made no progress."""
        return stuck_s(watched.history, self._awake_s)

    async def _ask(self) -> None:
        while True:
            for one in self.watched:
                one.ask(self._awake_s)
            self._asked_s = self._awake_s
            await asyncio.sleep(self._ask_s)

    def _guard(self) -> None:
        while not self._ended.wait(self._ask_s):
            self._awake_s += self._ask_s
            if why := self.stalled():
                log.critical("stalled: %s", "; ".join(why))
                self._on_stall("; ".join(why))
                return
