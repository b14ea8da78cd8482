"""Runs of a world on an embedded Kafka, each beside the same run of the core alone, and what ``simulate --kafka --json`` prints."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.contract.topics import Names
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.rehearsal.installation import PARTITIONS, install
from router.rehearsal.kafka import rehearse
from router.rehearsal.listener import Log
from router.rehearsal.play import core, differences, staged
from router.simulation.play import Story
from router.simulation.score import score, summary
from router.simulation.world import World

Tell = Callable[[int], None]


def runs(world: World, seeds: int, first_seed: int, tell: Tell) -> dict[str, Any]:
    """The world once a seed, one after the other, on a broker that ends with them. ``tell`` gets 1 a day of a world.

    Raises:
        ConfigError: the world has a name that no installation can have.
        Unavailable: no broker could be started, or the stage ended.
    """
    install(world, Client("nowhere:9"), Names())  # what is wrong with the world is said before a broker starts
    with (
        tempfile.TemporaryDirectory(prefix="pointsman-simulate-") as folder,
        EmbeddedKafka(partitions=PARTITIONS) as kafka,
    ):
        client, data_dir = Client(kafka.bootstrap), Path(folder)
        found = [
            run(world, seed, client, Names(f"simulated-{seed}"), data_dir, tell=tell)
            for seed in range(first_seed, first_seed + seeds)
        ]
    return {"world": world.name, "margin": world.margin, "kafka": True, "runs": found, "summary": summary(found)}


def run(world: World, seed: int, client: Client, names: Names, data_dir: Path, *, tell: Tell) -> dict[str, Any]:
    """One run: its figures as ``simulation.score`` has them, ``same_as_core``, and ``differences``: alerts that only one of both told."""
    installation = install(world, client, names)

    def play(log: Log) -> Story:
        return staged(world, seed, log, installation, lambda _: tell(1))

    story = asyncio.run(rehearse(installation, client, data_dir, play))
    return outcome(core(world, seed), story)


def outcome(of_core: Story, of_stage: Story) -> dict[str, Any]:
    """What the document says of a run."""
    found = differences(of_core, of_stage)
    return score(of_stage) | {"same_as_core": not any(found.values()), "differences": found}
