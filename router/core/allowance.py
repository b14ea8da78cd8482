"""What a lane may spend on shadows in a day (UTC), and how many it has out: a ledger that is told what became of each.

A call is charged what it is expected to cost when it is sent, and what it has cost takes that place when its outcome is priced. What
never comes back is let go when a day ends, so that nothing stands open for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000


@dataclass(slots=True)
class Allowance:
    """Of ``day`` (days since 1970): nano-dollars ``spent``, and ``owed`` for ``calls`` that are out."""

    day: int = 0
    spent: int = 0
    calls: int = 0
    owed: int = 0

    def room(self, now_ms: int, *, limit_nano_usd: int | None, most_calls: int) -> bool:
        """Whether one more may be sent: the limit is passed by the last one, and by what is judged of those that are out."""
        self._turn(now_ms)
        paid = limit_nano_usd is None or self.spent + self.owed < limit_nano_usd
        return paid and self.calls < most_calls

    def charge(self, expected_nano_usd: int, now_ms: int) -> None:
        """One was sent."""
        self._turn(now_ms)
        self.calls += 1
        self.owed += expected_nano_usd

    def correct(self, calls: int, charged: int, cost: int, now_ms: int) -> None:
        """So many came back that had been ``charged`` so much, at this ``cost``."""
        self._turn(now_ms)
        self.calls = max(0, self.calls - calls)
        self.owed = max(0, self.owed - charged)
        self.spent += cost

    def _turn(self, now_ms: int) -> None:
        day = now_ms // DAY_MS
        if day > self.day:
            self.day, self.spent, self.calls, self.owed = day, 0, 0, 0
