"""Records of a later release, in the middle of others: whatever the topic and the stage, they are refused with the reason, and nothing else is."""

from __future__ import annotations

import orjson
import pytest

from router import stages
from router.config import loads
from router.contract.topics import Names
from router.core.keyring import Keyring
from router.kafka.client import Client
from router.stages.context import Context
from router.testing import MemoryLog

CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "large"]
objective = "budget"
policy = "squarecb"
budget_usd_per_request = 0.01
[reviews]
text = true
"""
NAMES = Names("llm")


def built(name):
    context = Context(config=loads(CONFIG), client=Client(""), keyring=Keyring((b"k" * 32,)), names=NAMES, partitions=4)
    return stages.build(name, context)


def request(number):
    body = {"model": "auto", "messages": [{"role": "user", "content": f"question {number}"}]}
    return orjson.dumps({"custom_id": f"r-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})


@pytest.mark.parametrize("name", stages.NAMES)
def test_every_stage_refuses_a_later_major_version_on_every_source(name):
    for stage in built(name):
        log = MemoryLog(stage)
        for source in stage.sources:
            log.produce(source, b"k", b"{}", headers=[("schema", b"2")])
        log.run()
        letters = [orjson.loads(record.value) for record in log.records(NAMES.of("dead-letter"))]
        assert sorted(letter["topic"] for letter in letters) == sorted(stage.sources)
        assert {(letter["reason"]["code"], letter["stage"]) for letter in letters} == {("unsupported_schema", name)}
        assert all("this release reads 1" in letter["reason"]["message"] for letter in letters)


def test_what_lies_around_such_a_record_is_handled_as_ever():
    interactive = built("route")[0]
    log = MemoryLog(interactive)
    headers = {1: [("schema", b"2")], 2: [("schema", b"1")], 3: [("schema", b"1.4")]}
    for number in range(5):
        log.produce(NAMES.of("requests"), b"k", request(number), headers=headers.get(number, []))
    log.run()
    work = [orjson.loads(r.value) for model in ("small", "large") for r in log.records(NAMES.work(model))]
    assert sorted(one["body"]["messages"][0]["content"] for one in work) == [f"question {n}" for n in (0, 2, 3, 4)]
    (letter,) = log.records(NAMES.of("dead-letter"))
    assert orjson.loads(letter.value)["offset"] == 1
