"""Ticks of lanes at rest: one timer for all lanes of an event loop.

A lane that has nothing to do spends a timer, a future and two steps of its task around each tick, several times what the
tick itself takes, and an installation has some thirty lanes. So a lane at rest leaves its ticks to this module, and its
task sleeps until something comes of one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

#: Ticks at rest are due at whole multiples of this: what rests shares them, whenever it lay down.
REST_TICK_S = 0.090

#: Raises nothing: whoever rests keeps its error for its own task.
Tick = Callable[[], None]


class Rest:
    """Ticks those that have lain down, until they get up. The timer runs while there are any."""

    def __init__(self) -> None:
        self._resting: set[Tick] = set()
        self._alarm: asyncio.TimerHandle | None = None

    def lie_down(self, tick: Tick) -> None:
        self._resting.add(tick)
        if self._alarm is None:
            self._set_alarm()

    def get_up(self, tick: Tick) -> None:
        self._resting.discard(tick)
        if not self._resting and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _set_alarm(self) -> None:
        now_s = time.perf_counter()
        wait_s = (now_s // REST_TICK_S + 1) * REST_TICK_S - now_s
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        for tick in tuple(self._resting):
            tick()
        self._set_alarm()


_rests: WeakKeyDictionary[asyncio.AbstractEventLoop, Rest] = WeakKeyDictionary()


def rest_of_loop() -> Rest:
    """The one of the running event loop."""
    return _rests.setdefault(asyncio.get_running_loop(), Rest())
