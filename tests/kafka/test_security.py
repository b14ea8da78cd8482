"""SASL/SCRAM over TLS, from one end to the other: stage, follower, worker, topics."""

import asyncio

import pytest
import trustme
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives import serialization

from router.contract.errors import Unavailable
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.bodies import BodyReader
from router.kafka.calls import Outcome, Worker
from router.kafka.client import Client, Security
from router.kafka.embedded import EmbeddedKafka
from router.kafka.embedded_settings import ScramTls
from router.kafka.follow import Follower
from router.kafka.lane import Stage
from router.kafka.table import DictRows
from tests.kafka.support import fill, running, until, until_committed

TOPICS = ("in", "work", "out")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(authority):
    """A broker that lets ``alice`` in, with a certificate for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    scram = ScramTls(username="alice", password="correct-horse", keystore_pem=(pkcs8 + chain).decode())
    with EmbeddedKafka(secured=scram) as kafka:
        yield kafka


def client_of(kafka, authority, folder, password="correct-horse"):
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return Client(kafka.bootstrap, Security(username="alice", password=password, cafile=str(folder / "ca.pem")))


async def test_stage_follower_reader_and_worker_log_in(secured, authority, tmp_path):
    client = client_of(secured, authority, tmp_path)
    await create_topics(client, dict.fromkeys(TOPICS, TopicSpec()))

    def handle(batch, unit):
        for record in batch.records:
            unit.put(record.key, record.value)
            unit.emit("work", record.key, record.value)

    async def call(record):
        return [Outcome("out", record.partition, record.key, record.value)]

    followed = []
    follower = Follower(client, ["out"], followed.append)
    reader = BodyReader(client)
    stage = Stage(
        name="tls",
        sources=("in",),
        outputs=frozenset({"work"}),
        handle=handle,
        tick=lambda now_ms, unit: None,
        rows=DictRows,
        resources=(follower, reader),
    )
    async with running(stage, client, tmp_path) as app:
        worker = Worker(client, "tls-worker", call, interactive=["work"])
        run = asyncio.create_task(worker.run())
        await fill(client, "in", 20)
        assert len(await until_committed(client, "out", 20)) == 20
        await until(lambda: len(followed) == 20)
        assert [record.value for record in await reader.fetch([("in", 3, 0)])] == [b"3"]
        await until(lambda: all(part["lag"] == 0 for part in app.liveness()["partitions"].values()))
        worker.stop()
        await run


async def test_a_wrong_password_is_refused(secured, authority, tmp_path):
    client = client_of(secured, authority, tmp_path, password="guessed")
    with pytest.raises(Unavailable):
        await create_topics(client, {})


async def test_without_the_authority_the_broker_is_not_trusted(secured, authority, tmp_path):
    other = trustme.CA()
    client = client_of(secured, other, tmp_path)
    with pytest.raises((Unavailable, KafkaError)):
        await create_topics(client, {})


def test_a_password_is_not_shown():
    assert "secret" not in repr(Client("b:1", Security(username="u", password="secret")))
