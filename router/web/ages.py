"""Moves the ages of a status document on to the time of its reader. Standard library only: ``status`` is quick."""

from __future__ import annotations

from typing import Any

#: Keys whose values are seconds up to the document's ``at_ms``.
GROWING = frozenset(
    {"age_s", "health_age_s", "ago_s", "for_s", "still_s", "last_commit_s", "oldest_s", "oldest_waiting_s", "uptime_s"}
)
#: A document this old was written by a process that is no more.
STALE_S = 15.0


def later(
    document: dict[str, Any], now_ms: int, start_command: str = "pointsman run web", *, abandoned: bool = False
) -> dict[str, Any]:
    """The same document as seen at ``now_ms``; older than ``STALE_S``, or ``abandoned``, its verdict is ``unknown``.

    ``start_command``: what would make somebody look again. ``abandoned``: nothing runs that would write the next one.
    """
    passed_s = max(0, now_ms - document["at_ms"]) / 1000
    moved: dict[str, Any] = _moved(document, passed_s)
    if abandoned or passed_s > STALE_S:
        was = document["verdict"]["state"]
        why = f"nobody has looked for {passed_s:.0f} s: the web stage is not running here (the verdict then: {was})"
        moved["verdict"] |= {
            "state": "unknown",
            "reasons": [{"severity": "degraded", "what": why, "action": start_command}, *moved["verdict"]["reasons"]],
        }
        moved["next_action"] = start_command
    return moved


def _moved(value: Any, passed_s: float) -> Any:
    if isinstance(value, list):
        return [_moved(item, passed_s) for item in value]
    if isinstance(value, dict):
        return {
            key: round(item + passed_s, 3)
            if key in GROWING and isinstance(item, (int, float))
            else _moved(item, passed_s)
            for key, item in value.items()
        }
    return value


def without_ages(value: Any) -> Any:
    """The same without what moves with time alone: equal when nothing new has been said."""
    if isinstance(value, list):
        return [without_ages(item) for item in value]
    if isinstance(value, dict):
        return {key: without_ages(item) for key, item in value.items() if key not in GROWING | {"at", "at_ms"}}
    return value
