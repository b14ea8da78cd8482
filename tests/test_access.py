"""Each part as a Kafka user of its own that may do what ``topics acls`` grants it, on a broker that asks who one is."""

import asyncio
import contextlib
import json
import shlex
from dataclasses import dataclass
from itertools import pairwise

import orjson
import pytest
import trustme
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import CreateAclsRequest
from aiokafka.structs import TopicPartition
from click.testing import CliRunner

from router import stages
from router.access import PARTS, needed, words
from router.cli import cli
from router.cluster import client_of, create_topics, wait_for_topics
from router.config import loads
from router.contract.codec import to_rfc3339
from router.contract.errors import ConfigError
from router.contract.records import Control
from router.contract.topics import Names
from router.control import send
from router.core.keyring import Keyring
from router.kafka.acls import Acl, changelog_of
from router.kafka.admin import admin_of
from router.kafka.embedded import EmbeddedKafka
from router.kafka.embedded_settings import ScramTls
from router.kafka.run import run_apps
from router.kafka.stage_app import new_stage_app
from router.stages.context import Context
from router.web.observer import Observer
from router.work.behaviour import World
from router.work.sim import Simulator, serving
from router.work.worker import new_workers
from tests.kafka.support import PATIENCE_S, keystore_of, read_committed, until, until_committed

CONFIG = """
[models.small]
provider = "sim"
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
{address}
[models.large]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 4
{address}
[pools.auto]
models = ["small", "large"]
reviews_per_day = 1000000
shadow_percent = 100
judge = "large"
rollout = true
[reviews]
text = true
[surveys.helpful]
question = "?"
percent = 100
[account]
window_s = 1
grace_s = 1
[kafka]
{kafka}
"""
SECURED = """
broker = "{broker}"
partitions = 1
security_protocol = "SASL_SSL"
sasl_username = "{user}"
sasl_password_file = "{folder}/{user}"
ssl_cafile = "{folder}/ca.pem"
"""
ADMIN = "root"
RING = Keyring((b"k" * 32,))
NAMES = Names("llm")
PROCESSES = (*stages.NAMES, "worker", "web")

