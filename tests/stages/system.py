"""Route, workers that answer by plan, and settle on one in-memory log."""

from collections import Counter
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from router.config import Config
from router.contract.codec import decode, encode
from router.contract.records import Outcome, OutcomeError, Result, Usage, Work
from router.contract.topics import Names
from router.core.slip import Keyring
from router.kafka.client import Client
from router.kafka.stage import Stage
from router.stages import route, settle
from router.stages.context import Context
from router.testing import FakeClock, MemoryLog

NAMES = Names()


class System:
    """``answers``: model -> how its worker answers; by default ok, at once; ``error_codes``: of what is not ok. ``more``: builders of further stages."""

    def __init__(self, config: Config, *more, artefact=None):
        self.clock = FakeClock()
        self.context = context = Context(
            config=config,
            client=Client("127.0.0.1:1"),
            keyring=Keyring((b"k" * 32,)),
            clock=self.clock,
            partitions=4,
            artefact=artefact,
        )
        self.answers = {}
        self.error_codes = {}
        self.calls = Counter()
        topics = tuple(NAMES.work(model, lane) for model in config.models for lane in ("interactive", "batch"))
        workers = Stage(name="workers", sources=topics, outputs=frozenset({NAMES.of("outcomes")}), handle=self.work)
        self.stages = [*route.build(context), workers, *settle.build(context)]
        self.stages += [stage for build in more for stage in build(context)]
        self.log = MemoryLog(*self.stages, clock=self.clock)

    def work(self, batch, unit):
        for record in batch.records:
            work = decode(Work, record.value)
            self.calls[work.request_id] += 1
            status = self.answers.get(work.model, "ok")
            if status == "silence":
                continue
            outcome = Outcome(
                request_id=work.request_id,
                attempt=work.attempt,
                model=work.model,
                status=status,
                slip=work.slip,
                body=self.body(work) if status == "ok" else None,
                usage=self.usage(work),
                error=None if status == "ok" else OutcomeError(code=self.error_codes.get(work.model, "http_503")),
                **self.more(work),
            )
            topic, key = NAMES.of("outcomes"), work.request_id.encode()
            unit.emit(topic, key, encode(outcome), partition=work.outcome_partition)

    def body(self, work: Work) -> dict[str, Any]:
        return {"choices": []}

    def more(self, work: Work) -> dict[str, Any]:
        """Further fields of an outcome."""
        return {}

    def usage(self, work: Work) -> Usage:
        return Usage(prompt_tokens=10, completion_tokens=5)

    def ask(self, custom_id, *, lane="interactive", key=b"k", **changed) -> ConsumerRecord:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        topic = NAMES.of("requests.batch" if lane == "batch" else "requests")
        value = {"custom_id": custom_id, "body": body} | changed
        return self.log.produce(topic, key, orjson.dumps(value))

    def results(self) -> dict[str, Result]:
        found = [decode(Result, record.value) for record in self.log.records(NAMES.of("results"))]
        assert len({one.id for one in found}) == len(found), "a request has two results"
        return {one.custom_id: one for one in found}

    def health(self, model="small"):
        found = [orjson.loads(record.value) for record in self.log.records(NAMES.of("health"))]
        return [each for each in found if each["model"] == model]

    def state(self, model="small"):
        return self.health(model)[-1]["state"]
