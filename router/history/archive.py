"""Copies decisions, attempts, results and feedback from the topics into the archive: each record once, from where it ended last.

One partition at a time, so memory is one row group and one fetch, however much there is. Records are read as they are committed,
to the ends as of the start. Exactly once, because the names of the files say what is in them (``archive_folder``): there are no
offsets that could be committed without the rows, or the other way round.

What the topics no longer hold when it comes to them is lost to the archive, and told (``Archived.lost``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from router.contract.errors import Unavailable
from router.contract.topics import Names
from router.history.archive_folder import ArchiveError, Folder, Part, Position
from router.history.archive_rows import KINDS, Kind, Stored
from router.kafka.admin import partitions_of
from router.kafka.client import Client

PATIENCE_MS = 200
#: Records that are parsed between two fetches.
RECORDS_A_FETCH = 2_000


@dataclass(slots=True)
class Archived:
    """What a run did. ``rows``, ``files`` by kind; ``unreadable`` records; ``lost``: (topic, partition) -> offsets that were gone."""

    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    lost: dict[tuple[str, int], int] = field(default_factory=dict)


async def archive(
    client: Client,
    names: Names,
    folder: Folder,
    *,
    since_ms: int | None = None,
    progress: Callable[[Archived], None] = lambda _: None,
) -> Archived:
    """All that is new in the topics. ``since_ms``: of a partition that is not in the archive yet, nothing older.

    Raises:
        Unavailable: no broker, or there are no topics.
        ArchiveError: another process writes into the folder, or it is another installation's.
    """
    done = Archived()
    with folder.open(names.prefix):
        counts = await partitions_of(client, [names.of(kind.topic) for kind in KINDS])
        if not any(counts.values()):
            raise Unavailable(f"there are no topics {names.prefix}.*: `pointsman topics create` makes them")
        consumer = client.consumer()
        try:
            await consumer.start()
            for kind in KINDS:
                topic, read_to = names.of(kind.topic), {}
                known, noted = folder.positions(kind.name), folder.read_to()
                for partition in range(counts.get(topic, 0)):
                    name = f"{topic}-{partition}"
                    at = _furthest(known.get((topic, partition)), noted.get(name))
                    tp = TopicPartition(topic, partition)
                    read_to[name] = await _partition(consumer, folder, kind, tp, at=at, since_ms=since_ms, done=done)
                    progress(done)
                folder.note(read_to)
        except KafkaError as error:
            raise Unavailable(f"cannot read {names.prefix}.* at {client.bootstrap}: {error!r}") from None
        finally:
            await consumer.stop()
    return done


async def _partition(
    consumer: AIOKafkaConsumer,
    folder: Folder,
    kind: Kind,
    tp: TopicPartition,
    *,
    at: Position | None,
    since_ms: int | None,
    done: Archived,
) -> int:
    """Returns the offset up to which it was read."""
    consumer.assign([tp])
    begin, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
    if at is not None and at.offset > end:
        raise ArchiveError(
            f"{folder.path}: has {tp.topic} partition {tp.partition} up to offset {at.offset - 1}, the topic only up to "
            f"{end - 1}: it was made anew. Archive it into another folder"
        )
    start = begin if at is None else max(at.offset, begin)
    if at is not None and begin > at.offset:
        done.lost[tp.topic, tp.partition] = begin - at.offset
    if at is None and since_ms is not None:
        found = (await consumer.offsets_for_times({tp: since_ms}))[tp]
        start = end if found is None else max(start, found.offset)
    day = "" if at is None else at.day
    records = _records(consumer, tp, start, end)
    await write(records, folder, kind, topic=tp.topic, partition=tp.partition, day=day, done=done)
    return int(end)


def _furthest(files: Position | None, noted: int | None) -> Position | None:
    if noted is None or (files is not None and files.offset >= noted):
        return files
    return Position(noted, "" if files is None else files.day)


async def _records(
    consumer: AIOKafkaConsumer, tp: TopicPartition, start: int, end: int
) -> AsyncIterator[Sequence[Any]]:
    consumer.seek(tp, start)
    while await consumer.position(tp) < end:
        found = await consumer.getmany(tp, timeout_ms=PATIENCE_MS, max_records=RECORDS_A_FETCH)
        yield [record for record in found.get(tp, ()) if record.offset < end]


async def write(
    batches: AsyncIterator[Sequence[Stored]],
    folder: Folder,
    kind: Kind,
    *,
    topic: str,
    partition: int,
    day: str,
    done: Archived,
) -> None:
    """Records of one partition, in order, into files of the kind; ``day``: of the last that are there."""
    part = Part(folder, kind, topic, partition, day)
    async for records in batches:
        for record in records:
            row = None if record.value is None else kind.row(record)
            done.unreadable += row is None and record.value is not None
            part.add(record.offset, record.timestamp, row)
            done.rows[kind.name] = done.rows.get(kind.name, 0) + (row is not None)
    part.close()
    done.files[kind.name] = done.files.get(kind.name, 0) + len(part.files)
