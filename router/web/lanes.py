"""Stages and lanes as a person sees them: many groups and partitions, added up to one row a stage and lane. Pure.

A group's name and its topic say the stage: ``<prefix>-<stage>...``, workers by their work topic. The topic says the lane:
``requests``, ``redispatch`` and ``work.*`` are interactive, with ``.batch`` batch, all others serve both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from router.web.lag import Track
from router.web.view import Place

STAGES = ("route", "settle", "feedback", "account", "learn", "watch")
OURS = frozenset((*STAGES, "worker"))
INTERACTIVE = ("requests", "redispatch")
#: The group of topics that no group has ever committed to: their readers are missing.
NOBODY = ""
#: Who should read a topic, for topics where nobody does.
READER = {
    "requests": "route",
    "requests.batch": "route",
    "redispatch": "route",
    "redispatch.batch": "route",
    "decisions": "settle",
    "outcomes": "settle",
    "feedback": "feedback",
    "feedback.verified": "feedback",
    "feedback.counted": "account",
    "usage": "account",
    "counts": "account",
    "rewards": "learn",
    "health.counts": "watch",
    "guard.evidence": "watch",
    "rollout.evidence": "watch",
    "pairs": "watch",
    "profiles": "watch",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stage in one lane. ``lag`` in records, ages in seconds; ``stuck_s`` of the partition that is worst off."""

    stage: str
    lane: str
    model: str | None
    seen: bool
    lag: int
    waiting_s: float | None
    stuck_s: float | None
    tracks: tuple[tuple[Place, Track], ...]

    @property
    def title(self) -> str:
        name = f"worker {self.model}" if self.model else self.stage
        return name if self.lane == "all" else f"{name} ({self.lane})"

    @property
    def start_command(self) -> str:
        return f"pointsman worker {self.model}" if self.model else f"pointsman run {self.stage}"


def stage_and_lane(prefix: str, group: str, topic: str) -> tuple[str, str, str | None]:
    """``(stage, lane, model)`` of a group on a topic; a stage that is not ours keeps its group's name.

    >>> stage_and_lane("llm", "llm-route-batch", "llm.requests.batch")
    ('route', 'batch', None)
    >>> stage_and_lane("llm", "llm-worker", "llm.work.small")
    ('worker', 'interactive', 'small')
    """
    name = topic.removeprefix(f"{prefix}.")
    if name.startswith("work."):
        model = name.removeprefix("work.").removesuffix(".batch")
        return "worker", "batch" if name.endswith(".batch") else "interactive", model
    lane = "batch" if name.endswith(".batch") else "interactive" if name in INTERACTIVE else "all"
    if group == NOBODY:
        return READER.get(name, "?"), lane, None
    rest = group.removeprefix(f"{prefix}-")
    return next((stage for stage in STAGES if rest.split("-")[0] == stage), group), lane, None


def rows(prefix: str, tracks: Iterable[tuple[Place, Track]], now_ms: int) -> list[Row]:
    """One row a stage and lane, in the order of the flow."""
    groups: defaultdict[tuple[str, str, str | None], list[tuple[Place, Track]]] = defaultdict(list)
    for place, track in sorted(tracks, key=lambda item: item[0]):
        groups[stage_and_lane(prefix, place[0], place[1])].append((place, track))
    flow = {name: at for at, name in enumerate(("route", "worker", *STAGES[1:]))}
    found = [_row(stage, lane, model, held, now_ms) for (stage, lane, model), held in groups.items()]
    return sorted(found, key=lambda row: (flow.get(row.stage, len(flow)), row.model or "", row.lane != "interactive"))


def _row(stage: str, lane: str, model: str | None, held: list[tuple[Place, Track]], now_ms: int) -> Row:
    behind = [track for _, track in held if track.lag]
    waiting_ms = [track.waiting_since_ms for track in behind if track.waiting_since_ms is not None]
    return Row(
        stage=stage,
        lane=lane,
        model=model,
        seen=any(place[0] != NOBODY for place, _ in held),
        lag=sum(track.lag for track in behind),
        waiting_s=(now_ms - min(waiting_ms)) / 1000 if waiting_ms else None,
        stuck_s=max((track.stuck_s(now_ms) for track in behind), default=None),
        tracks=tuple(held),
    )
