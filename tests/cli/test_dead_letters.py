"""`dead-letters` on a real broker: what is shown and what not, what goes back, and that nothing goes twice."""

import asyncio
import base64
import json
from types import SimpleNamespace

import orjson
import pytest
from aiokafka.errors import KafkaError

from router.cli import run
from router.contract.errors import BadRecord, RejectCode, Unavailable
from router.contract.ids import partition_of, request_id
from router.contract.letters import dead_letter
from router.contract.topics import MIB, Names
from router.dead_letters import HEADER, Wanted, redrive
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import MAX_REQUEST_BYTES
from router.kafka.put import Said, put
from router.kafka.scan import scan

NOW_MS = 1_800_000_000_000
TOPICS = ("dead-letter", "redriven", "results", "requests", "outcomes", "feedback", "control")
PARTITIONS = 3


def record(topic, offset, value, *, key=b"k", partition=0):
    return SimpleNamespace(topic=topic, partition=partition, offset=offset, key=key, value=value)


def request(custom_id):
    return orjson.dumps({"custom_id": custom_id, "body": {"messages": [{"role": "user", "content": "secret prompt"}]}})


class World:
    """Topics of one prefix, and the command line on them."""

    def __init__(self, client, prefix, folder, capsys):
        self.client, self.names, self._capsys = client, Names(prefix), capsys
        self.file = folder / "pointsman.toml"
        self.file.write_text(f'[kafka]\nprefix = "{prefix}"\n' + CONFIG)
        topics = {self.names.of(name): TopicSpec(partitions=PARTITIONS, max_bytes=4 * MIB) for name in TOPICS}
        asyncio.run(create_topics(client, topics))

    def letter(self, origin, *, code=RejectCode.INTERNAL_ERROR, stage="route", message="died of it", at_ms=NOW_MS):
        return dead_letter(origin, BadRecord(message, code=code), stage=stage, at_ms=at_ms)

    def post(self, *letters):
        """All in partition 0 of the dead-letter topic's, so that their places are 0/0, 0/1, ..."""
        self.write("dead-letter", *(Said(KEY, value) for _, value in letters))

    def write(self, topic, *records):
        asyncio.run(put(self.client, self.names.of(topic), records))

    def read(self, topic):
        async def found():
            return [one async for one in scan(self.client, [self.names.of(topic)])]

        return asyncio.run(found())

    def command(self, *arguments):
        """Exit code and what was printed."""
        given = ["dead-letters", *arguments, "--config", str(self.file), "--broker", self.client.bootstrap]
        code = run(given)
        return code, self._capsys.readouterr().out

    def json(self, *arguments):
        code, out = self.command(*arguments, "--json")
        assert out.isascii()
        return code, json.loads(out)


CONFIG = """
[models.m]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["m"]
"""
KEY = next(key for key in map(str.encode, map(str, range(100))) if partition_of(key, PARTITIONS) == 0)


@pytest.fixture
def world(client, prefix, tmp_path, capsys):
    return World(client, prefix, tmp_path, capsys)


def test_it_goes_back_once_with_its_key_and_value_into_its_partition(world):
    requests, value = world.names.of("requests"), request("r-1")
    world.post(world.letter(record(requests, 7, value, key=b"\x00\xff", partition=2)))
    assert world.json("redrive", "--stage", "route", "--dry-run")[1]["redriven"] == [
        {"place": "0/0", "origin": f"{requests}/2/7"}
    ]
    assert world.read("requests") == []
    assert len(world.json("redrive", "--stage", "route")[1]["redriven"]) == 1
    code, said = world.json("redrive", "--all")
    assert (code, said["redriven"], said["redriven_before"]) == (0, [], ["0/0"])
    [sent] = world.read("requests")
    assert (sent.key, sent.value, sent.partition, dict(sent.headers)) == (b"\x00\xff", value, 2, {HEADER: b"0/0"})
    assert len(world.json("redrive", "0/0", "--again")[1]["redriven"]) == 1
    assert len(world.read("requests")) == 2


def test_a_request_that_has_its_result_stays_whatever_is_said(world):
    """Also when the dedupe window is over: routers would take it for a new one."""
    requests = world.names.of("requests")
    world.post(*(world.letter(record(requests, number, request(f"r-{number}"))) for number in range(3)))
    answered = request_id("default", "r-1")
    world.write("results", Said(b"k", b"{}", (("id", answered.encode()), ("lane", b"interactive"))))
    code, said = world.json("redrive", "--all", "--again")
    assert (code, said["has_result"], len(said["redriven"])) == (0, ["0/1"], 2)
    assert {orjson.loads(one.value)["custom_id"] for one in world.read("requests")} == {"r-0", "r-2"}


def test_an_outcome_goes_to_where_its_request_is_settled_and_never_twice(world):
    id_ = next(f"{number:032x}" for number in range(99) if partition_of(f"{number:032x}".encode(), PARTITIONS) == 1)
    value = orjson.dumps({"request_id": id_})
    world.post(world.letter(record(world.names.of("outcomes"), 0, value, key=b"elsewhere", partition=2)))
    for _ in range(2):
        world.command("redrive", "--topic", "outcomes", "--again")
    [sent] = world.read("outcomes")
    assert (sent.partition, sent.key) == (1, b"elsewhere")


