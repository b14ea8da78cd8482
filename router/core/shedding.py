"""Which interactive requests are refused at once because all models that may answer have too much to do.

A request is refused, with ``overloaded``, when each of its candidates is saturated (``core.saturation``) and has a queue that is longer than its
priority may wait for, or than its deadline leaves time for; also when the model that was chosen cannot answer in time, whatever the others.

| priority | may wait |
|---|---|
| above 0 | ``MORE`` times ``route.max_queue_s`` |
| 0 | ``route.max_queue_s`` |
| below 0 | ``LESS`` times |

So the lowest are refused first, and those above them only when the queue has grown past where the lower ones gave up (partial buffer
sharing: Kroener, "Comparative performance study of space priority mechanisms for ATM networks", 1990). Within a level requests go as slots
get free: the queue stays at the level's limit, so that no slot is ever idle, and what is admitted is what the model can do.

What exceeds its tenant's share (``core.fair``) goes behind, and is refused by how long it would wait there, behind everything; the others by their own queue
alone: however much one tenant sends, it has no other one refused.

What is told of a queue is some seconds old, and in a second ten times the capacity may come. So each process reckons on from what was told: what it has sent
since comes on top, what the model has done meanwhile goes off. That is a Smith predictor ("Closer control of loops with dead time", 1957), and it
keeps the loop from swinging. What other processes sent is unknown, but how much all of them do is told one word later: the own
share of it is followed, and what was sent counts for all.

A word older than ``STALE_MS``, or as far ahead, is none, and without one nothing is refused: capacity is unknown then. Batch requests wait in their topic
and further attempts have been admitted already: neither is refused here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from router.contract.errors import Code
from router.contract.records import Saturation
from router.core.facts import Choice, Refusal, RequestFacts
from router.core.snapshot import HealthFacts

STALE_MS: Final = 5_000
MORE, LESS = 1.5, 0.5
#: What was sent is kept in steps of so much, and for so long: a new word may be of a time long before it, where settle has fallen behind.
STEP_MS: Final = 100
KEPT_MS: Final = 60_000
#: Over how long it is averaged how many go first, in seconds; and the least part of what the model does that is left for those behind.
FIRST_S: Final = 5
LEFT: Final = 0.1
#: Weight of the newest word in the share that is this process's own.
_NEWEST: Final = 0.3


@dataclass(slots=True)
class Queue:
    """Of one model, as one process knows it. ``told``, said at ``said_ms``, is of the time ``told.at_ms``. ``sent``: ``[since, attempts, those of them that went behind]``; ``all_of_us``, ``mine``: attempts between two words, averaged."""

    told: Saturation | None = None
    said_ms: int = 0
    sent: deque[list[int]] = field(default_factory=deque)
    all_of_us: float = 0.0
    mine: float = 0.0

    def send(self, now_ms: int, *, behind: bool = False) -> None:
        """An attempt was sent."""
        while self.sent and self.sent[0][0] < now_ms - KEPT_MS:
            self.sent.popleft()
        if self.sent and now_ms - self.sent[-1][0] < STEP_MS:
            self.sent[-1][1] += 1
            self.sent[-1][2] += behind
        else:
            self.sent.append([now_ms, 1, int(behind)])

    def hear(self, told: Saturation | None, said_ms: int) -> None:
        """A word was read."""
        before, self.told, self.said_ms = self.told, told, said_ms
        if before is None or told is None or not 0 < told.at_ms - before.at_ms <= KEPT_MS // 2:
            return
        done = told.per_s * (told.at_ms - before.at_ms) / 1000.0
        grown = told.queued + told.behind - before.queued - before.behind
        self.all_of_us += _NEWEST * (max(0.0, grown + done) - self.all_of_us)
        self.mine += _NEWEST * (self._sent_since(before.at_ms, told.at_ms) - self.mine)

    def wait_ms(self, now_ms: int, *, behind: bool = False) -> float | None:
        """How long a request that is sent now waits for a slot, ``behind`` all others or not; ``None`` where nobody knows."""
        told = self.told
        if told is None or abs(now_ms - self.said_ms) > STALE_MS:
            return None
        others = max(1.0, self.all_of_us / self.mine) if self.mine > 0.0 else 1.0
        first = others * self._sent_since(told.at_ms, now_ms + 1, behind=False)
        if not behind:
            return max(0.0, 1000.0 * (told.queued + first) / told.per_s - max(0, now_ms - told.at_ms))
        went = others * self._sent_since(told.at_ms, now_ms + 1) - first
        first_per_s = others * self._sent_since(now_ms - 1000 * FIRST_S, now_ms + 1, behind=False) / FIRST_S
        left_per_s = max(told.per_s - first_per_s, LEFT * told.per_s)
        return max(0.0, 1000.0 * (told.queued + told.behind + went) / left_per_s - max(0, now_ms - told.at_ms))

    def _sent_since(self, from_ms: int, to_ms: int, *, behind: bool = True) -> int:
        """Attempts sent in ``from_ms <= t < to_ms``, to ``STEP_MS``; with those that went ``behind`` or without."""
        total = 0
        for at_ms, count, of_them in reversed(self.sent):
            if at_ms < from_ms:
                break
            total += count - (0 if behind else of_them) if at_ms < to_ms else 0
        return total


class Queues:
    """All models; one for all lanes of a process. Bounded by the number of models."""

    def __init__(self, max_queue_s: float) -> None:
        self._max_ms = 1000.0 * max_queue_s
        self._models: dict[str, Queue] = {}

    def hear(self, model: str, told: Saturation | None, said_ms: int) -> None:
        """What ``health`` said of a model at ``said_ms``."""
        if told is not None or model in self._models:
            self._models.setdefault(model, Queue()).hear(told, said_ms)

    def send(self, model: str, now_ms: int, *, behind: bool = False) -> None:
        """An attempt was sent."""
        self._models.setdefault(model, Queue()).send(now_ms, behind=behind)

    def refusal(
        self,
        facts: RequestFacts,
        choice: Choice,
        priority: int,
        health: Mapping[str, HealthFacts],
        *,
        behind: bool = False,
    ) -> Refusal | None:
        """Why the request is not sent; ``None``: it is. ``behind``: where it would wait."""
        open_models = [one.model for one in choice.candidates if one.excluded is None]
        queues = ((model, self._models.get(model)) for model in open_models)
        told = ((model, queue.wait_ms(facts.at_ms, behind=behind)) for model, queue in queues if queue is not None)
        waits = {model: wait for model, wait in told if wait is not None}
        if choice.model not in waits:
            return None
        left_ms = facts.deadline_at_ms - facts.at_ms
        most_ms = self._max_ms * (MORE if priority > 0 else LESS if priority < 0 else 1.0)
        in_time = {model: wait + _p95_ms(health, model) <= left_ms for model, wait in waits.items()}
        if in_time[choice.model] and any(
            model not in waits or (in_time[model] and waits[model] <= most_ms) for model in open_models
        ):
            return None
        retry_s = max(1, ceil(min(waits.values()) / 1000.0))  # what waits now is served by then
        message = f"all models that may answer have too much to do; try again in {retry_s} s"
        return Refusal(Code.OVERLOADED, message, retry_s * 1000)


def _p95_ms(health: Mapping[str, HealthFacts], model: str) -> int:
    found = health.get(model)
    return 0 if found is None else found.p95_ms or 0
