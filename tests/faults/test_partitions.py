"""A topic that somebody has given more partitions: what shares a key would no longer meet, so nothing works on it."""

import asyncio
import os
import subprocess
import sys

import pytest
from aiokafka.admin import NewPartitions

from router.kafka.admin import TopicSpec, admin_of, create_topics, partitions_of
from router.kafka.stage import Stage
from tests.kafka.support import running, until


async def grow(client, topic, count):
    async with admin_of(client) as admin:
        await admin.create_partitions({topic: NewPartitions(count)})
    while await partitions_of(client, [topic]) != {topic: count}:  # noqa: ASYNC110 - metadata follows a moment later
        await asyncio.sleep(0.05)


@pytest.fixture
def pointsman(client, prefix, tmp_path):
    """Runs a command against the test's own topics, to its end."""
    env = os.environ | {
        "BROKER": client.bootstrap,
        "POINTSMAN_KAFKA__PREFIX": prefix,
        "POINTSMAN_KAFKA__DATA_DIR": str(tmp_path),
        "SECRET": "s" * 32,
        "POINTSMAN_SECURITY__SECRET_ENV": "SECRET",
    }

    def run(*arguments):
        command = [sys.executable, "-m", "router", *arguments]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return run


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
