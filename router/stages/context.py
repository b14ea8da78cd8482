"""What a stage is built from: configuration, names, client, keys and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from router.config import Config
from router.contract.topics import Names
from router.core.artefact import Artefact
from router.core.slip import Keyring
from router.kafka.client import Client

#: Seconds between two transactions of a partition that nobody waits for. The longer one, with its time for the broker to
#: gather records, is for what people look at (windows, weights), not for what steers the next decision.
LINGER_S = 0.2
PATIENT_LINGER_S = 1.0
GATHER_S = 0.2
#: Of what steers the next decision, well within ``LINGER_S``.
BRIEF_GATHER_S = 0.1


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
    #: The classifier as configured; only route asks for it.
    artefact: Artefact | None = None
    #: Of every topic; 0 until the process has seen them, which is before it builds a stage.
    partitions: int = 0
