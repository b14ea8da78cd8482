"""A world through the guard's stage: the alerts of the core, to the millisecond, in memory and on Kafka."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.kafka.client import Client
from router.rehearsal.installation import install
from router.rehearsal.kafka import rehearse
from router.rehearsal.play import core, differences, staged, told
from router.rehearsal.run import outcome
from router.simulation.play import Player
from router.simulation.score import score
from router.simulation.world import Version, World
from tests.rehearsal.memory import InMemory

NOWHERE = Client("nowhere:9")
#: A stratum gets bad and comes back; meanwhile another one's users are angry at the pilot.
TRAP = World.model_validate(
    {
        "name": "trap",
        "days": 4,
        "margin": 0.2,
        "requests_per_day": 1000,
        "rollout": [[0, 50]],
        "strata": {"support/any": 0.6, "legal/any": 0.4},
        "dimensions": {"tenant": {"acme": 0.7, "globex": 0.3}},
        "changes": [{"day": 0.25, "back": 1.25, "bad": 0.9, "stratum": "legal/any"}],
        "storms": [{"day": 1.25, "until": 2.5, "per_day": 150, "tenant": "globex", "arm": "pilot"}],
        "reviews": {"per_day": 100},
        "judge": {"pairs_per_day": 100},
    }
)
#: The provider brings out another model behind the name.
SWAP = TRAP.model_copy(update={"name": "swap", "days": 3, "versions": (Version(day=1.5, served_model="small-2"),)})
#: Nobody's tenants, languages that no record tells of, and a judge that finds the pilot worse whatever it sees.
TASTE = World.model_validate(
    {
        "name": "taste",
        "days": 4,
        "requests_per_day": 1000,
        "rollout": [[0, 50]],
        "strata": {"a/any": 0.5, "b/any": 0.5},
        "dimensions": {"language": {"en": 0.6, "ja": 0.4}},
        "changes": [],
        "judges": [{"day": 1, "until": 4, "accuracy": 0.85, "bias": 0.6}],
        "reviews": {"per_day": 200, "delay_h": 2},
    }
)
#: One tenant's invented thumbs, which reviews contradict, and while that is watched a stratum gets bad: what overlaps alarms with it.
DOUBT = World.model_validate(
    {
        "name": "doubt",
        "days": 3.5,
        "requests_per_day": 2000,
        "rollout": [[0, 50]],
        "strata": {"a/any": 0.25, "b/any": 0.25, "c/any": 0.25, "d/any": 0.25},
        "dimensions": {"tenant": {"acme": 0.5, "globex": 0.5}},
        "changes": [{"day": 2.5, "bad": 0.7, "stratum": "a/any"}],
        "storms": [{"day": 1, "until": 3.5, "per_day": 60, "tenant": "globex", "arm": "pilot"}],
        "reviews": {"per_day": 1000, "delay_h": 2},
    }
)


def through_the_stage(world: World, seed: int):
    installation = install(world, NOWHERE, Names())
    return staged(world, seed, InMemory(installation), installation)


@pytest.mark.parametrize(
    ("world", "seed"),
    [(TRAP, 1), (TRAP, 2), (TASTE, 2), (DOUBT, 2), (SWAP, 2)],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_stage_tells_the_alerts_of_the_core(world, seed):
    alone, found = core(world, seed), through_the_stage(world, seed)
    assert told(found), "nothing was told: the worlds show nothing"
    assert told(found) == told(alone)
    assert found.releases == alone.releases
    assert score(found) == score(alone)


def test_where_tenants_are_the_only_dimension_it_is_the_run_of_simulate():
    plain, found = Player(TRAP, 2).play(), core(TRAP, 2)
    assert told(found) == told(plain)
    assert score(found) == score(plain)
    assert found.releases, "nothing was released: the world does not show it"


def test_an_alert_that_only_one_of_both_told_is_named():
    alone = core(TRAP, 1)
    assert differences(alone, alone) == {"core": [], "stage": []}
    day, first = alone.findings[0]
    other = replace(alone, findings=[(day, replace(first, since_ms=first.since_ms + 1)), *alone.findings[1:]])
    found = differences(alone, other)
    assert [len(one) for one in found.values()] == [1, 1]
    assert found["core"][0]["since"] < found["stage"][0]["since"]
    assert outcome(alone, other)["same_as_core"] is False
    assert outcome(alone, alone)["same_as_core"] is True


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"dimensions": {"tenant": {"Acme Inc.": 1.0}}}, "Acme Inc."),
        ({"strata": {"a/b/c": 1.0}, "changes": []}, "a/b/c"),
    ],
)
def test_a_world_that_no_installation_can_have_is_named(changed, named):
    world = World.model_validate(TRAP.model_dump() | {"storms": []} | changed)
    with pytest.raises(ConfigError, match=named):
        install(world, NOWHERE, Names())


async def test_on_kafka_it_is_the_same(client, prefix, tmp_path):
    world = TRAP.model_copy(update={"days": 0.75})  # an alert, an order, some hours without the stratum
    installation = install(world, client, Names(prefix))
    alone = core(world, 1)
    found = await rehearse(installation, client, tmp_path, lambda log: staged(world, 1, log, installation))
    assert told(found)
    assert told(found) == told(alone)
    assert score(found) == score(alone)
