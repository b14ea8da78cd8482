"""Every record that a real run leaves in a public topic fits its schema: results, refusals, retries, feedback, orders."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from benchmarks.system import PATIENCE_S, requests, summary, wait_for
from router.contract.asyncapi import file_of
from router.contract.topics import TOPICS, WORK

SCHEMAS = Path(__file__).parents[2] / "schemas"
GOOD, SHAKY, REFUSED, UNSERVED = 200, 40, 10, 10
ORDERED = ("--by", "a test", "--reason", "to see it hold")


#: Topic of a record that is no good, and the reason in its dead letter.
WRONG = {("feedback", "forged_token"), ("feedback", "invalid_feedback"), ("control", "invalid_control")}


def reasons(system):
    return {(one["topic"].removeprefix("llm."), one["reason"]["code"]) for one in system.values("dead-letter")}


def rewards(system):
    """Of this file's requests: others have a pool of their own."""
    return [one for one in system.values("rewards") if one["pool"] not in {"paced", "checked", "looked"}]


def of_run(values):
    """Those that this file asked for."""
    return [value for value in values if value["custom_id"].startswith("c-")]


@pytest.fixture(scope="module")
def results(system):
    """One run that uses everything; its results."""
    asked = [
        *requests(GOOD, "c-good", session="s", tenant="acme", metadata={"any": ["thing", 1]}),
        *requests(SHAKY, "c-shaky", model="shaky"),
        *requests(REFUSED, "c-refusing", model="refusing"),
        *requests(UNSERVED, "c-unserved", model="unserved", deadline_ms=2000),
        *requests(5, "c-unknown", model="nobody-knows"),
        *requests(5, "c-failing", model="failing"),
    ]
    system.produce("requests", asked)
    system.produce("requests.batch", requests(GOOD, "c-batch"))
    total = len(asked) + GOOD
    with system.reading("results") as reader:
        came = reader.until(lambda reads: len(of_run(orjson.loads(read.record.value) for read in reads)) >= total, 90)
        found = of_run(orjson.loads(read.record.value) for read in reader.reads)
    assert came, summary(found)
    tokens = [
        result["router"]["feedback_token"] for result in found if result["error"] is None and result["router"]["pool"]
    ]
    good = [{"feedback_token": token, "kind": "thumbs", "value": 1, "source": "user"} for token in tokens[:50]]
    system.produce("feedback", [*good, *good[:5], good[0] | {"feedback_token": "forged"}, good[1] | {"value": 2}])
    for arguments in (
        ("pin", "pool:shaky", "large"),
        ("ban", "model:failing"),
        ("drain", "model:slow"),
        ("release", "pool:shaky"),
        ("release", "model:failing"),
        ("release", "model:slow"),
    ):
        done = system.run(*arguments, *ORDERED)
        assert done.returncode == 0, done.stderr
    system.produce("control", [{"scope": "model:small", "action": "ban"}], key=b"model:small/ban")
    assert wait_for(lambda: len(rewards(system)) >= 50, PATIENCE_S), "no rewards"
    assert wait_for(lambda: reasons(system) >= WRONG, PATIENCE_S), "no dead letter of what is wrong"
    assert wait_for(lambda: any(window["final"] for window in system.values("metrics")), PATIENCE_S), "no final window"
    return found


def test_each_request_has_one_result_with_the_code_that_it_must_have(results):
    codes = defaultdict(Counter)
    for result in results:
        kind = result["custom_id"].split("-")[1]
        codes[kind][(result["error"] or {"code": "ok"})["code"]] += 1
    assert codes == {
        "good": {"ok": GOOD},
        "batch": {"ok": GOOD},
        "shaky": {"ok": SHAKY},
        "refusing": {"content_refused": REFUSED},
        "unserved": {"deadline_exceeded": UNSERVED},
        "unknown": {"model_not_found": 5},
        "failing": {"provider_error": 5},
    }
    assert len({result["id"] for result in results}) == len(results)


def test_what_fails_is_tried_again_and_then_elsewhere(results):
    shaky = [result["router"]["attempts"] for result in results if "shaky" in result["custom_id"]]
    ways = {tuple((attempt["model"], attempt["reason"]) for attempt in attempts) for attempts in shaky}
    # Once the model is known to be down it is not asked at all.
    assert ways <= {
        (("failing", "routed"), ("failing", "retry"), ("large", "fallback")),
        (("failing", "routed"), ("large", "retry")),
        (("failing", "routed"), ("large", "fallback")),
        (("large", "routed"),),
    }


def test_metadata_and_tenant_come_back(results):
    good = [result["router"] for result in results if "good" in result["custom_id"]]
    assert all(router["metadata"] == {"any": ["thing", 1]} and router["tenant"] == "acme" for router in good)


def public_topics(system):
    """Full name -> the record's kind, of all public topics of the installation."""
    found = {topic.name: topic.record for topic in TOPICS if topic.public}
    for model in system.config["models"]:
        found |= {f"work.{model}": WORK.record, f"work.{model}.batch": WORK.record}
    return found


def test_every_record_of_every_public_topic_fits_its_schema(system, results):
    letters = {(one["topic"], one["partition"], one["offset"]) for one in system.values("dead-letter")}
    counts = Counter()
    for name, kind in public_topics(system).items():
        check = Draft202012Validator(json.loads((SCHEMAS / file_of(kind)).read_text()))
        for record in system.records(name):
            if record.value is None or (record.topic, record.partition, record.offset) in letters:
                continue
            problem = next(check.iter_errors(json.loads(record.value)), None)
            assert problem is None, f"{record.topic} {record.partition} {record.offset}: {problem.message}"
            counts[name] += 1
    used = {"requests", "requests.batch", "work.large", "work.large.batch", "outcomes", "results", "decisions"}
    used |= {"feedback", "rewards", "metrics", "health", "control", "dead-letter"}
    assert used <= counts.keys()


def test_what_is_wrong_in_other_topics_is_a_dead_letter_with_its_reason(system, results):
    assert reasons(system) >= WRONG


def test_feedback_counts_once(system, results):
    assert len(rewards(system)) == 50


def test_the_topics_agree_with_each_other(system, results):
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
