"""Whatever is produced as a request: its exact answer, and a good request right behind it in its partition that is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from benchmarks.reader import Read
from benchmarks.system import System, request
from router.contract.ids import request_id
from router.contract.topics import MAX_REQUEST_BYTES

PARTITIONS = 4
WITHIN_MS = 30_000
RESULT_S = 60.0


@dataclass(frozen=True)
class Item:
    """``value``: what is produced. ``answers``: codes of its results. ``letter``: code of its dead letter."""

    name: str
    value: bytes | None
    answers: tuple[str, ...] = ()
    letter: str | None = None
    key: bytes | None = b"key"
    how: dict[str, Any] = field(default_factory=dict)
    packed: bool = False
    custom_id: str | None = None

    @property
    def id(self) -> str:
        return request_id("default", self.custom_id or self.name)


def line(name: str, **changes: Any) -> bytes:
    """A valid request with some of its fields changed, also those of its body and of ``router``."""
    made = request(name)
    for field_, value in changes.items():
        if isinstance(value, dict) and field_ in ("body", "router"):
            made[field_] = made.get(field_, {}) | value
        else:
            made[field_] = value
    return orjson.dumps(made)


def sized(name: str, size: int) -> bytes:
    """A valid request of exactly ``size`` bytes."""
    short = line(name, body={"padding": ""})
    return line(name, body={"padding": "x" * (size - len(short))})


def without(name: str, field_: str) -> bytes:
    return orjson.dumps({key: value for key, value in request(name).items() if key != field_})


INVALID, NO_RESULT, OK = ("invalid_request",), (), ("ok",)


def both(name: str, value: bytes, **more: Any) -> Item:
    """Readable but invalid: a result and a dead letter."""
    return Item(name, value, INVALID, "invalid_request", **more)


def letter_only(name: str, value: bytes) -> Item:
    return Item(name, value, NO_RESULT, "invalid_request")


def said(name: str, content: Any) -> bytes:
    return line(name, body={"messages": [{"role": "user", "content": content}]})


ITEMS = [
    letter_only("not-json", b"{not json"),
    letter_only("empty-value", b""),
    letter_only("not-utf8", b'{"custom_id": "\xff"}'),
    letter_only("nan", b'{"custom_id": "nan", "body": {"temperature": NaN}}'),
    letter_only("list", b"[1, 2]"),
    letter_only("text", b'"text"'),
    letter_only("number", b"5"),
    letter_only("json-null", b"null"),
    letter_only("no-custom-id", without("no-custom-id", "custom_id")),
    letter_only("custom-id-number", line("x", custom_id=5)),
    letter_only("custom-id-empty", line("")),
    letter_only("custom-id-too-long", line("c" * 257)),
    letter_only("bottomless", b'{"custom_id": ' + b"[" * 100_000),
    Item("custom-id-longest", line("c" * 256), OK, custom_id="c" * 256),
    both("no-body", without("no-body", "body")),
    both("body-is-text", line("body-is-text", body="text")),
    both("messages-is-text", line("messages-is-text", body={"messages": "text"})),
    both("no-messages", line("no-messages", body={"messages": []})),
    both("message-is-number", line("message-is-number", body={"messages": [1]})),
    both("max-tokens-is-text", line("max-tokens-is-text", body={"max_tokens": "64"})),
    both("model-is-number", line("model-is-number", body={"model": 1})),
    both("wrong-method", line("wrong-method", method="GET")),
    both("wrong-url", line("wrong-url", url="/v1/fine-tunes")),
    both("router-is-list", line("router-is-list", router=[])),
    both("tenant-is-number", line("tenant-is-number", router={"tenant": 5})),
    both("tenant-too-long", line("tenant-too-long", router={"tenant": "t" * 129})),
    both("negative-budget", line("negative-budget", router={"max_cost_nano_usd": -1})),
    both("negative-deadline", line("negative-deadline", router={"deadline_ms": -1})),
    both("deadline-zero", line("deadline-zero", router={"deadline_ms": 0})),
    both("deadline-endless", line("deadline-endless", router={"deadline_ms": 10**12})),
    Item("deadline-past", line("deadline-past", router={"deadline_ms": 1}), ("deadline_exceeded",)),
    Item("unknown-model", line("unknown-model", body={"model": "nobody-knows"}), ("model_not_found",)),
    Item("no-budget", line("no-budget", router={"max_cost_nano_usd": 1}), ("budget_exceeded",)),
    # Too near a window of 128,000 to be estimated, and too long to be counted at once; the answer may take 64, the frame takes 7.
    Item("fits-a-window", said("fits-a-window", " word" * (128_000 - 64 - 7)), OK),
    Item("one-token-too-many", said("one-token-too-many", " word" * (128_001 - 64 - 7)), ("context_length_exceeded",)),
    Item("many-tokens", said("many-tokens", "one two " * 110_000), ("context_length_exceeded",)),
    both("a-million-spaces", said("a-million-spaces", " " * 1_000_000)),
    Item("many-spaces", said("many-spaces", " " * 900_000), OK),
    Item("size-below-limit", sized("size-below-limit", MAX_REQUEST_BYTES - 1), OK),
    Item("size-at-limit", sized("size-at-limit", MAX_REQUEST_BYTES), OK),
    both("size-above-limit", sized("size-above-limit", MAX_REQUEST_BYTES + 1)),
    both(
        "many-messages",
        line("many-messages", body={"messages": [{"role": "user", "content": "a"}] * 100_000}),
        packed=True,  # or the producer's broker would not take it
    ),
    Item("content-is-number", said("content-is-number", 5), OK),
    Item("content-is-null", said("content-is-null", None), OK),
    Item("clock-in-1970", line("clock-in-1970"), OK, how={"timestamp_ms": 1}),
    Item("clock-in-2100", line("clock-in-2100"), OK, how={"timestamp_ms": 4_102_444_800_000}),
    Item("null-key", line("null-key"), OK, key=None),
    Item("binary-key", line("binary-key"), OK, key=b"\x00\xff\xfe"),
    Item("null-value", None),
    Item("null-headers", line("null-headers"), OK, how={"headers": [("traceparent", None), ("schema", None)]}),
]


@dataclass
class Found:
    """What came of all items: results and decisions by request id, codes of dead letters by place, places by name."""

    results: dict[str, list[Any]]
    decided: dict[str, list[Any]]
    letters: dict[tuple[int, int], list[str]]
    places: dict[str, tuple[int, int]]

    def codes(self, id_: str) -> tuple[str, ...]:
        return tuple((value["error"] or {"code": "ok"})["code"] for _, value in self.results[id_])


async def produce(system: System) -> dict[str, tuple[int, int]]:
    """All items, each with a good request right behind it; where each came to lie."""
    how = {"bootstrap_servers": system.bootstrap, "max_request_size": 6_000_000}
    topic, places = system.topic("requests"), {}
    async with AIOKafkaProducer(**how) as plain, AIOKafkaProducer(compression_type="gzip", **how) as packed:
        for number, item in enumerate(ITEMS):
            where = {"partition": number % PARTITIONS, "key": item.key}
            producer = packed if item.packed else plain
            placed = await producer.send_and_wait(topic, item.value, **where, **item.how)
            places[item.name] = (placed.partition, placed.offset)
            behind = line(f"behind-{item.name}", router={"deadline_ms": WITHIN_MS})
            await plain.send_and_wait(topic, behind, **where)
    return places


@pytest.fixture(scope="module")
def found(system) -> Found:
    """Read when all that is expected is there, and a second later, for what is not."""
    places = asyncio.run(produce(system))
    expected = sum(len(item.answers) + 1 for item in ITEMS)
    letters_expected = sum(item.letter is not None for item in ITEMS)
    ours = {item.id for item in ITEMS} | {behind(item) for item in ITEMS}
    with system.reading("results", "decisions", "dead-letter") as reader:
        reader.until(lambda _: all_there(reader.reads, ours, expected, letters_expected), RESULT_S)
        time.sleep(1.0)
        reads = list(reader.reads)
    made = Found(defaultdict(list), defaultdict(list), defaultdict(list), places)
    for read in reads:
        value = orjson.loads(read.record.value)
        if read.record.topic.endswith("results"):
            made.results[value["id"]].append((read.record.key, value))
        elif read.record.topic.endswith("decisions"):
            made.decided[value["request_id"]].append(value)
        elif value["topic"] == system.topic("requests"):
            made.letters[value["partition"], value["offset"]].append(value["reason"]["code"])
    return made


def behind(item: Item) -> str:
    return request_id("default", f"behind-{item.name}")


def all_there(reads: list[Read], ours: set[str], results: int, letters: int) -> bool:
    """Whether as many results of ours and dead letters have come."""
    topics = Counter(
        read.record.topic.rpartition(".")[2]
        for read in reads
        if not read.record.topic.endswith("results") or orjson.loads(read.record.value)["id"] in ours
    )
    return topics["results"] >= results and topics["dead-letter"] >= letters


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_it_gets_the_answer_of_the_contract_and_a_dead_letter_where_it_says_so(found, item):
    assert found.codes(item.id) == item.answers
    assert found.letters[found.places[item.name]] == ([item.letter] if item.letter else [])


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_the_good_request_behind_it_in_its_partition_is_answered_in_time(found, item):
    assert found.codes(behind(item)) == ("ok",)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_every_answer_has_its_decision_and_nothing_else_has_one(found, item):
    attempts = [decision["attempt"] for decision in found.decided[item.id]]
    refused = item.answers != ("ok",)
    assert attempts == ([0 if refused else 1] if item.answers else [])


@pytest.mark.parametrize("item", [item for item in ITEMS if item.answers], ids=lambda item: item.name)
def test_an_answer_has_the_key_and_custom_id_of_its_request(found, item):
    [(key, result)] = found.results[item.id]
    assert (key, result["custom_id"]) == (item.key, item.custom_id or item.name)