#: Kafka's numbers.
KINDS = {"topic": 2, "group": 3, "transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
LITERAL, PREFIXED, ALLOW = 3, 4, 3


# --- what is granted, and what the registry says ---


@pytest.fixture(scope="module")
def plain():
    return loads(CONFIG.format(address="", kafka=""))


def topics_by(acls, operation):
    return {
        acl.name for acl in acls if acl.kind == "topic" and acl.operation == operation and "changelog" not in acl.name
    }


@pytest.mark.parametrize("part", stages.NAMES)
def test_the_registry_of_topics_says_of_each_who_writes_and_reads_it(plain, part):
    registry = NAMES.all(list(plain.models))
    acls = needed(plain, part)
    for topic in topics_by(acls, "Write"):
        assert {part, "stage"} & set(words(registry[topic].writes)), f"{part} writes {topic}"
    for topic in topics_by(acls, "Read"):
        assert {part, "router"} & set(words(registry[topic].reads)), f"{part} reads {topic}"


def test_nobody_but_route_and_settle_and_their_workers_may_write_what_results_are_made_of(plain):
    writers = {
        topic: {part for part in PARTS if NAMES.of(topic) in topics_by(needed(plain, part), "Write")}
        for topic in ("decisions", "outcomes", "results", "redispatch", "weights", "control", "requests")
    }
    assert writers == {
        "decisions": {"route"},
        "outcomes": {"worker"},
        "results": {"settle"},
        "redispatch": {"route", "settle"},
        "weights": {"learn"},
        "control": {"watch", "people"},
        "requests": {"users"},
    }


def test_prompts_are_readable_to_those_alone_that_need_them(plain):
    def readers(topic):
        return {part for part in PARTS if topic in topics_by(needed(plain, part), "Read")}

    assert readers("llm.work.small") == {"worker", "web", "people"}
    assert "users" not in readers("llm.requests")
    assert {"account", "learn", "watch"}.isdisjoint(readers("llm.requests") | readers("llm.outcomes"))


def test_a_worker_of_one_model_sees_no_other_models_work(plain):
    reads = topics_by(needed(plain, "worker", ["small"]), "Read")
    assert "llm.work.small" in reads
    assert "llm.work.large" not in reads
    with pytest.raises(ConfigError, match="nothing"):
        needed(plain, "worker", ["nothing"])
    with pytest.raises(ConfigError, match="there is no such part"):
        needed(plain, "nothing")


def test_the_command_prints_the_same_as_lines_for_a_shell_and_as_json(plain, tmp_path):
    place = tmp_path / "pointsman.toml"
    place.write_text(CONFIG.format(address="", kafka=""))
    runner = CliRunner()
    done = runner.invoke(cli, ["topics", "acls", "settle", "--user", "it's me", "--config", str(place)])
    assert done.exit_code == 0, done.output
    granted = set()
    for line in done.output.splitlines()[1:]:
        found = shlex.split(line)
        assert found[0] == "kafka-acls.sh"
        assert found[found.index("--allow-principal") + 1] == "User:it's me"
        pairs = list(pairwise(found))
        operations = [value for name, value in pairs if name == "--operation"]
        for kind in KINDS:
            for name in [value for word, value in pairs if word == f"--{kind}"]:
                granted |= {Acl(kind, name, operation, "prefixed" in found) for operation in operations}
    assert granted == needed(plain, "settle")
    done = runner.invoke(cli, ["topics", "acls", "--json", "--config", str(place)])
    rows = json.loads(done.output)["acls"]
    assert {row["part"] for row in rows} == set(PARTS)
    assert {row["principal"] for row in rows if row["part"] == "settle"} == {"User:llm-settle"}
    as_json = {
        Acl(row["resource_type"], row["name"], row["operation"], row["pattern_type"] == "prefixed")
        for row in rows
        if row["part"] == "settle"
    }
    assert as_json == granted


# --- on a broker ---


@dataclass(frozen=True)
class Cluster:
    """A broker where everybody logs in; ``client`` and ``config`` as one of the users has them."""

    bootstrap: str
    folder: object

    def config(self, user, address=""):
        kafka = SECURED.format(broker=self.bootstrap, user=user, folder=self.folder)
        return loads(CONFIG.format(address=address, kafka=kafka))

    def client(self, part):
        return client_of(self.config(user_of(part)))


def user_of(part):
    return part if part == ADMIN else f"llm-{part}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder, authority = tmp_path_factory.mktemp("secrets"), trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    passwords = {user_of(part): f"password-of-{part}" for part in (ADMIN, *PARTS)}
    for user, password in passwords.items():
        (folder / user).write_text(f"{password}\n")
    scram = ScramTls(
        username=ADMIN, password=passwords.pop(ADMIN), keystore_pem=keystore_of(authority), others=passwords
    )
    authorizer = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN};User:ANONYMOUS",  # the broker itself has a plain listener
    }
    with EmbeddedKafka(secured=scram, settings=authorizer) as kafka:
        yield Cluster(kafka.bootstrap, folder)


async def grant(client, user, acls):
    """What the printed lines do."""
    async with admin_of(client) as admin:
        for acl in acls:
            pattern = PREFIXED if acl.prefixed else LITERAL
            operation = OPERATIONS[acl.operation]
            asked = CreateAclsRequest(KINDS[acl.kind], acl.name, pattern, f"User:{user}", "*", operation, ALLOW)
            answer = await admin._send_request(asked)
            assert [code for code, _ in answer.creation_responses] == [0]


async def test_every_part_runs_as_a_user_of_its_own_and_may_do_nothing_else(cluster, tmp_path):
    root = cluster.client(ADMIN)
    await create_topics(root, cluster.config(ADMIN))
    for part in PARTS:
        await grant(root, user_of(part), needed(cluster.config(user_of(part)), part))
    async with serving(Simulator(World())) as address, contextlib.AsyncExitStack() as running:
        parts = [run_part(cluster, part, f'base_url = "{address}"', tmp_path) for part in PROCESSES]
        await asyncio.gather(*map(running.enter_async_context, parts))
        results = await ask(cluster, 20)
        assert [one["error"] for one in results] == [None] * 20
        await tell(cluster, results)
        # Every stage has had its part: rewards of feedback, weights of rewards, windows of usage, health of usage, texts of items.
        for topic in ("rewards", "weights", "metrics", "health", "reviews"):
            assert await until_committed(root, NAMES.of(topic), 1), topic
        await overrule(cluster)
        assert await until_committed(root, NAMES.of("journal"), 1)
        assert await read_committed(root, NAMES.of("dead-letter")) == []
        for part in PARTS:
            await refused(cluster, part)


