"""A survey on a real Kafka: users are asked once, in whatever partition they come, and their answers are counted."""

import json

from benchmarks.system import PATIENCE_S, request, wait_for
from router.contract.ids import request_id

USERS = 12


def ours(system, topic, name):
    ids = {request_id("default", f"{name}-{n}") for n in range(USERS)}
    return [one for one in system.values(topic) if (one["id"] if topic == "results" else one["request_id"]) in ids]


def ask(system, name):
    """One request of each user; their keys are their own, so they lie anywhere."""
    asked = [request(f"{name}-{n}", model="surveyed", session=f"user-{n}") for n in range(USERS)]
    system.produce("requests", asked)
    assert wait_for(lambda: len(ours(system, "results", name)) == USERS, PATIENCE_S)
    return ours(system, "results", name)


def test_users_are_asked_once_and_what_they_say_is_counted(system):
    first = ask(system, "surveyed-first")
    assert [one["router"]["survey"]["scale"] for one in first] == ["1-5"] * USERS
    assert all("survey" not in one["router"] for one in ask(system, "surveyed-again"))
    assert {one["event"] for one in ours(system, "surveys", "surveyed-first")} == {"asked"}

    said = [{"kind": "survey", "value": 0.75, "feedback_token": one["router"]["feedback_token"]} for one in first[:3]]
    system.produce("feedback", said)

    def answered():
        return [one for one in ours(system, "surveys", "surveyed-first") if one["event"] == "answered"]

    assert wait_for(lambda: len(answered()) == 3, PATIENCE_S)
    assert wait_for(lambda: len(ours(system, "rewards", "surveyed-first")) == 3, PATIENCE_S)
    assert {(one["kind"], one["reward"]) for one in ours(system, "rewards", "surveyed-first")} == {("survey", 0.75)}
    told = system.run("surveys", "rates", "--survey", "helpful", "--json")
    assert told.returncode == 0, told.stderr
    (found,) = json.loads(told.stdout)
    assert (found["waiting"], found["waiting_answered"], found["groups"]) == (USERS, 3, [])
