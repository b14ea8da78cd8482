"""``explain`` and ``replay`` read a real cluster."""

import pytest
from aiokafka import AIOKafkaProducer

from router.contract.codec import encode
from router.contract.ids import partition_of
from router.contract.records import Origin
from router.contract.topics import Names
from router.core.audit import decision_record
from router.core.decide import decide
from router.history.explain import explain
from router.history.reader import account_of, replay_all
from router.history.replay import Verdict
from router.kafka import admin
from tests.core.routing import facts, snapshot

ORIGIN = Origin(topic="llm.requests", partition=0, offset=0)
WORLD = snapshot()
IDS = [f"{number:032x}" for number in range(40)]


def decision(request_id):
    asked = facts(request_id)
    record = decision_record(
        asked, decide(asked, WORLD), snapshot_version=WORLD.version, lane="interactive", origin=ORIGIN
    )
    return encode(record)


@pytest.fixture
async def names(client, prefix):
    names = Names(prefix)
    topics = ["decisions", "outcomes", "results", "snapshots"]
    await admin.create_topics(client, {names.of(topic): admin.TopicSpec(partitions=4) for topic in topics})
    producer = AIOKafkaProducer(**client.aiokafka())
    await producer.start()
    await producer.send(names.of("snapshots"), WORLD.canonical(), key=WORLD.version.encode())
    for request_id in IDS:
        value, key = decision(request_id), request_id.encode()
        if request_id == IDS[7]:
            value = value.replace(b'"tenant":"acme"', b'"tenant":"acmf"')
        await producer.send(names.of("decisions"), value, key=key, partition=partition_of(key, 4))
    await producer.stop()
    return names


async def test_every_decision_is_replayed_and_the_changed_one_is_found(client, names):
    found = await replay_all(client, names)
    assert found.counts == {Verdict.IDENTICAL: len(IDS) - 1, Verdict.DIFFERENT: 1}
    assert [one.request_id for one in found.different] == [IDS[7]]


async def test_a_request_is_explained_from_its_partition(client, names):
    account = await account_of(client, names, IDS[3])
    assert len(account.decisions) == 1
    assert any("attempt 1 ->" in line for line in explain(account))
    assert "past retention" in explain(await account_of(client, names, "f" * 32))[1]
