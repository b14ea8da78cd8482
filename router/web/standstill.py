"""Stalled or not: work is there, and nothing has moved for a set time. Pure.

Faust is known to stay alive and stand still, so no process may judge itself by being able to answer.

- Lag 0: nothing to do, however long. Lag ``None``: the end is not known (no broker): unready, not dead.
- Lag above 0 and the progress mark unchanged for ``limit_s``: stalled. What counts as progress is the probe's to say:
  a stage's commits; a worker's calls that start or end, and a cooling endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Longest silence that is forgiven: longer than a rebalance with recovery, shorter than a person's patience.
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a probe said at ``at_s`` (any clock that never goes back). ``progress`` is any value that changes when work is done."""

    at_s: float
    lag: int | None
    progress: object


def stuck_s(history: Sequence[Look], now_s: float) -> float:
    """Seconds for which each look showed lag and the same progress; 0.0 when the newest shows none. Oldest first."""
    since = _since(history)
    return now_s - since.at_s if since else 0.0


def judge(history: Sequence[Look], now_s: float, limit_s: float = LIMIT_S) -> str | None:
    """Why this is stalled, ``None`` when it is not.

    >>> judge([Look(0.0, 5, 1), Look(31.0, 7, 1)], 31.0)
    'lag 7 and no progress for 31 s'
    """
    still_s = stuck_s(history, now_s)
    return f"lag {history[-1].lag} and no progress for {still_s:.0f} s" if history and still_s >= limit_s else None


def shortened(history: Sequence[Look]) -> list[Look]:
    """The looks that still matter: since when it is stuck, and the newest.

    >>> [look.at_s for look in shortened([Look(float(at), 5, 1) for at in range(100)])]
    [0.0, 99.0]
    """
    since = _since(history)
    return [since, history[-1]] if since and since is not history[-1] else list(history[-1:])


def _since(history: Sequence[Look]) -> Look | None:
    """The oldest of the looks up to the newest that all showed lag and the same progress."""
    found = None
    for look in reversed(history):
        if not look.lag or look.progress != history[-1].progress:
            break
        found = look
    return found
