"""Many runs of a world, or one of a recorded stream, and the document that ``simulate --json`` prints."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from router.contract.errors import ConfigError
from router.core.guard.monitor import Settings
from router.simulation.play import Player
from router.simulation.recorded import events, is_number, outline
from router.simulation.score import score, summary
from router.simulation.trace import Replay
from router.simulation.world import World

Tell = Callable[[int], None]


def runs(world: World, seeds: int, first_seed: int, tell: Tell) -> dict[str, Any]:
    """The world once a seed, on all cores. ``tell`` gets 1 after each run."""
    numbers = range(first_seed, first_seed + seeds)
    found: list[dict[str, Any]] = []
    workers = max(1, min(len(os.sched_getaffinity(0)), seeds))
    if workers == 1:
        for number in numbers:
            found.append(_run(number, world))
            tell(1)
    else:
        with ProcessPoolExecutor(workers) as pool:
            for one in pool.map(functools.partial(_run, world=world), numbers):
                found.append(one)
                tell(1)
    return {"world": world.name, "margin": world.margin, "runs": found, "summary": summary(found)}


def replay(path: Path, margin: float | None, tell: Tell) -> dict[str, Any]:
    """A recorded stream. ``margin``: else the one of its truth line, else that of ``Settings``. ``tell`` gets 1 an event."""
    known = outline(events(path))
    if not known.strata:
        raise ConfigError(f"{path}: holds no events")
    given = known.truth.get("margin")
    settings = Settings()
    if margin is None and is_number(given) and 0 < given < 1:
        margin = float(given)
    if margin is not None:
        settings = replace(settings, margin=margin)
    played = Replay(known, settings)
    one = played.play(events(path), lambda _: tell(1)).score()
    return {
        "trace": str(path),
        "margin": settings.margin,
        "reference_model": known.reference,
        "strata": sorted(known.strata),
        "runs": [one],
        "summary": summary([one]),
        "rollout": played.course.document(),
    }


def _run(seed: int, world: World) -> dict[str, Any]:
    return score(Player(world, seed).play())
