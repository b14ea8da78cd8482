"""One number of partitions for all topics: found out, kept, and when a topic has another, nothing works on it."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from aiokafka.admin import NewPartitions

from router import cluster
from router.config import loads
from router.config.load import example
from router.kafka.admin import TopicSpec, admin_of, create_topics, partitions_of
from router.kafka.stage import Stage
from tests.kafka.support import running, until


async def grow(client, topic, count):
    async with admin_of(client) as admin:
        await admin.create_partitions({topic: NewPartitions(count)})
    while await partitions_of(client, [topic]) != {topic: count}:  # noqa: ASYNC110 - metadata follows a moment later
        await asyncio.sleep(0.05)


@pytest.fixture
def env(client, prefix, tmp_path):
    """Variables under which a command works on the test's own topics."""
    return os.environ | {
        "BROKER": client.bootstrap,
        "POINTSMAN_KAFKA__PREFIX": prefix,
        "POINTSMAN_KAFKA__DATA_DIR": str(tmp_path),
        "SECRET": "s" * 32,
        "POINTSMAN_SECURITY__SECRET_ENV": "SECRET",
    }


@pytest.fixture
def pointsman(env, tmp_path):
    """Runs a command to its end."""

    def run(*arguments, **variables):
        command = [sys.executable, "-m", "router", *arguments]
        return subprocess.run(
            command, env=env | variables, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    return run


async def line_with(process, words):
    """The first line of its log that holds ``words``."""
    async with asyncio.timeout(30):
        while words not in (line := (await process.stderr.readline()).decode()):
            assert line, f"it ended without {words!r}"
    return line


@pytest.fixture
async def settle(env, tmp_path):
    """``pointsman run settle``, as a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "router", "run", "settle", env=env, cwd=tmp_path, stderr=subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_process_that_is_not_told_the_number_waits_for_the_topics_and_takes_theirs(
    client, prefix, pointsman, settle
):
    assert f"no topic {prefix}.*" in await line_with(settle, "waiting")
    assert pointsman("topics", "create", POINTSMAN_KAFKA__PARTITIONS="3").returncode == 0
    await line_with(settle, "running settle")
    changelog = f"{prefix}-settle-rows-changelog"
    assert await partitions_of(client, [changelog]) == {changelog: 3}
    again = pointsman("topics", "create")
    assert (again.returncode, again.stdout.split()[0]) == (0, "0")


async def test_what_waits_for_topics_ends_when_it_is_told_to(settle):
    await line_with(settle, "waiting")
    settle.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(settle.wait(), 10) == 0


@pytest.mark.parametrize("embedded", [False, True])
async def test_new_topics_have_one_partition_on_the_embedded_broker_and_more_on_a_cluster(
    client, prefix, tmp_path, embedded
):
    (tmp_path / cluster.BROKER_FILE).write_text(client.bootstrap)
    overrides = {
        "kafka.prefix": prefix,
        "kafka.data_dir": tmp_path,
        "kafka.broker": None if embedded else client.bootstrap,
    }
    config = loads(example(), overrides=overrides)
    assert set((await cluster.partitions_there(cluster.client_of(config), config)).values()) == {0}
    made = await cluster.create_topics(cluster.client_of(config), config)
    assert (made.created > 0, made.there) == (True, 0)
    assert made.partitions == (cluster.EMBEDDED_PARTITIONS if embedded else cluster.PARTITIONS)
    assert await cluster.wait_for_topics(cluster.client_of(config), config) == made.partitions
    # What is there stays, wherever it is looked at from.
    moved = loads(example(), overrides=overrides | {"kafka.broker": client.bootstrap if embedded else None})
    assert await cluster.create_topics(cluster.client_of(moved), moved) == cluster.Topics(
        0, made.created, made.partitions
    )


async def test_a_start_is_refused_and_the_topic_named(client, prefix, pointsman):
    assert pointsman("topics", "create").returncode == 0
    await grow(client, f"{prefix}.requests", 6)
    for arguments in (("run", "settle"), ("worker", "small"), ("topics", "create")):
        done = pointsman(*arguments)
        assert done.returncode == 2, done.stderr
        said = done.stderr.splitlines()[-1]
        assert f"{prefix}.requests" in said
        assert "6" in said
        assert "fixed for good" in said


async def test_a_process_whose_stage_fails_as_it_starts_ends_with_that_as_its_last_word(client, prefix, pointsman):
    assert pointsman("topics", "create").returncode == 0
    await create_topics(client, {f"{prefix}-settle-rows-changelog": TopicSpec(partitions=3)})
    done = pointsman("run", "settle")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "changelog has 3 partitions, not 4: fixed for good" in said
    assert "running" not in done.stderr


async def test_a_stage_that_runs_ends_when_a_source_grows(client, prefix, tmp_path):
    await create_topics(client, {prefix: TopicSpec(partitions=4)})
    handled = []
    stage = Stage(name=prefix, sources=(prefix,), handle=lambda batch, unit: handled.append(batch))
    async with running(stage, client, tmp_path) as app:
        await grow(client, prefix, 5)
        app.consumer.rejoin()  # as the next refresh of metadata does
        await until(app.failed.is_set)
    assert not handled
