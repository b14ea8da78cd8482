"""Runs of worlds, kept: one JSON file (the guard's run) or .npz (what others hear) a world and seed, named by what they depend on.

    python -m benchmarks.guard_parts.runs FOLDER WORLD... --seeds 20       # fills the folder; what is there is not run again

The name has a digest of the guard's, the worlds' and this folder's code, so a changed constant runs anew by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guard_parts.heard import Heard, listen
from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Finding
from router.simulation import world as worlds
from router.simulation.play import START_MS, Player
from router.simulation.score import score, truth_of
from router.simulation.traffic import HOURS, Stream
from router.simulation.world import World

ROOT = Path(__file__).resolve().parents[2]
#: What a run depends on, beside its world.
_GUARD = (
    "detector",
    "effect",
    "events",
    "grid",
    "means",
    "monitor",
    "pairs",
    "past",
    "revalidation",
    "unit",
    "versions",
)
_GUARD_CODE = [ROOT / "router/core/guard" / f"{name}.py" for name in _GUARD]
_WORLD_CODE = [ROOT / "router/simulation" / f"{name}.py" for name in ("play", "traffic", "world")]
#: Shadow pairs a day that others get, in times of the world's: about what the guard buys on a calm day.
PAIRS = 4.5


def guarded(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """The figures of ``simulate``, and of each alarm its effect beside the truth."""
    world = worlds.read(name)
    score_code = [ROOT / "router/simulation/score.py", Path(__file__)]
    file = folder / f"guard-{name}-{seed}-{_digest(world, [*_GUARD_CODE, *_WORLD_CODE, *score_code])}.json"
    if not file.exists():
        story = Player(world, seed).play()
        stream = Stream(world, seed)
        truth = truth_of(stream)
        found = score(story) | {
            "truth": None if truth is None else {"unit": truth.unit, "onset": truth.onset, "passes": truth.passes},
            "releases": [[round(day, 2), unit] for day, unit in story.releases],
            "effects": [_effect(stream, day, one) for day, one in story.findings],
        }
        _write(file, json.dumps(found).encode())
    loaded: dict[str, Any] = json.loads(file.read_bytes())
    return loaded


def heard(folder: Path, name: str, seed: int, pairs: float = PAIRS) -> Heard:
    """What other detectors hear of a world."""
    world = worlds.read(name)
    code = [*_WORLD_CODE, Path(__file__).with_name("heard.py")]
    file = folder / f"heard-{name}-{seed}-{pairs:g}-{_digest(world, code)}.npz"
    if not file.exists():
        one = listen(world, seed, pairs)
        parts = (one.score, one.information, one.raw)
        compact = [part.astype(np.float32) for part in parts]
        temporary = file.with_name(f"half-{file.name}")
        np.savez_compressed(temporary, *compact)
        temporary.rename(file)
    with np.load(file) as found:
        return Heard(list(world.strata), *(found[f"arr_{number}"].astype(float) for number in range(3)))


def _effect(stream: Stream, day: float, finding: Finding) -> dict[str, Any]:
    """``truth``: mean excess in the days that the interval speaks of, by request of the unit."""
    first = math.floor((finding.since_ms - START_MS) / DAY_MS)
    hours = range(max(0, first) * HOURS, max(1, round(day * HOURS)))
    excess = [stream.excess(finding.unit, hour / HOURS) for hour in hours]
    effect = finding.effect
    return {
        "unit": finding.unit,
        "severity": finding.severity,
        "signal": finding.signal,
        "value": effect.value,
        "low": effect.low,
        "high": effect.high,
        "n": effect.pilot + effect.reference,
        "truth": sum(excess) / len(excess) if excess else 0.0,
    }


def _digest(world: World, code: Iterable[Path]) -> str:
    found = hashlib.sha256(world.model_dump_json().encode())
    for file in code:
        found.update(file.read_bytes())
    return found.hexdigest()[:12]


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = file.with_name(f"half-{file.name}")
    temporary.write_bytes(content)
    temporary.rename(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("worlds", nargs="*", metavar="WORLD")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", choices=("guard", "heard"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.worlds or worlds.names():
            if options.only != "heard":
                guarded(options.folder, name, seed)
            if options.only != "guard":
                heard(options.folder, name, seed)


if __name__ == "__main__":
    main()
