"""One embedded broker for the whole session; each test has topic names of its own. No property depends on speed.

Run by several processes (``make pytest``: two), those that start programs stay together in one of them: they need the cores. They are the longest
chain, so they come first, then what needs the broker; what is left at the end is small, and goes to whichever process is free.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from router.kafka.client import Client
from router.kafka.embedded import QUICK_JVM, EmbeddedKafka

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

#: Optional to jsonschema, which makes 38 parsers of it when it is imported, in each process of pytest: 2.5 s for formats that no schema here has.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

_numbers = itertools.count()

#: Folders whose tests start programs, and share what they start.
_TOGETHER = frozenset({"e2e", "faults"})

#: The broker of an installation lives for minutes here: what its optimising compiler takes, a third of a start, does not come back.
os.environ.setdefault("JAVA_TOOL_OPTIONS", " ".join(QUICK_JVM))


class Scheduling(LoadScopeScheduling):
    """A file's tests stay together, and those of the folders ``_TOGETHER`` as if they were one file."""

    def _split_scope(self, nodeid: str) -> str:
        return "programs" if _is_program(nodeid) else _file(nodeid)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _is_program(nodeid: str) -> bool:
    return not _TOGETHER.isdisjoint(_file(nodeid).split("/"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    config.option.loadscopereorder = False  # else those with most tests come first, which are the quickest
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Programs first: those of their own before those that share an installation, which else would stand idle beside them."""
    with_broker = {_file(item.nodeid) for item in items if "broker" in item.fixturenames}

    def rank(item: Any) -> int:
        if _is_program(item.nodeid):
            return 1 if "system" in item.fixturenames else 0
        return 2 if _file(item.nodeid) in with_broker else 3

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Commands name their configuration and broker in the environment, for the processes that they start: not for the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


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
