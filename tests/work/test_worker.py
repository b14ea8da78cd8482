"""Workers on a real broker against the simulated provider: each work record leaves exactly one outcome."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from router.config import loads
from router.contract.codec import decode, encode, to_rfc3339
from router.contract.errors import ConfigError
from router.contract.records import Control, DeadLetter, Outcome
from router.contract.topics import Names
from router.kafka.admin import TopicSpec, create_topics
from router.work.behaviour import Behaviour, World
from router.work.sim import Simulator, serving
from router.work.worker import new_workers

PATIENCE_S = 30.0
CONFIG = """
[models.small]
provider = "sim"
provider_model = "small-2026"
base_url = "{base_url}"
unpriced = true
concurrency = {concurrency}
[models.elsewhere]
provider = "external"
unpriced = true
[models.keyed]
api_key_env = "POINTSMAN_TEST_NO_SUCH_KEY"
base_url = "http://127.0.0.1:1/v1"
unpriced = true
[pools.auto]
models = ["small"]
"""


PARTITIONS = 4


def wall_ms():
    return time.time_ns() // 1_000_000


class Installation:
    """Topics under a prefix of the test's own, a simulator, and what a worker is built from."""

    def __init__(self, client, prefix, config, simulator):
        self.client, self.config, self.simulator = client, config, simulator
        self.names, self.clock, self.partitions = Names(prefix), wall_ms, PARTITIONS

    async def send(self, topic, values, key=b"k"):
        async with AIOKafkaProducer(max_request_size=4 * 2**20, **self.client.aiokafka()) as producer:
            for number, value in enumerate(values):
                await producer.send(topic, value, key=key, partition=number % PARTITIONS)
            await producer.flush()

    async def work(self, works, lane="interactive"):
        await self.send(self.names.work("small", lane), [encode(work) for work in works])

    async def order(self, action, active=True):
        order = Control(
            scope="model:small", action=action, active=active, by="kim", reason="a test", at=to_rfc3339(wall_ms())
        )
        await self.send(self.names.of("control"), [encode(order)], key=f"model:small/{action}".encode())

    def recover(self):
        self.simulator.world = self.simulator.world.changed({"models": {"small-2026": {"errors": {"429": 0}}}})

    async def read(self, topic, kind, count):
        """Committed records of a topic, at least ``count`` of them."""
        async with asyncio.timeout(PATIENCE_S), AIOKafkaConsumer(
            self.names.of(topic), auto_offset_reset="earliest", isolation_level="read_committed", **self.client.aiokafka()
        ) as consumer:  # fmt: skip
            found = []
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
        return [SimpleNamespace(partition=one.partition, value=decode(kind, one.value)) for one in found]

    async def outcomes(self, count):
        return [one.value for one in await self.read("outcomes", Outcome, count)]


@pytest.fixture
async def install(client, prefix):
    """``async with install(**behaviour) as installation``: everything but the worker."""

    @asynccontextmanager
    async def make(concurrency=16, **behaviour):
        simulator = Simulator(
            World(models={"small-2026": Behaviour(**{"latency_ms": 2.0, "latency_sigma": 0.0} | behaviour)})
        )
        async with serving(simulator) as base_url:
            config = loads(CONFIG.format(base_url=base_url, concurrency=concurrency), environ={})
            installation = Installation(client, prefix, config, simulator)
            found = Names(prefix).all(["small"])
            wanted = {
                name: TopicSpec(partitions=PARTITIONS, cleanup=topic.cleanup, max_bytes=topic.max_bytes)
                for name, topic in found.items()
            }
            await create_topics(client, wanted)
            yield installation

    return make


@asynccontextmanager
async def working(installation):
    async with new_workers(installation, ["small"]) as (worker,):
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await running


async def until(holds):
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_each_work_record_leaves_one_outcome_in_the_partition_it_names(install, new_work):
    works = [new_work(n, outcome_partition=n % 4) for n in range(200)]
    async with install(errors={"503": 0.1, "truncated": 0.1, "cut": 0.1}) as it, working(it):
        await it.work(works[:100])
        await it.work(works[100:], "batch")
        found = await it.read("outcomes", Outcome, 200)
        assert it.simulator.calls.summary()["repeated"] == 0
    assert {one.value.request_id: one.partition for one in found} == {w.request_id: w.outcome_partition for w in works}
    assert len(found) == 200
    assert {one.value.status for one in found} == {"ok", "error", "truncated"}


