"""Where each consumer group stands: committed offsets once a second, and whether what is left are only markers.

Groups are found by name (``<prefix>-...``), so stages that nobody told us about are seen, and those that never ran are
missed: topics that no group has ever read are kept under the group ``NOBODY``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from router.kafka.client import Client
from router.web.lag import Track
from router.web.lanes import NOBODY, OURS, stage_and_lane
from router.web.tail import PATIENCE_S, Tail, stop_consumer
from router.web.view import Place

Marks = Mapping[str, Mapping[TopicPartition, OffsetAndMetadata]]

#: Groups come seldom: how old the list of them may become.
LIST_S = 3.0
#: Looked into for markers: a turn leaves one a partition; a longer rest is work.
MAX_MARKERS = 64
PEEK_S = 0.5


class Groups:
    """Asks the broker about the groups that read ``sources``."""

    def __init__(self, client: Client, prefix: str, sources: frozenset[str]) -> None:
        self._client = client
        self._prefix = prefix
        self._sources = sources
        self._admin: AIOKafkaAdminClient | None = None
        self._peeker: AIOKafkaConsumer | None = None
        self._names: list[str] = []
        self._coordinators: dict[str, int] = {}
        self._begins: dict[TopicPartition, int] = {}
        self._resting: dict[Place, tuple[int, int]] = {}
        self._peeked: dict[Place, tuple[int, int]] = {}
        self._listed_s = float("-inf")

    async def close(self) -> None:
        if self._peeker is not None:
            await stop_consumer(self._peeker)
        if self._admin is not None:
            await self._admin.close()
        self._admin = self._peeker = None
        self._coordinators.clear()

    async def committed(self, tail: Tail) -> Marks:
        """What each group has committed. Ask for the ends afterwards: then no group is ever ahead."""
        async with asyncio.timeout(PATIENCE_S * 2):
            if time.monotonic() - self._listed_s >= LIST_S:
                await self._list()
                self._begins = await tail.begins(tail.of(self._sources))
            return dict(zip(self._names, await asyncio.gather(*map(self._of_group, self._names)), strict=True))

    async def note(
        self, tracks: dict[Place, Track], marks: Marks, ends: Mapping[TopicPartition, int], now_ms: int
    ) -> None:
        """Bring ``tracks`` up to date with what was committed and ``ends``, both as of ``now_ms``."""
        places = self._places(marks, [tp for tp in ends if tp.topic in self._sources])
        for place in [place for place in tracks if place not in places]:
            del tracks[place]
        for place, mark in places.items():
            tp = TopicPartition(place[1], place[2])
            track = tracks.setdefault(place, Track(now_ms))
            committed = mark.offset if mark is not None and mark.offset >= 0 else None
            track.look(now_ms, committed, self._begins.get(tp, 0), ends[tp], mark.metadata if mark else "")
        await self._check_rests(tracks)

    async def _list(self) -> None:
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(**self._client.aiokafka())
            await self._admin.start()
        listed = await self._admin.list_consumer_groups()
        self._listed_s = time.monotonic()
        self._names = sorted(name for name, *_ in listed if name.startswith(f"{self._prefix}-"))

    async def _of_group(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        if self._admin is None:
            raise RuntimeError("not open")
        if group not in self._coordinators:
            self._coordinators[group] = await self._admin.find_coordinator(group)
        found: dict[TopicPartition, OffsetAndMetadata]
        found = await self._admin.list_consumer_group_offsets(group, self._coordinators[group])
        if not found:  # aiokafka passes over "I am no longer the coordinator"
            del self._coordinators[group]
        return found

    def _places(self, marks: Marks, tps: list[TopicPartition]) -> dict[Place, OffsetAndMetadata | None]:
        """Every partition of every topic that a group of ours reads, and of those that nobody reads."""
        found: dict[Place, OffsetAndMetadata | None] = {}
        read = set()
        for group, offsets in marks.items():
            topics = {tp.topic for tp in offsets if tp.topic in self._sources}
            topics = {topic for topic in topics if stage_and_lane(self._prefix, group, topic)[0] in OURS}
            read |= topics
            found |= {(group, tp.topic, tp.partition): offsets.get(tp) for tp in tps if tp.topic in topics}
        return found | {(NOBODY, tp.topic, tp.partition): None for tp in tps if tp.topic not in read}

    async def _check_rests(self, tracks: Mapping[Place, Track]) -> None:
        """Look into short rests that have not changed since the last look: markers only, or work."""
        rests = {}
        for place, track in tracks.items():
            rest = (track.position, track.end)
            if 0 < track.lag <= MAX_MARKERS and self._peeked.get(place) != rest:
                rests[place] = rest
        again = {place: rest for place, rest in rests.items() if self._seen_before(place, rest)}
        for place, rest in again.items():
            self._peeked[place] = rest
        if again:
            await self._peek(tracks, again)

    def _seen_before(self, place: Place, rest: tuple[int, int]) -> bool:
        """A rest that moves is work going on; only one that stays is worth a fetch."""
        before, self._resting[place] = self._resting.get(place), rest
        return before == rest

    async def _peek(self, tracks: Mapping[Place, Track], rests: Mapping[Place, tuple[int, int]]) -> None:
        if self._peeker is None:
            self._peeker = self._client.consumer()
            await self._peeker.start()
        # Two groups may stand at different offsets of one partition: one after the other.
        for batch in _apart(rests):
            empty = await _only_markers(self._peeker, batch)
            for place, (position, end) in batch.items():
                if TopicPartition(place[1], place[2]) in empty:
                    tracks[place].verified_empty(position, end)
        self._peeker.unsubscribe()


def _apart(rests: Mapping[Place, tuple[int, int]]) -> list[dict[Place, tuple[int, int]]]:
    batches: list[dict[Place, tuple[int, int]]] = []
    for place, rest in rests.items():
        for batch in batches:
            if not any(place[1:] == other[1:] for other in batch):
                batch[place] = rest
                break
        else:
            batches.append({place: rest})
    return batches


async def _only_markers(consumer: AIOKafkaConsumer, rests: Mapping[Place, tuple[int, int]]) -> set[TopicPartition]:
    """Partitions in which a reader gets from position to end without meeting a record."""
    ends = {TopicPartition(topic, number): rest[1] for (_, topic, number), rest in rests.items()}
    consumer.assign(list(ends))
    for (_, topic, number), (position, _end) in rests.items():
        consumer.seek(TopicPartition(topic, number), position)
    met: set[TopicPartition] = set()
    empty: set[TopicPartition] = set()
    loop = asyncio.get_running_loop()
    until_s = loop.time() + PEEK_S
    while len(met | empty) < len(ends) and loop.time() < until_s:
        met |= set(await consumer.getmany(timeout_ms=50))
        for tp in ends.keys() - met:
            if await consumer.position(tp) >= ends[tp]:
                empty.add(tp)
    return empty - met
