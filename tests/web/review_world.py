"""A review page over the real stages on an in-memory log: what is asked of the models comes into its queue, what is said there counts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.config import loads
from router.config.redact import Redact
from router.contract.codec import decode, encode
from router.contract.errors import Unavailable
from router.contract.records import Feedback, Reward
from router.core.reviewing import Place
from router.web.keys import Key, asks_for
from router.web.review_log import TOPICS, fold
from router.web.reviews import Reviews, new_queue
from tests.stages.system import NAMES
from tests.stages.test_shadow import CONFIG as SHADOWED
from tests.stages.test_shadow import Shadowed

CONFIG = SHADOWED.replace("shadow_percent = 100", "reviews_per_day = 1000000")
TEXT = CONFIG + "[reviews]\ntext = true\n"


class World(Shadowed):
    """Is what the page needs of Kafka, too (``router.web.reviews.Log``). ``away``: Kafka does not answer."""

    def __init__(self, config: str = TEXT):
        super().__init__(config)
        self.config = loads(config)
        self.queue = new_queue(self.config, self.context.keyring)
        self.away = False
        self.said: dict[str, str] = {}
        self._read = dict.fromkeys(TOPICS, 0)

    def body(self, work: Any) -> dict[str, Any]:
        said = self.said.get(work.request_id, "Certainly.")
        return {"model": f"{work.model}-2026", "choices": [{"message": {"content": said}}]}

    def asked(self, *names: str, **more: Any) -> None:
        """Requests come and are answered."""
        for name in names:
            self.ask(name, **more)
        self.log.advance(3000, step_ms=100)

    async def ready(self) -> None:
        if self.away:
            raise Unavailable("Kafka at 127.0.0.1:1 does not answer")
        for topic in TOPICS:
            records = self.log.records(NAMES.of(topic))
            for record in records[self._read[topic] :]:
                fold(self.queue, NAMES, record)
            self._read[topic] = len(records)
        self.queue.forget(self.clock())

    async def fetch(self, at: Any) -> dict[Place, bytes]:
        found = {(topic, part, offset): self.log.partition((topic, part))[offset:] for topic, part, offset in at}
        return {place: records[0].value for place, records in found.items() if records and records[0].value}

    async def send(self, key: bytes, said: Feedback) -> None:
        if self.away:
            raise Unavailable("Kafka at 127.0.0.1:1 does not answer")
        self.log.produce(NAMES.of("feedback"), key, encode(said))

    def rewards(self) -> list[Reward]:
        """Those of reviews, once what was sent has been counted."""
        self.log.advance(2000, step_ms=100)
        found = [decode(Reward, record.value) for record in self.log.records(NAMES.of("rewards"))]
        return [one for one in found if one.kind == "review"]

    @asynccontextmanager
    async def served(self, keys: list[Key] | None = None, redact: Redact = str):
        """A client of its pages."""
        app = web.Application(middlewares=[asks_for(keys or [])])
        Reviews(self.config, self, redact, self.clock).routes(app)
        async with TestClient(TestServer(app)) as client:
            yield client


async def get(client: TestClient, headers: Mapping[str, str] | None = None, **query: Any) -> tuple[int, Any]:
    answer = await client.get("/v1/reviews", params={k: str(v) for k, v in query.items()}, headers=headers)
    return answer.status, await answer.json()


async def post(client: TestClient, headers: Mapping[str, str] | None = None, **said: Any) -> tuple[int, Any]:
    answer = await client.post("/v1/reviews", json=said, headers=headers)
    return answer.status, await answer.json()
