"""Redriven twice, a request has one result; and it has that one."""

import asyncio
import time
from types import SimpleNamespace

import orjson

from benchmarks.system import request
from router.cli import run
from router.contract.errors import PointsmanError
from router.contract.letters import dead_letter
from router.contract.topics import Names
from router.kafka.client import Client
from router.kafka.put import Said, put

COUNT = 20


def test_a_request_that_is_sent_back_is_answered_once_however_often_that_is_ordered(system, monkeypatch):
    topic = system.topic("requests")
    letters = []
    for number in range(COUNT):
        value = orjson.dumps(request(f"redriven-{number}"))
        origin = SimpleNamespace(topic=topic, partition=number % 4, offset=10**9 + number, key=b"k", value=value)
        error = PointsmanError("stage redriven died of it three times")
        letters.append(dead_letter(origin, error, stage="redriven", at_ms=time.time_ns() // 1_000_000))
    client = Client(system.bootstrap)
    asyncio.run(put(client, Names(system.prefix).of("dead-letter"), [Said(key, value) for key, value in letters]))
    monkeypatch.setenv("POINTSMAN_KAFKA__PREFIX", system.prefix)
    how = ["--config", str(system.folder / "pointsman.toml"), "--broker", system.bootstrap]
    ours = {f"redriven-{number}" for number in range(COUNT)}
    with system.reading("results") as reader:
        for again in ([], ["--again"], ["--again"]):
            assert run(["dead-letters", "redrive", "--stage", "redriven", "--rate", "1000", *again, *how]) == 0
        reader.until(lambda _: len(results(reader, ours)) >= COUNT, 60.0)
        time.sleep(1.0)
        found = results(reader, ours)
    assert sorted(one["custom_id"] for one in found) == sorted(ours)
    assert all(one["error"] is None for one in found)


def results(reader, ours):
    found = [orjson.loads(read.record.value) for read in reader.reads]
    return [one for one in found if one["custom_id"] in ours]
