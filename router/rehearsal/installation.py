"""The installation in which a world is rehearsed: one pool of a cheap model and a baseline, the world's tenants, the guard's stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pydantic import ValidationError

from router.config import Config
from router.contract.codec import decode_control, encode, to_rfc3339
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import Control
from router.contract.topics import Names
from router.core.guard.alerts import scope_of
from router.core.guard.monitor import Settings
from router.core.guard.unit import HOUR_MS
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.kafka.stage import Stage
from router.simulation.world import World
from router.stages.context import Context
from router.stages.guard import GuardStage

POOL: Final = "simulated"
CHEAP, BASELINE = "cheap", "baseline"
PARTITIONS: Final = 1
#: The world waits for every commit; what comes within a moment shares one.
_LINGER_S: Final = 0.004


@dataclass(frozen=True, slots=True)
class Installation:
    """``guard`` makes ``stage``, and reads what it has stored."""

    context: Context
    guard: GuardStage
    stage: Stage

    @property
    def changelog(self) -> str:
        """The topic of the stage's table."""
        return f"{self.stage.name}-rows-changelog"


def install(world: World, client: Client, names: Names) -> Installation:
    """For a world. The stage looks at its tests every hour, as the simulated core does, and commits as soon as it can.

    Raises:
        ConfigError: the world has a name that no installation can have.
    """
    context = Context(
        config=_config(world), client=client, keyring=Keyring((bytes(32),)), names=names, partitions=PARTITIONS
    )
    guard = GuardStage(context, step_ms=HOUR_MS, strata=world.strata)
    return Installation(context, guard, replace(guard.stage(), linger_s=_LINGER_S, gather_s=0.0))


def _config(world: World) -> Config:
    price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}
    pool = {"models": [CHEAP, BASELINE], "margin": world.margin, "auto_rollback": True}
    tenants: dict[str, dict[str, object]] = {name: {} for name in world.dimensions.get("tenant", {})}
    try:
        found = Config.model_validate(
            {
                "models": {CHEAP: price, BASELINE: price},
                "pools": {POOL: pool},
                "tenants": tenants,
                "guard": {"arl_days": Settings().arl_days},
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"world {world.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for name in world.strata:
        order = Control(
            scope=scope_of(POOL, name), action="rollback", active=True, by="x", reason="x", at=to_rfc3339(0)
        )
        try:
            decode_control(encode(order))
        except BadRecord as error:
            raise ConfigError(
                f"world {world.name}: strata: {name!r} cannot be given back by an order: {error}"
            ) from error
    return found
