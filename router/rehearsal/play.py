"""A world played through the stage, the same played through the core, and what only one of both told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Guard, Opinion, Place, Settings
from router.core.guard.slices import ALL, PREFIX
from router.core.guard.unit import Arm
from router.rehearsal.installation import Installation
from router.rehearsal.listener import Log, StageListener
from router.simulation.play import START_MS, Player, Story
from router.simulation.traffic import cells_of, units_of
from router.simulation.world import World

_TENANT = f"{PREFIX}tenant="


class TenantGuard(Guard):
    """The core, hearing what the records of an installation tell: strata and tenants, and no other slices."""

    def requests(self, place: Place, arm: Arm, count: int, at_ms: int) -> None:
        if not place.stratum.startswith(PREFIX) or place.stratum.startswith(_TENANT):
            super().requests(place, arm, count, at_ms)

    def opinion(self, opinion: Opinion, now_ms: int) -> None:
        super().opinion(replace(opinion, place=_told(opinion.place)), now_ms)

    def pair(self, place: Place, verdict: float, now_ms: int) -> None:
        super().pair(_told(place), verdict, now_ms)


def core(world: World, seed: int) -> Story:
    """Without the stage. Where a world's only dimension is ``tenant``, or it has none, it is the run of ``simulate``."""
    guard = TenantGuard(Settings(margin=world.margin), world.strata, START_MS)
    return Player(world, seed, listener=guard).play()


def staged(
    world: World, seed: int, log: Log, installation: Installation, tell: Callable[[float], None] | None = None
) -> Story:
    """Through the stage, wherever it runs. ``tell`` gets each day that is reached."""
    tenants = [name for name in units_of(cells_of(world)) if name.startswith(_TENANT)]
    order = (*sorted(world.strata), ALL, *tenants)
    return Player(world, seed, listener=StageListener(log, installation, world.cheap_cost, order)).play(tell)


def told(story: Story) -> list[dict[str, Any]]:
    """The alerts of a run; ``day`` and ``since`` in days since its start, exact to a thousandth of a second.

    ``signal`` and ``since`` of one that was told before, as a ``watch``, are ``None``: the stage tells those with which it was opened, the core the present ones.
    """
    found, open_ = [], set[str]()
    for _, one in story.findings:
        first = one.unit not in open_
        found.append(
            {
                "day": (one.at_ms - START_MS) / DAY_MS,
                "unit": one.unit,
                "severity": one.severity,
                "signal": one.signal if first else None,
                "since": (one.since_ms - START_MS) / DAY_MS if first else None,
            }
        )
        (open_.add if one.severity == "watch" else open_.discard)(one.unit)
    return found


def differences(of_core: Story, of_stage: Story) -> dict[str, list[dict[str, Any]]]:
    """Alerts that only one of both told."""
    mine, others = told(of_core), told(of_stage)
    return {"core": [one for one in mine if one not in others], "stage": [one for one in others if one not in mine]}


def _told(place: Place) -> Place:
    return Place(place.stratum, tuple(name for name in place.slices if name.startswith(_TENANT)), place.tenant)