@contextlib.asynccontextmanager
async def run_part(cluster, part, address, folder):
    """As ``pointsman run PART`` does, with the part's own user."""
    config = cluster.config(user_of(part), address)
    context = Context(config=config, client=client_of(config), keyring=RING, names=NAMES, partitions=1)
    assert await wait_for_topics(context.client, config) == 1
    if part == "worker":
        async with new_workers(context, ["small", "large"]) as workers:
            tasks = [asyncio.create_task(worker.run()) for worker in workers]
            try:
                yield
            finally:
                for worker in workers:
                    worker.stop()
                await asyncio.gather(*tasks)
        return
    if part == "web":
        observer = Observer(config, NAMES, context.client, folder, context.clock)
        await observer.start()
        yield
        await until(lambda: observer.liveness()["ready"])
        await until(lambda: "settle" in {one["stage"] for one in observer.status()["stages"]})
        await observer.stop()
        return
    until_told, started = asyncio.Event(), asyncio.Event()
    apps = [
        new_stage_app(stage, context.client, partitions=1, data_dir=folder / part, session_timeout_s=3.0)
        for stage in stages.build(part, context)
    ]
    task = asyncio.create_task(run_apps(apps, until_told, started=started))
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({task, asyncio.create_task(started.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    for app in apps:
        if app.table is not None:
            assert app.table.changelog_topic_name == changelog_of(app.stage.name)
    try:
        yield
    finally:
        until_told.set()
        await task


async def ask(cluster, count):
    """As a service: requests in, results out, in a group of its own."""
    client = cluster.client("users")
    async with client.producer(NAMES.of("requests")) as producer:
        for number in range(count):
            body = {"model": "auto", "messages": [{"role": "user", "content": "2+2"}]}
            line = {"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            await producer.send_and_wait(
                NAMES.of("requests"), orjson.dumps(line | {"router": {"user": f"u-{number}"}}), key=b"k"
            )
    found = []
    async with asyncio.timeout(PATIENCE_S), client.consumer(NAMES.of("results"), group_id="llm-users-a") as consumer:
        while len(found) < count:
            found.append(orjson.loads((await consumer.getone()).value))
        await consumer.commit()
    return found


async def tell(cluster, results):
    async with cluster.client("users").producer(NAMES.of("feedback")) as producer:
        for one in results:
            said = {"feedback_token": one["router"]["feedback_token"], "kind": "thumbs", "value": 1, "source": "user"}
            await producer.send_and_wait(NAMES.of("feedback"), orjson.dumps(said))


async def overrule(cluster):
    """As a person: an order, which watch writes into the journal."""
    at = to_rfc3339(1_800_000_000_000)
    frozen = Control(scope="pool:auto", action="freeze", active=True, by="me", reason="a test", at=at)
    await send(cluster.client("people"), NAMES.of("control"), [frozen])


async def refused(cluster, part):
    """What it was not given: topics that it may not even see, others the wrong way round, a foreign group, a foreign transaction."""
    config, client = cluster.config(user_of(part)), cluster.client(part)
    acls, every = needed(config, part), NAMES.all(list(config.models)).keys()
    written, read = topics_by(acls, "Write"), topics_by(acls, "Read")
    async with admin_of(client) as admin:
        seen = {one["topic"]: one["error_code"] for one in await admin.describe_topics(sorted(every))}
    assert {topic for topic, code in seen.items() if not code} == written | read
    assert {code for code in seen.values() if code} <= {TopicAuthorizationFailedError.errno}
    for topic in sorted(read - written)[:1]:
        async with client.producer(topic) as producer:
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"{}", partition=0)
    for topic in sorted(written - read)[:1]:
        async with client.consumer() as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), 0)
            with pytest.raises(TopicAuthorizationFailedError):
                await consumer.getone()
    async with admin_of(client) as admin:
        with pytest.raises(GroupAuthorizationFailedError):
            await admin.find_coordinator("foreign")
    producer = client.producer(NAMES.of("results"), transactional_id="llm-foreign-0")
    with pytest.raises(TransactionalIdAuthorizationFailed):
        await producer.start()
    await producer.stop()
