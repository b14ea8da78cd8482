"""When a producer may begin its next transaction: Kafka turns down what comes while it still writes the last one's markers.

aiokafka asks again after a fixed wait, which must be short: markers take 1-3 ms on a quiet broker. On a busy one they
take a hundred, and four lanes that ask every 2 ms are then half of what keeps it busy. So a refused request waits
longer each time, and a producer remembers how long the markers took: whoever commits through it waits that long, and
gathers more for the next transaction meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from aiokafka.producer import sender

#: After a first refusal, or this share of the pause that was too short; twice as long after each further one, up to the
#: last of these.
RETRY_S = 0.002
RETRY_SHARE = 1 / 8
MAX_RETRY_S = 0.064

#: Nobody waits longer than this of his own accord.
MAX_PAUSE_S = 0.2

#: How much shorter the pause gets with each transaction that was let in at once: so it follows a broker that recovers.
EASE = 0.9


@dataclass(slots=True)
class Pace:
    """What a producer has learned. ``pause_s``: how long after a commit the next transaction is likely to be refused."""

    clock_s: Callable[[], float] = time.monotonic
    pause_s: float = 0.0
    _ended_s: float | None = None
    _refusals: int = 0

    def ended(self) -> None:
        """A transaction has just been committed."""
        self._ended_s = self.clock_s()

    def refused(self) -> float:
        """Returns how many seconds to wait before asking again."""
        self._refusals += 1
        first_s = max(RETRY_S, RETRY_SHARE * self.pause_s)
        return min(first_s * 2.0 ** (self._refusals - 1), MAX_RETRY_S)

    def let_in(self) -> None:
        """A request was taken. If it is the first after a commit and was refused before, the markers took until now."""
        if self._ended_s is not None:
            took_s, self._ended_s = self.clock_s() - self._ended_s, None
            self.pause_s = min(took_s, MAX_PAUSE_S) if self._refusals else EASE * min(took_s, self.pause_s)
        self._refusals = 0


_PACES: WeakKeyDictionary[sender.Sender, Pace] = WeakKeyDictionary()


def pace_of(producer: Any) -> Pace:
    """Of an ``AIOKafkaProducer``; always the same one."""
    return _of(producer._sender)  # noqa: SLF001 - a pinned package


def _of(one: sender.Sender) -> Pace:
    return _PACES.setdefault(one, Pace())


class _Patient:
    """Mixed into aiokafka's handlers of the requests that may be the first of a transaction."""

    _sender: sender.Sender

    def handle_response(self, response: Any) -> float | None:
        wait_s: float | None = super().handle_response(response)  # type: ignore[misc] # of the handler it is mixed into
        pace = _of(self._sender)
        if wait_s is not None:
            return pace.refused()
        pace.let_in()
        return None


class _AddPartitions(_Patient, sender.AddPartitionsToTxnHandler):  # type: ignore[misc] # aiokafka has no types
    pass


class _AddOffsets(_Patient, sender.AddOffsetsToTxnHandler):  # type: ignore[misc]
    pass


def install() -> None:
    """Have every producer of this process keep its pace."""
    sender.AddPartitionsToTxnHandler = _AddPartitions
    sender.AddOffsetsToTxnHandler = _AddOffsets
