"""The web stage's review queue on a real broker: read on demand, texts at their places, opinions written, all of it gone when nobody looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest

from router.config import loads
from router.contract.codec import encode
from router.contract.errors import Unavailable
from router.contract.ids import request_id
from router.contract.records import Origin
from router.contract.times import to_rfc3339
from router.contract.topics import Names
from router.core.keyring import Keyring
from router.core.reviewing import namer
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.kafka.scan import scan
from router.stages.context import wall_clock_ms
from router.web.review_log import ReviewLog
from router.web.review_queue import Queue
from router.web.stage import WebStage
from router.web.watchdog import Watchdog
from tests.history.test_reviews import item, opinion

RING = Keyring((b"k" * 32,))
IDS = [request_id("default", str(number)) for number in range(3)]
CONFIG = """
[web]
port = 0
[models.small]
provider = "sim"
unpriced = true
[pools.auto]
models = ["small"]
reviews_per_day = 10
[reviews]
text = true
"""


@pytest.fixture
async def names(client: Client, prefix: str) -> Names:
    found = Names(prefix)
    topics = ("reviews", "feedback", "feedback.counted", "requests", "outcomes")
    await create_topics(client, {found.of(one): TopicSpec(partitions=2) for one in topics})
    return found


@pytest.fixture
async def served(client: Client, names: Names, tmp_path: Path) -> AsyncIterator[tuple[WebStage, aiohttp.ClientSession]]:
    context = SimpleNamespace(
        config=loads(CONFIG), names=names, client=client, keyring=RING, clock=wall_clock_ms, data_dir=tmp_path
    )
    stage = WebStage(context, Watchdog([], lambda why: None))
    await stage.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{stage.server.port}") as session:
            yield stage, session
    finally:
        await stage.stop()


def due() -> str:
    return to_rfc3339(wall_clock_ms() + 86_400_000)


async def placed(client: Client, topic: str, value: Any) -> Origin:
    """Where a record lies, once it was written."""
    producer = client.producer(topic)
    await producer.start()
    try:
        written = await producer.send_and_wait(topic, orjson.dumps(value), partition=1)
    finally:
        await producer.stop()
    return Origin(topic=topic, partition=1, offset=written.offset)


async def asked(session: aiohttp.ClientSession, **query: Any) -> Any:
    async with session.get("/v1/reviews", params={"reviewer": "ann-12345", "limit": "3"} | query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_it_shows_what_waits_takes_an_opinion_and_sees_what_others_said(client, names, served):
    stage, session = served
    asks = {"messages": [{"role": "user", "content": "why?"}]}
    says = {"choices": [{"message": {"content": "because"}}]}
    here = item(IDS[0], due_at=due(), prompt="user: what?", answer="that", feedback_token="t")
    there = item(
        IDS[1],
        due_at=due(),
        request_at=await placed(client, names.of("requests"), {"body": asks}),
        answer_at=await placed(client, names.of("outcomes"), {"body": says}),
    )
    done = item(IDS[2], due_at=due(), prompt="p", answer="a")
    await put(client, names.of("reviews"), [Said(b"k", encode(one)) for one in (here, there, done, here)])
    counted = replace(opinion(IDS[2], 1.0), at_ms=wall_clock_ms())
    await put(client, names.of("feedback.counted"), [Said(b"k", encode(counted)), Said(b"k", b"no JSON")])
    assert not stage.review_log.following  # nobody has asked yet

    found = await asked(session)
    assert {(one["prompt"], one["answer"]) for one in found["items"]} == {
        ("user: what?", "that"),
        ("user: why?", "because"),
    }
    assert (found["waiting"], found["today"]) == (2, {"done": 1, "wanted": 10})
    said = {"id": namer(RING)((IDS[0], 1)), "value": 0.0, "comment": "no"}
    async with session.post("/v1/reviews", json=said) as answer:
        assert answer.status == 202, await answer.text()
    (sent,) = [orjson.loads(one.value) async for one in scan(client, [names.of("feedback")])]
    assert (sent["feedback_token"], sent["value"], sent["comment"], sent["attempt"]) == ("t", 0.0, "no", 1)

    late = replace(opinion(IDS[1], 1.0), at_ms=wall_clock_ms())  # somebody else was quicker, in the terminal
    await put(client, names.of("feedback.counted"), [Said(b"k", encode(late))])
    while (await asked(session))["waiting"]:  # noqa: ASYNC110 - only another question tells
        await asyncio.sleep(0.1)


async def test_when_nobody_asks_any_more_nothing_is_kept_and_the_next_one_reads_anew(client, names):
    queue = Queue(namer(RING), lambda _item: None, 86_400_000)
    log = ReviewLog(client, names, queue, wall_clock_ms, idle_s=1.0)
    await put(client, names.of("reviews"), [Said(b"k", encode(item(IDS[0], due_at=due())))])
    await log.ready()
    assert len(queue) == 1
    while log.following:  # noqa: ASYNC110 - nothing of it tells more
        await asyncio.sleep(0.1)
    assert len(queue) == 0
    await log.ready()
    assert len(queue) == 1
    await log.stop()


async def test_without_topics_or_a_broker_it_says_what_is_missing(client, prefix):
    queue = Queue(namer(RING), lambda _item: None, 86_400_000)
    for where, said in ((client, "topics create"), (Client("127.0.0.1:1"), "127.0.0.1:1 does not answer")):
        log = ReviewLog(where, Names(f"{prefix}-none"), queue, wall_clock_ms, patience_s=1.0)
        with pytest.raises(Unavailable, match=said):
            await log.ready()
        with pytest.raises(Unavailable):
            await log.fetch([("t", 0, 0)])
        await log.stop()
