"""A budget of further attempts: of what was asked in the last ten seconds, a share may be asked again.

So a provider that is in trouble gets at most so much more than it would without retries, whatever fails and however long. A few are always allowed:
where ten requests a minute come, a share of them is less than one.

The rule is that of Finagle (``RetryBudget``: 20 % and ten a second, forgotten after ten seconds); here over seconds of the clock, so it can be
told in a sentence. Kept in memory: a lane that moves begins with an empty one, which allows the few.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 10


class Further:
    """Counts of the last ``WINDOW_S`` seconds.

    Args:
        share: further attempts for each first one, 0..1.
        least: of them in a window, whatever the traffic; 0 or more.
    """

    __slots__ = ("_firsts", "_least", "_more", "_seconds", "_share")

    def __init__(self, share: float, least: float) -> None:
        self._share, self._least = share, least
        #: (second, first attempts, further ones), the newest last.
        self._seconds: deque[list[int]] = deque()
        self._firsts = self._more = 0

    def first(self, now_ms: int) -> None:
        """A first attempt was made."""
        self._second(now_ms)[1] += 1
        self._firsts += 1

    def take(self, now_ms: int) -> bool:
        """Whether one more may be made; it then counts."""
        second = self._second(now_ms)
        if self._more + 1 > self._share * self._firsts + self._least:
            return False
        second[2] += 1
        self._more += 1
        return True

    def _second(self, now_ms: int) -> list[int]:
        """That of ``now_ms``, the ones that are too old forgotten. A clock that was set back counts in the newest."""
        now_s, seconds = now_ms // 1000, self._seconds
        if not seconds or seconds[-1][0] < now_s:
            seconds.append([now_s, 0, 0])
        newest = seconds[-1]
        while seconds[0][0] <= newest[0] - WINDOW_S:
            _, firsts, more = seconds.popleft()
            self._firsts -= firsts
            self._more -= more
        return newest
