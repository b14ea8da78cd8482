"""``pointsman simulate``: a world or a stream, for people and for programs; what is wrong in one line."""

from __future__ import annotations

import json

import pytest

from router.cli import run
from router.simulation.run import runs as in_the_core
from router.simulation.world import names

WORLD = """
days = 4
rollout = [[0, 50]]
dimensions = {}
[[changes]]
day = 1
bad = 0.5
stratum = "math/hard"
"""
FIELDS = {
    "seed",
    "days_to_alarm",
    "days_to_rollback",
    "right_stratum",
    "saving_kept",
    "false_alarms_per_100_days",
    "requests_harmed",
}


@pytest.fixture
def world(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(WORLD)
    return str(file)


@pytest.fixture
def trace(tmp_path):
    file = tmp_path / "stream.jsonl"
    lines = [
        {"t_s": 60 * number, "request_id": str(number), "model": ("cheap", "dear")[number % 2], "stratum": "a"}
        for number in range(100)
    ]
    file.write_text("\n".join(json.dumps(one) for one in lines))
    return file


def test_the_worlds_are_listed(capsys):
    assert run(["simulate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line.split()) > 2 for line in lines)


def test_one_document_for_programs(world, capsys):
    assert run(["simulate", "--world", world, "--seeds", "2", "--first-seed", "7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["world"], found["margin"]) == ("mine", 0.1)
    assert [one["seed"] for one in found["runs"]] == [7, 8]
    assert all(one.keys() >= FIELDS for one in found["runs"])
    assert found["runs"][0]["first_alarm"] == "math/hard"
    assert found["summary"]["days_to_alarm"].keys() == {"median", "p90", "max"}


def test_a_page_for_people(world, capsys):
    assert run(["simulate", "--world", world, "--margin", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "world mine, margin 20%" in out
    assert "math/hard" in out


def test_fewer_days_than_the_world_has(world, capsys):
    assert run(["simulate", "--world", world, "--days", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["first_alarm"] is None  # it is fine until the second day


@pytest.mark.parametrize("same", [True, False])
def test_beside_the_core_it_says_whether_both_told_the_same(same, world, capsys, monkeypatch):
    """The runs on Kafka have tests of their own (``tests/rehearsal``)."""
    first = {"day": 1.5, "unit": "a/any", "severity": "page", "signal": "quality", "since": 1.25}
    again = {"day": 2.5, "unit": "b/any", "severity": "watch", "signal": None, "since": None}
    missing = {"core": [], "stage": []} if same else {"core": [first], "stage": [again]}

    def through_the_stage(found, seeds, first_seed, tell):
        document = in_the_core(found, seeds, first_seed, tell)
        document["runs"][0] |= {"same_as_core": same, "differences": missing}
        return document

    monkeypatch.setattr("router.rehearsal.run.runs", through_the_stage)
    assert run(["simulate", "--world", world, "--days", "1", "--kafka"]) == (0 if same else 1)
    out = capsys.readouterr().out
    assert ("told the alerts of the core" in out) is same
    assert ("only the core: day 1.50, page: a/any, quality since day 1.25" in out) is not same
    assert ("only the stage: day 2.50, watch: b/any, told again" in out) is not same


def test_a_recorded_stream(trace, capsys):
    assert run(["simulate", "--trace", str(trace), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["strata"] == ["a"]
    assert found["runs"][0].keys() >= FIELDS
    assert found["runs"][0]["pages"] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--world", "nowhere"], "nowhere"),
        (["--trace", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--seeds", "0"], "--seeds"),
        (["--margin", "1"], "--margin"),
        (["--days", "0"], "--days"),
        (["--kafka", "--trace", "any.jsonl"], "--kafka plays a world"),
        (["--days", "3", "--trace", "any.jsonl"], "--days is of a world"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, named, capsys):
    assert run(["simulate", *arguments]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert named in found.err
    assert "Traceback" not in found.err


def test_a_line_that_is_no_event_is_named(trace, capsys):
    with trace.open("a") as file:
        file.write("\nnonsense")
    assert run(["simulate", "--trace", str(trace)]) == 2
    assert "line 101" in capsys.readouterr().err
