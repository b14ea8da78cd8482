"""The archive reads a real cluster: what is committed, from where it ended, and it says what was gone."""

import orjson
import pyarrow.parquet as pq
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from router.contract.errors import Unavailable
from router.contract.topics import Names
from router.history.archive import archive
from router.history.archive_folder import ArchiveError, Folder
from router.kafka import admin
from router.kafka.admin import admin_of
from router.kafka.client import Client

DAY_MS = 86_400_000


@pytest.fixture
async def names(client, prefix):
    names = Names(prefix)
    await admin.create_topics(client, {names.of("usage"): admin.TopicSpec(partitions=2)})
    return names


async def produce(client, names, count, *, aborted=False, at_ms=DAY_MS):
    """In transactions, whose markers take offsets too; twice as many on partition 0 as on 1."""
    async with AIOKafkaProducer(**client.aiokafka(), transactional_id=names.prefix) as producer:
        await producer.begin_transaction()
        for number in range(count):
            value = orjson.dumps({"request_id": f"{number}", "attempt": 1, "cost_nano_usd": -1 if aborted else number})
            await producer.send(names.of("usage"), value, partition=int(number % 3 == 2), timestamp_ms=at_ms)
        await (producer.abort_transaction() if aborted else producer.commit_transaction())


def costs(folder):
    found = [pq.ParquetFile(file).read(["cost_nano_usd"]).to_pylist() for _, file in folder.files("attempts")]
    return sorted(row["cost_nano_usd"] for rows in found for row in rows)


async def test_committed_records_are_there_once_and_others_never(client, names, tmp_path):
    folder = Folder(tmp_path)
    await produce(client, names, 30)
    await produce(client, names, 30, aborted=True)
    assert (await archive(client, names, folder)).rows["attempts"] == 30
    assert (await archive(client, names, folder)).files == {"attempts": 0}
    await produce(client, names, 6)
    assert (await archive(client, names, folder)).rows["attempts"] == 6
    assert costs(folder) == sorted([*range(30), *range(6)])


async def test_what_the_topic_forgot_before_it_was_read_is_told_once(client, names, tmp_path):
    folder = Folder(tmp_path)
    await produce(client, names, 30)
    await archive(client, names, folder)
    await produce(client, names, 30)
    async with admin_of(client) as deleting:
        await deleting.delete_records({TopicPartition(names.of("usage"), 0): RecordsToDelete(before_offset=25)})
    done = await archive(client, names, folder)
    assert list(done.lost) == [(names.of("usage"), 0)]
    assert done.rows["attempts"] < 30
    assert (await archive(client, names, folder)).lost == {}


async def test_markers_that_the_topic_forgot_are_no_loss(client, names, tmp_path):
    folder = Folder(tmp_path)
    await produce(client, names, 3)
    await archive(client, names, folder)
    async with admin_of(client) as deleting:
        await deleting.delete_records(
            {TopicPartition(names.of("usage"), part): RecordsToDelete(before_offset=-1) for part in (0, 1)}
        )
    assert (await archive(client, names, folder)).lost == {}
    await produce(client, names, 3)
    assert (await archive(client, names, folder)).rows["attempts"] == 3


async def test_a_first_run_may_begin_later(client, names, tmp_path):
    await produce(client, names, 9, at_ms=DAY_MS)
    await produce(client, names, 3, at_ms=5 * DAY_MS)
    folder = Folder(tmp_path)
    assert (await archive(client, names, folder, since_ms=4 * DAY_MS)).rows["attempts"] == 3
    assert {day for day, _ in folder.files("attempts")} == {"1970-01-06"}


async def test_a_topic_that_was_made_anew_is_refused(client, names, tmp_path):
    folder = Folder(tmp_path)
    await produce(client, names, 9)
    await archive(client, names, folder)
    (_, file), *_ = folder.files("attempts")
    file.rename(file.with_name(file.name.replace(file.name[-28:-8], f"{10**6:020}")))
    with pytest.raises(ArchiveError, match="made anew"):
        await archive(client, names, folder)


async def test_without_topics_or_broker_it_says_so(client, prefix, tmp_path):
    with pytest.raises(Unavailable, match="topics create"):
        await archive(client, Names(prefix), Folder(tmp_path))
    with pytest.raises(Unavailable, match="no Kafka broker"):
        await archive(Client("127.0.0.1:1"), Names(prefix), Folder(tmp_path))
