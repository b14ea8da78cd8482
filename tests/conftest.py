"""One embedded broker for the whole session; each test has topic names of its own. No property depends on speed.

Run by several processes (``make pytest``: two), tests that start programs or a broker stay together in one of them, in their order: they need the cores.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_numbers = itertools.count()

#: Folders whose tests start programs, and share what they start.
_TOGETHER = frozenset({"e2e", "faults", "kafka"})
#: Fixtures that start a broker.
_STARTERS = frozenset({"broker", "client", "system"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        started = not _STARTERS.isdisjoint(getattr(item, "fixturenames", ()))
        group = "programs" if started or folder in _TOGETHER else str(item.path.relative_to(here))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def broker() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def client(broker: EmbeddedKafka) -> Client:
    return Client(broker.bootstrap)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Unique to the test: topics and groups that start with it meet nobody else's."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    return f"{name}-{os.getpid()}-{next(_numbers)}"
