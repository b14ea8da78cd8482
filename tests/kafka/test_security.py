"""SASL/SCRAM over TLS, from one end to the other: stage, follower, worker, topics."""

import asyncio

import pytest
import trustme
from aiokafka.errors import KafkaError

from router.cluster import client_of as client_from
from router.config import loads
from router.contract.errors import Unavailable
from router.kafka.admin import TopicSpec, create_topics, partitions_of
from router.kafka.bodies import BodyReader
from router.kafka.calls import Outcome, Worker
from router.kafka.client import Client, Security
from router.kafka.embedded import EmbeddedKafka
from router.kafka.embedded_settings import ScramTls
from router.kafka.follow import Follower
from router.kafka.lane import Stage
from router.kafka.table import DictRows
from tests.kafka.support import fill, keystore_of, running, until, until_committed

MINIMAL = """
[models.m]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["m"]
"""
TOPICS = ("in", "work", "out")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def secured(authority):
    """A broker that lets ``alice`` in, with a certificate for 127.0.0.1."""
    scram = ScramTls(username="alice", password="correct-horse", keystore_pem=keystore_of(authority))
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
    reader = BodyReader(client, ["in"])
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


@pytest.fixture(scope="module")
def mutual(authority, tmp_path_factory):
    """A broker that asks clients for a certificate of the same authority, and for nothing else."""
    folder = tmp_path_factory.mktemp("mutual")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    settings = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SSL,CONTROLLER:PLAINTEXT",
        "ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
    }
    unused = ScramTls(username="nobody", password="unused", keystore_pem=keystore_of(authority))
    with EmbeddedKafka(secured=unused, settings=settings) as kafka:
        yield kafka, folder


async def test_a_certificate_is_enough_where_the_broker_asks_for_one_and_nothing_else_is(mutual, authority):
    """The keys of ``[kafka]``: ``ssl_cafile``, ``ssl_certfile``, ``ssl_keyfile``."""
    kafka, folder = mutual
    issued = authority.issue_cert("a-client")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "client.pem")
    section = f'[kafka]\nbroker = "{kafka.bootstrap}"\nsecurity_protocol = "SSL"\nssl_cafile = "{folder}/ca.pem"\n'
    own = f'ssl_certfile = "{folder}/client.pem"\nssl_keyfile = "{folder}/key.pem"\n'
    client = client_from(loads(MINIMAL + section + own))
    assert (await partitions_of(client, ["nothing"]))["nothing"] == 0
    stranger = client_from(loads(MINIMAL + section))
    with pytest.raises((Unavailable, KafkaError)):
        await create_topics(stranger, {})


def test_a_password_is_not_shown():
    assert "secret" not in repr(Client("b:1", Security(username="u", password="secret")))
