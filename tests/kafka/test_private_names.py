"""Names of Faust and aiokafka that are no public interface: a new version of either must be read before it is taken.

The Kafka room overrides, calls or sets each of them; ``pyproject.toml`` pins both packages exactly.
"""

import importlib.metadata
import inspect
import re
from pathlib import Path

import aiokafka
import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer import sender
from faust.stores import STORES
from faust.stores.base import Store
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, TransactionManager
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from mode import Service

from router.kafka import pace

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize(("package", "name"), [("faust-streaming", "faust-streaming"), ("aiokafka", r"aiokafka\[.*\]")])
def test_the_installed_version_is_the_one_pinned(package, name):
    pinned = re.search(rf'"{name}==([^"]+)"', PYPROJECT.read_text())
    assert pinned is not None
    assert pinned[1] == importlib.metadata.version(package)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            Consumer,
            [
                "_new_offset",
                "_add_gap",
                "_get_active_partitions",
                "_is_changelog_tp",
                "getmany",
                "subscribe",
                "ack",
                "verify_all_partitions_active",
            ],
        ),
        (driver.Consumer, ["_new_consumer_thread"]),
        (
            driver.AIOKafkaConsumerThread,
            ["_create_worker_consumer", "_ensure_consumer", "highwaters", "getmany", "call_thread"],
        ),
        (
            faust.App,
            [
                "_consumer_wait_empty",
                "in_transaction",
                "on_partitions_assigned",
                "on_rebalance_start",
                "on_rebalance_end",
                "on_start",
                "on_stop",
                "in_recovery",
            ],
        ),
        (Recovery, ["signal_recovery_start"]),
        (Service, ["_crash", "crash", "crash_reason"]),
        (TransactionManager, ["on_rebalance", "on_partitions_revoked", "commit", "on_stop"]),
        (driver.Transport, ["Consumer", "TransactionManager"]),
        (Store, ["persisted_offset", "on_rebalance", "reset_state", "apply_changelog_batch"]),
        (Fetcher, ["_get_actions_per_node"]),
        (FetchResult, ["calculate_backoff"]),
        (sender, ["AddOffsetsToTxnHandler", "AddPartitionsToTxnHandler", "Sender", "log"]),
        (TRANSPORTS, ["aliases"]),
        (STORES, ["aliases"]),
    ],
)
def test_what_is_overridden_or_called_still_exists(owner, names):
    assert [name for name in names if not hasattr(owner, name)] == []


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (Consumer.__init__, ["_acked", "_acked_index", "_unacked_messages", "_read_offset"]),
        (AIOKafkaConsumer, ["_consumer_timeout", "_fetch_max_wait_ms", "_fetcher"]),
        (Fetcher, ["_fetch_max_wait_ms", "_prefetch_backoff"]),
        (AIOKafkaConsumer, ["_client", "_coordinator"]),
        (GroupCoordinator, ["request_rejoin"]),
        (Recovery.__init__, ["active_tps"]),
        (faust.App, ["rebalancing"]),
        (driver.ConsumerRebalanceListener, ["consumer_generation_id"]),
    ],
)
def test_attributes_that_are_read_or_set_are_still_used(owner, names):
    source = inspect.getsource(owner)
    assert [name for name in names if name not in source] == []


def test_the_wait_of_the_next_fetch_is_read_when_it_is_sent():
    """Pacing sets it between fetches."""
    assert "self._fetch_max_wait_ms" in inspect.getsource(Fetcher._get_actions_per_node)


@pytest.mark.parametrize("name", ["AddPartitionsToTxnHandler", "AddOffsetsToTxnHandler"])
def test_the_handlers_that_keep_pace_are_those_that_a_sender_makes(name):
    assert getattr(sender, name).__module__ == pace.__name__
    assert name in inspect.getsource(sender.Sender)


def test_aiokafka_drops_what_was_fetched_of_a_paused_partition_that_is_asked_for():
    """``transport.py`` relies on it for closed gates."""
    assert "paused" in inspect.getsource(FetchResult.check_assignment)
    assert aiokafka.__version__
