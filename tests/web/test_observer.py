"""The observer and the web stage on a real broker: what they see, what they survive, what they cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from router.config import Config, loads
from router.contract.codec import encode
from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.core.keyring import Keyring
from router.core.records import Load
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.embedded import EmbeddedKafka
from router.web.observer import Observer
from router.web.registry import running
from router.web.stage import WebStage
from router.web.watchdog import Watchdog
from tests.web.examples import dead_letter, health, order, weights, window

RING = Keyring((b"k" * 32,))
CONFIG = """
[models.small]
provider = "sim"
unpriced = true
[models.large]
provider = "sim"
unpriced = true
[pools.auto]
models = ["small", "large"]
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def config() -> Config:
    return loads(CONFIG)


@pytest.fixture
async def names(client: Client, prefix: str, config: Config) -> Names:
    found = Names(prefix)
    topics = found.all(list(config.models))
    await create_topics(
        client,
        {
            name: TopicSpec(partitions=2, cleanup=one.cleanup, append_time=one.append_time)
            for name, one in topics.items()
        },
    )
    return found


@pytest.fixture
async def producer(client: Client) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**client.aiokafka()) as found:
        yield found


@pytest.fixture
async def observer(config: Config, names: Names, client: Client, tmp_path: Path) -> AsyncIterator[Observer]:
    found = Observer(config, names, client, tmp_path, now_ms)
    await found.start()
    yield found
    await found.stop()


async def until(read: Callable[[], Any], is_so: Callable[[Any], bool], within_s: float = 20.0) -> Any:
    """What ``read`` gives once ``is_so`` of it, else what it gave last."""
    end_s = time.monotonic() + within_s
    while not is_so(found := read()) and time.monotonic() < end_s:  # noqa: ASYNC110 - what it waits for knows no events
        await asyncio.sleep(0.05)
    return found


def stage_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next((one for one in document["stages"] if one["stage"] == name), {"lag": {"value": None}})


async def test_it_sees_what_the_topics_say(
    observer: Observer, names: Names, producer: AIOKafkaProducer, tmp_path: Path
):
    start_ms = now_ms() // 60_000 * 60_000
    for name, key, record in (
        ("metrics", b"a", window(start_ms - 60_000)),
        ("metrics", b"a", window(start_ms, final=False, requests=3)),
        ("health", b"small", health()),
        ("control", b"model:large/freeze", order("model:large", "drain")),
        ("weights", b"auto/math/hard", weights()),
        ("load", b"settle/0", Load(stage="settle", partition=0, at_ms=now_ms(), read_to_ms=now_ms(), ids=7)),
        ("dead-letter", b"k", dead_letter()),
        ("dead-letter", b"k", dead_letter("forged_token", "feedback")),
    ):
        await producer.send_and_wait(names.of(name), encode(record), key=key)
    await producer.send_and_wait(names.of("metrics"), b"not a record", key=b"a")
    unreadable = "records of our own topics that could not be read: 1"
    found = await until(
        observer.status,
        lambda one: (
            one["dead_letters"]["value"] == 2
            and one["traffic"]["window"]
            and one["verdict"]["reasons"][-1]["what"] == unreadable
        ),
    )
    assert found["traffic"]["requests"] == {"value": 13, "final": 10}
    assert found["requests"]["settled_ids"]["kept"] == 7
    assert found["orders"][0]["scope"] == "model:large"
    assert found["weights"][0]["policy_version"] == "thompson:12"
    assert {one["model"]: one["state"] for one in found["models"]} == {"small": "down", "large": "up"}
    written = await until(lambda: orjson.loads((tmp_path / "status.json").read_bytes()), lambda one: one["weights"])
    assert written["traffic"] == found["traffic"] | {"age_s": written["traffic"]["age_s"]}


