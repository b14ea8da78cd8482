"""One embedded broker for the whole session; each test has topic names of its own. No property depends on speed."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

_numbers = itertools.count()


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