def test_what_cannot_go_back_is_refused_and_says_why(world):
    names = world.names
    cut = world.letter(record(names.of("requests"), 0, b"x" * (MIB + 1)))
    order = world.letter(record(names.of("control"), 0, b"{}"))
    usage = world.letter(record(names.of("dead-letter"), 0, b"{}"))
    nothing = world.letter(record(names.of("requests"), 1, b""))
    broken = orjson.dumps(orjson.loads(nothing[1]) | {"offset": 2, "value_base64": "not base64!"})
    world.post(cut, order, usage, nothing, (None, broken), (None, b"\xffno letter"))
    code, said = world.json("redrive", "--all")
    assert (code, said["redriven"]) == (1, [])
    why = {one["place"]: one["why"] for one in said["refused"]}
    assert set(why) == {"0/0", "0/1", "0/2", "0/3", "0/4"}
    assert why["0/0"] == "cut: the original has 1048577 bytes, not all are here; send it again from where it came from"
    assert all("only requests, outcomes and feedback" in why[place] for place in ("0/1", "0/2"))
    assert "base64" in why["0/4"]
    assert world.json("redrive", "0/99")[1]["refused"] == [{"place": "0/99", "why": "there is no such dead letter"}]


def test_of_two_stages_letters_of_one_record_one_goes_back(world):
    origin = record(world.names.of("feedback"), 4, b"{}")
    world.post(world.letter(origin, stage="feedback"), world.letter(origin, stage="other"))
    for again in ((), ("--again",)):
        code, said = world.json("redrive", "--topic", "feedback", *again)
        assert (code, len(said["redriven"]), len(said["redriven_before"])) == (0, 1, 1)


def test_filters_must_all_hold(world):
    names, day = world.names, 86_400_000
    world.post(
        world.letter(record(names.of("requests"), 0, b"{}", key=b"a"), code=RejectCode.INVALID_REQUEST, at_ms=NOW_MS),
        world.letter(record(names.of("feedback"), 0, b"{}", key=b"b"), stage="feedback", at_ms=NOW_MS - day),
        world.letter(record(names.of("feedback"), 1, b"{}", key=None), stage="feedback", at_ms=1_000),
    )

    def places(*filters):
        return {one["place"] for one in world.json("list", *filters)[1]["letters"]}

    assert places() == {"0/0", "0/1", "0/2"}
    assert places("--topic", "feedback") == places("--topic", names.of("feedback")) == {"0/1", "0/2"}
    assert places("--key", "b") == {"0/1"}
    assert places("--reason", "invalid_request") == {"0/0"}
    assert places("--stage", "feedback", "--until", "3650d") == {"0/2"}
    assert places("--since", "3650d", "--stage", "feedback") == {"0/1"}
    assert places("--reason", "invalid_request", "--stage", "feedback") == set()
    assert places("--last", "1") == {"0/0"}


def test_prompts_are_shown_on_demand_alone_and_nothing_steers_the_terminal(world):
    hostile = "\x1b[2J\x9b31m\u202egpj.exe\u200b\x07\x7f"
    origin = record(
        f"{world.names.of('requests')}{hostile}", 0, f"sesame {hostile}\nline".encode(), key=hostile.encode()
    )
    world.post(world.letter(origin, message=f"custom_id: must be text, not 'sesame {hostile}'", stage=f"r{hostile}"))
    for arguments in (["list"], ["show", "0/0"], ["redrive", "--all"], ["show", "0/0", "--text"]):
        out = world.command(*arguments)[1]
        assert all(one.isprintable() for one in out.replace("\n", "")), arguments
        assert ("sesame" in out) == ("--text" in arguments)
        said = world.json(*arguments)[1]
        assert ("sesame" in json.dumps(said)) == ("--text" in arguments)
    assert base64.b64decode(world.json("show", "0/0", "--text")[1]["value_base64"]) == origin.value


@pytest.mark.parametrize("arguments", [["redrive"], ["show", "0"], ["show", "-1/2"], ["list", "--since", "soon"]])
def test_wrong_usage_is_told_before_anything_is_read(world, arguments):
    assert world.command(*arguments)[0] == 2


def test_another_redrive_takes_the_word_from_the_first_which_sends_nothing_more(world, monkeypatch):
    """The second begins while the first waits for its rate: each record went once."""
    requests = world.names.of("requests")
    world.post(*(world.letter(record(requests, number, request(f"r-{number}"))) for number in range(4)))
    waits, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_seconds):
        waits.set()
        await go_on.wait()

    async def both():
        first = asyncio.create_task(redrive(world.client, world.names, Wanted(), per_s=1, now_ms=NOW_MS))
        await waits.wait()
        second = await redrive(world.client, world.names, Wanted(), per_s=1000, now_ms=NOW_MS)
        go_on.set()
        with pytest.raises(Unavailable, match="another one began"):
            await first
        return second

    monkeypatch.setattr("router.dead_letters.asyncio", SimpleNamespace(sleep=pause, gather=asyncio.gather))
    second = asyncio.run(both())
    assert (len(second.send), len(second.before)) == (3, 1)
    assert sorted(orjson.loads(one.value)["custom_id"] for one in world.read("requests")) == [
        f"r-{n}" for n in range(4)
    ]


def test_a_record_that_the_topic_does_not_take_is_not_marked(client, prefix, tmp_path, capsys):
    world = World(client, prefix, tmp_path, capsys)
    small = {f"{prefix}-s.{name}": TopicSpec(partitions=1, max_bytes=4 * MIB) for name in TOPICS}
    small[f"{prefix}-s.feedback"] = TopicSpec(partitions=1, max_bytes=2_000)
    asyncio.run(create_topics(client, small))
    names = Names(f"{prefix}-s")
    letter = world.letter(record(names.of("feedback"), 0, b"x" * 200_000))[1]
    asyncio.run(put(client, names.of("dead-letter"), [Said(KEY, letter)]))
    with pytest.raises((Unavailable, KafkaError)):
        asyncio.run(redrive(client, names, Wanted(), now_ms=NOW_MS))

    async def marked():
        return [one async for one in scan(client, [names.of("redriven")])]

    assert asyncio.run(marked()) == []
    assert MAX_REQUEST_BYTES > 4 * MIB
