"""What a stage is built from: configuration, names, client, keys and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from router.config import Config
from router.contract.topics import Names
from router.core.slip import Keyring
from router.kafka.client import Client

#: Of what nobody waits for a stage makes at most 5 transactions a second and partition.
LINGER_S = 0.2


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that differs between one installation, process or test and another."""

    config: Config
    client: Client
    keyring: Keyring
    names: Names = field(default_factory=Names)
    clock: Callable[[], int] = wall_clock_ms
    data_dir: Path | None = None