async def test_what_comes_while_it_only_glances_is_seen(
    observer: Observer, names: Names, producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("router.web.observer.GLANCES", 1_000_000)
    await until(lambda: observer._glances, lambda left: left > 1)
    await producer.send_and_wait(names.of("health"), encode(health()), key=b"small")
    await producer.send_and_wait(names.of("outcomes"), b"a record that no group has read", key=b"k")
    found = await until(observer.status, lambda one: stage_of(one, "settle")["lag"]["value"] == 1)
    assert {one["model"]: one["state"] for one in found["models"]} == {"small": "down", "large": "up"}


async def test_lag_ends_at_the_last_stable_offset_and_markers_are_none(
    observer: Observer, names: Names, client: Client, prefix: str
):
    topic = names.of("outcomes")
    async with AIOKafkaProducer(**client.aiokafka(), transactional_id=f"{prefix}-writer") as writer:
        async with writer.transaction():
            for _ in range(5):
                await writer.send(topic, b"x", partition=0)
        found = await until(observer.status, lambda one: stage_of(one, "settle")["lag"]["value"])
        stage = stage_of(found, "settle")
        assert (stage["seen"], stage["lag"]["value"]) == (False, 6)  # 5 records and a marker
        consumer = AIOKafkaConsumer(**client.aiokafka(), group_id=names.group("settle"), enable_auto_commit=False)
        async with consumer:
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.commit({TopicPartition(topic, 0): 2})
            found = await until(observer.status, lambda one: stage_of(one, "settle").get("seen"))
            assert stage_of(found, "settle")["lag"]["value"] == 4
            await consumer.commit({TopicPartition(topic, 0): 5})
            found = await until(observer.status, lambda one: stage_of(one, "settle")["lag"]["value"] == 0)
            stage = stage_of(found, "settle")
            assert stage["lag"]["value"] == 0
            partition = next(one for one in stage["partitions"] if one["committed"] == 5)
            assert (partition["end"], partition["last_commit_s"] is not None) == (6, True)
            await writer.begin_transaction()
            await writer.send_and_wait(topic, b"open", partition=0)
            looks = observer.liveness()["turns"]
            await until(observer.liveness, lambda said: said["turns"] >= looks + 3)
            assert stage_of(observer.status(), "settle")["lag"]["value"] == 0
            await writer.commit_transaction()
            found = await until(observer.status, lambda one: stage_of(one, "settle")["lag"]["value"])
            assert stage_of(found, "settle")["oldest_waiting_s"] is not None


async def test_it_waits_for_topics_that_are_not_there_yet(client: Client, prefix: str, config: Config, tmp_path: Path):
    observer = Observer(config, Names(prefix), client, tmp_path, now_ms)
    await observer.start()
    try:
        await until((tmp_path / "status.json").exists, bool)
        assert observer.status()["verdict"]["state"] == "unknown"
        assert observer.liveness()["ready"] is False
        topics = Names(prefix).all(list(config.models))
        await create_topics(
            client, {name: TopicSpec(partitions=1, cleanup=one.cleanup) for name, one in topics.items()}
        )
        found = await until(observer.status, lambda one: one["verdict"]["state"] == "ok")
        assert found["verdict"]["state"] == "ok"
    finally:
        await observer.stop()


async def test_it_survives_the_broker_with_figures_that_grow_old_and_comes_back(config: Config, tmp_path: Path):
    names = Names("llm")
    with EmbeddedKafka(data_dir=tmp_path / "kafka") as broker:
        client = Client(broker.bootstrap)
        topics = names.all(list(config.models))
        await create_topics(
            client, {name: TopicSpec(partitions=1, cleanup=one.cleanup) for name, one in topics.items()}
        )
        async with AIOKafkaProducer(**client.aiokafka()) as producer:
            await producer.send_and_wait(names.of("weights"), encode(weights()), key=b"auto/math/hard")
        observer = Observer(config, names, client, tmp_path / "data", now_ms)
        await observer.start()
        try:
            await until(observer.status, lambda one: one["weights"])
            await asyncio.to_thread(broker.stop)
            found = await until(observer.status, lambda one: one["verdict"]["state"] == "failing")
            assert "has not answered for" in found["verdict"]["reasons"][0]["what"]
            assert found["weights"][0]["weights"] == {"small": 0.93, "large": 0.07}
            assert orjson.loads((tmp_path / "data" / "status.json").read_bytes())["weights"]
            broker.start()  # on this thread: the kernel ties its life to it
            found = await until(observer.status, lambda one: one["verdict"]["state"] == "ok", 40.0)
            assert found["verdict"]["state"] == "ok"
            assert found["weights"]
        finally:
            await observer.stop()


async def test_the_web_stage_serves_status_and_what_every_process_serves(
    client: Client, names: Names, config: Config, tmp_path: Path
):
    config = config.model_copy(update={"web": config.web.model_copy(update={"port": 0})})
    context = SimpleNamespace(config=config, names=names, client=client, keyring=RING, clock=now_ms, data_dir=tmp_path)
    watchdog = Watchdog([], lambda why: None)
    stage = WebStage(context, watchdog)
    await stage.start()
    await watchdog.start()
    try:
        await until(stage.observer.liveness, lambda said: said["ready"])
        async with aiohttp.ClientSession(f"http://127.0.0.1:{stage.server.port}") as session:
            async with session.get("/v1/status") as response:
                document = await response.json()
            assert {"verdict", "models", "stages", "alerts", "weights", "cost", "changes"} <= document.keys()
            assert document["processes"][0]["address"] == f"http://127.0.0.1:{stage.server.port}"
            async with session.get("/metrics") as response:
                text = await response.text()
            assert "pointsman_hour_requests 0.0" in text
            assert 'pointsman_model_state{model="small",state="up"} 1.0' in text
            async with session.get("/healthz") as response:
                assert response.status == 200
    finally:
        await watchdog.stop()
        await stage.stop()
    assert running(tmp_path) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.org", "::"])
def test_only_loopback_is_served(config: Config, host: str, tmp_path: Path):
    config = config.model_copy(update={"web": config.web.model_copy(update={"host": host})})
    context = SimpleNamespace(
        config=config, names=Names(), client=Client("127.0.0.1:1"), keyring=RING, clock=now_ms, data_dir=tmp_path
    )
    with pytest.raises(ConfigError, match="only loopback"):
        WebStage(context, Watchdog([], lambda why: None))