async def test_unreadable_work_goes_to_the_dead_letter_and_the_rest_goes_on(install, new_work):
    async with install() as it, working(it):
        await it.send(it.names.work("small"), [b"{", None, encode(new_work()), b"\xff\x00"])
        (outcome,) = await it.outcomes(1)
        letters = [one.value for one in await it.read("dead-letter", DeadLetter, 2)]
    assert outcome.status == "ok"
    assert [letter.reason.code for letter in letters] == ["invalid_work", "invalid_work"]


async def test_a_ban_returns_the_queue_and_a_release_serves_again(install, new_work):
    async with install() as it:
        await it.order("ban")
        async with working(it) as worker:
            await it.work([new_work(n) for n in range(20)])
            assert {(o.status, o.error.code) for o in await it.outcomes(20)} == {("error", "banned")}
            assert worker.liveness()["banned"]
            assert it.simulator.calls.summary()["calls"] == 0
            await it.order("ban", active=False)
            await until(lambda: not worker.liveness()["banned"])
            await it.work([new_work(n) for n in range(20, 30)])
            assert [o.status for o in await it.outcomes(30)].count("ok") == 10


async def test_the_queue_of_a_drained_model_is_served(install, new_work):
    async with install() as it:
        await it.order("drain")
        async with working(it):
            await it.work([new_work(n) for n in range(5)])
            assert {o.status for o in await it.outcomes(5)} == {"ok"}


async def test_work_older_than_its_deadline_is_not_called(install, new_work):
    async with install() as it:
        await it.work([new_work(n, deadline_at_ms=wall_ms() - 1000) for n in range(5)])
        await asyncio.sleep(0.2)  # it has waited: nobody is told, settle ends the request at its deadline
        async with working(it):
            await it.work([new_work(n) for n in range(5, 10)])
            assert {o.status for o in await it.outcomes(5)} == {"ok"}
            assert it.simulator.calls.summary()["calls"] == 5


async def test_while_every_endpoint_cools_batch_waits_and_interactive_work_comes_back(install, new_work):
    async with install(errors={"429": 1.0}, retry_after_s=8.0) as it, working(it) as worker:
        await it.work([new_work(1)])
        await it.outcomes(1)
        it.recover()
        await it.work([new_work(n) for n in range(100, 105)], "batch")
        await it.work([new_work(n) for n in range(2, 6)])
        early = await it.outcomes(5)
        assert {o.status for o in early} == {"rate_limited"}
        assert sum(o.endpoint is not None for o in early) == 1
        assert worker.liveness()["endpoints"]["default"]["cooling_s"] > 0
        late = await it.outcomes(10)
    assert sorted(o.status for o in late) == ["ok"] * 5 + ["rate_limited"] * 5


async def test_interactive_work_overtakes_a_full_batch_lane(install, new_work):
    async with install(concurrency=8, latency_ms=300.0) as it, working(it):
        await it.work([new_work(n) for n in range(60)], "batch")
        await until(lambda: it.simulator.calls.summary()["calls"] >= 6)
        await it.work([new_work(n) for n in range(100, 104)])
        found = [int(o.request_id, 16) for o in await it.outcomes(64)]
    assert max(found.index(n) for n in range(100, 104)) < 40


async def test_liveness_tells_calls_in_hand_lag_and_when_standing_still_is_right(install, new_work):
    async with install(errors={"hang": 1.0}) as it, working(it) as worker:
        await until(lambda: worker.liveness()["ready"])
        idle = worker.liveness()
        assert (worker.name, idle["lag"], idle["in_hand"]) == ("worker-small", 0, {"interactive": 0, "batch": 0})
        assert idle["progress"] == pytest.approx(worker.liveness()["progress"], nan_ok=True)
        await it.work([new_work(deadline_at_ms=wall_ms() + 1500)])
        await until(lambda: worker.liveness()["in_hand"]["interactive"] == 1)
        assert worker.liveness()["progress"] != worker.liveness()["progress"]
        await it.outcomes(1)
        await until(lambda: worker.liveness()["in_hand"]["interactive"] == 0)
        await until(lambda: worker.liveness()["lag"] == 0)


@pytest.mark.parametrize(
    ("model", "named"),
    [("nobody", "models.nobody"), ("elsewhere", "models.elsewhere.provider"), ("keyed", "POINTSMAN_TEST_NO_SUCH_KEY")],
)
async def test_a_model_that_cannot_be_served_here_is_a_config_error(model, named, install):
    async with install() as it:
        with pytest.raises(ConfigError, match=named):
            async with new_workers(it, [model]):
                pass
