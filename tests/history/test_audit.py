"""The audit passes what settle and account really write, and fails on one record doubled, one removed, one cost off by 1."""

from collections import defaultdict
from dataclasses import replace

import orjson
import pytest

from router.config import loads
from router.contract.ids import request_id
from router.contract.records import Origin
from router.core.slip import Keyring, Slip, sign
from router.history.audit import ListPrice, audit
from router.kafka.client import Client
from router.stages import account, settle
from router.stages.context import Context
from router.testing import MemoryLog

CONFIG = loads(
    """
    [models.small]
    input_usd_per_mtok = 0.1
    output_usd_per_mtok = 0.4
    cached_input_usd_per_mtok = 0.05
    [models.large]
    input_usd_per_mtok = 1
    output_usd_per_mtok = 4
    [models.odd]
    unpriced = true
    [pools.auto]
    models = ["small", "odd", "large"]
    """
)
PRICES = {"small": ListPrice(prompt=100, completion=400, cached=50), "large": ListPrice(prompt=1000, completion=4000)}
RING = Keyring((b"k" * 32,))
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}
TOPICS = (
    "requests",
    "requests.batch",
    "decisions",
    "outcomes",
    "results",
    "usage",
    "metrics",
    "control",
    "dead-letter",
)


class Day:
    """Requests of every kind, through the real settle and account."""

    def __init__(self):
        context = Context(config=CONFIG, client=Client("127.0.0.1:1"), keyring=RING, partitions=4)
        self.log = MemoryLog(*settle.build(context), *account.build(context))
        self.control("ban", "odd")
        self.log.advance(60_000)
        self.control("ban", "odd", active=False)
        answered = self.decide("answered")
        self.outcome(answered)
        self.decide("answered", lane="batch", model="large")  # a duplicate in the other lane
        self.outcome(replace(answered, model="large"))
        retried = self.decide("retried")
        self.outcome(retried, "rate_limited")
        second = replace(retried, attempt=2, model="large", reason="fallback")
        self.decide_slip(second)
        self.outcome(second)
        self.outcome(self.decide("unpriced", model="odd"))
        self.refuse("refused")
        late = self.decide("late")
        self.outcome(self.decide("unpriced and late", model="odd"), "timeout")
        self.log.produce("llm.outcomes", b"k", b"not JSON")
        self.log.produce("llm.requests", b"k", b"not JSON")
        self.log.advance(61_000, step_ms=1_000)
        self.outcome(late)
        self.log.advance(180_000, step_ms=1_000)

    def request(self, custom_id, lane="interactive"):
        topic = "llm.requests" + (".batch" if lane == "batch" else "")
        value = {"custom_id": custom_id, "body": {"messages": [{"role": "user", "content": "2+2"}]}}
        if lane == "batch":
            value["router"] = {"deadline_ms": 60_000}
        return self.log.produce(topic, custom_id.encode(), orjson.dumps(value))

    def slip(self, custom_id, lane="interactive", model="small"):
        record = self.request(custom_id, lane)
        return Slip(
            request_id=request_id("default", custom_id),
            attempt=1,
            model=model,
            reason="routed",
            origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
            at_ms=record.timestamp,
            deadline_at_ms=record.timestamp + 60_000,
            key=record.key,
            tenant="default",
            custom_id=custom_id,
            metadata=None,
            lane=lane,
            pool="auto",
            stratum="general/easy",
            cohort="pilot",
            propensity=0.5,
            policy_version="p:1",
            first_model=model,
            baseline="large",
        )

    def decide(self, custom_id, **more):
        slip = self.slip(custom_id, **more)
        self.decide_slip(slip)
        return slip

    def decide_slip(self, slip, error=None):
        value = {
            "request_id": slip.request_id,
            "attempt": slip.attempt,
            "model": slip.model,
            "reason": slip.reason,
            "origin": {"topic": slip.origin.topic, "partition": slip.origin.partition, "offset": slip.origin.offset},
            "error": error,
        }
        headers = [("slip", sign(slip, RING).encode())]
        self.log.produce("llm.decisions", slip.request_id.encode(), orjson.dumps(value), headers=headers)
        self.log.run()

    def refuse(self, custom_id):
        slip = replace(self.slip(custom_id), attempt=0, model=None, reason=None)
        self.decide_slip(slip, {"code": "budget_exceeded", "message": "m"})

    def outcome(self, slip, status="ok"):
        value = {
            "request_id": slip.request_id,
            "attempt": slip.attempt,
            "model": slip.model,
            "status": status,
            "slip": sign(slip, RING),
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 40},
            "body": ANSWER if status == "ok" else None,
            "error": None if status == "ok" else {"code": "x"},
        }
        self.log.produce("llm.outcomes", slip.request_id.encode(), orjson.dumps(value))
        self.log.run()

    def control(self, action, model, *, active=True):
        value = {"scope": f"model:{model}", "action": action, "active": active, "by": "me", "reason": "r", "at": "x"}
        self.log.produce("llm.control", f"model:{model}/{action}".encode(), orjson.dumps(value))

    def records(self):
        return {topic: self.log.records(f"llm.{topic}") for topic in TOPICS}


@pytest.fixture(scope="module")
def day():
    return Day()


def report(day, records, **how):
    read = [record for topic in records for record in records[topic]]
    return audit(read, **{"prices": PRICES, "now_ms": day.log.clock()} | how)


#: Topics in which one record more or less is noticed. A request may be there twice: it has one result.
CHANGES = [
    *(("doubled", topic) for topic in ("decisions", "outcomes", "results", "usage", "dead-letter")),
    *(("removed", topic) for topic in ("requests", "requests.batch", "decisions", "outcomes", "results", "usage")),
]


def test_what_really_was_written_has_no_problem(day):
    found = report(day, day.records())
    assert found.problems == ()
    assert found.unchecked == ()
    figures = found.figures
    assert (figures["answerable_requests"], figures["results"], figures["ok"]) == (6, 6, 3)
    assert figures["errors"] == {"budget_exceeded": 1, "deadline_exceeded": 2}
    assert (figures["attempts"], figures["fallbacks"], figures["cost_unknown"]) == (7, 1, 2)
    small, large = 60 * 100 + 40 * 50 + 10 * 400, 100 * 1000 + 10 * 4000
    assert figures["cost_nano_usd"] == 3 * small + 2 * large
    assert (figures["lost"], figures["open"], figures["doubled"]) == (0, 0, 0)
    assert figures["dead_letters"] == {"invalid_outcome": 1}


def test_same_figures_whatever_order_the_topics_are_read_in(day):
    records = day.records()
    assert report(day, dict(reversed(records.items()))) == report(day, records)


@pytest.mark.parametrize(("what", "topic"), CHANGES)
def test_any_record_doubled_or_removed_is_a_problem(day, what, topic):
    records = day.records()
    for at, record in enumerate(records[topic]):
        if topic in {"outcomes", "requests"} and record.value.startswith(b"not"):
            continue  # counts nowhere
        changed = list(records[topic])
        if what == "doubled":
            changed.append(replace(record, offset=1_000))
        else:
            del changed[at]
        assert not report(day, records | {topic: changed}).ok, f"{topic} {record.value!r}"


@pytest.mark.parametrize("what", ["doubled", "removed"])
def test_any_final_window_doubled_or_removed_is_a_problem(day, what):
    records = day.records()
    finals = [at for at, record in enumerate(records["metrics"]) if orjson.loads(record.value)["final"]]
    for at in finals:
        changed = list(records["metrics"])
        changed[at : at + 1] = [changed[at]] * 2 if what == "doubled" else []
        found = report(day, records | {"metrics": changed})
        assert found.problems or found.unchecked


def costs(value, path=()):
    """Paths of all costs in a record."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "cost_nano_usd" and isinstance(inner, int):
                yield (*path, key)
            yield from costs(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from costs(inner, (*path, key))


@pytest.mark.parametrize("topic", ["results", "usage", "metrics"])
@pytest.mark.parametrize("off", [1, -1])
def test_any_cost_off_by_one_nano_dollar_is_a_problem(day, topic, off):
    records = day.records()
    tried = defaultdict(int)
    for at, record in enumerate(records[topic]):
        content = orjson.loads(record.value)
        if content.get("final") is False:
            continue
        for path in costs(content):
            changed = orjson.loads(record.value)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] += off
            copy = list(records[topic])
            copy[at] = replace(record, value=orjson.dumps(changed))
            assert not report(day, records | {topic: copy}).ok
            tried[topic] += 1
    assert tried[topic] > 0


def test_token_count_off_by_one_is_a_problem(day):
    records = day.records()
    changed = [
        replace(record, value=record.value.replace(b'"prompt_tokens":100', b'"prompt_tokens":101'))
        for record in records["outcomes"]
    ]
    assert not report(day, records | {"outcomes": changed}).ok


def test_decision_for_a_banned_model_is_a_problem(day):
    records = day.records()
    released = [record for record in records["control"] if b'"active":true' in record.value]
    found = report(day, records | {"control": released})
    assert any("the ban of its model" in problem for problem in found.problems)


def test_request_before_its_deadline_is_open_not_lost(day):
    records = day.records()
    waiting = replace(records["requests"][-2], timestamp=day.log.clock() - 60_000, offset=1_000)
    waiting = replace(waiting, value=waiting.value.replace(b"unpriced and late", b"waiting"))
    found = report(day, records | {"requests": [*records["requests"], waiting]})
    assert (found.problems, found.figures["open"], found.figures["lost"]) == ((), 1, 0)


def test_sums_are_not_judged_while_a_window_is_open(day):
    records = day.records()
    updates = [record for record in records["metrics"] if not orjson.loads(record.value)["final"]]
    found = report(day, records | {"metrics": updates})
    assert found.ok
    assert "not final yet" in found.unchecked[0]


def test_where_nothing_is_counted_any_more_windows_of_a_time_to_come_are_judged_by_their_newest_record(day):
    records, before = day.records(), 0
    opened = [
        replace(record, value=record.value.replace(b'"final":true', b'"final":false')) for record in records["metrics"]
    ]
    assert report(day, records | {"metrics": opened}, quiet=True, now_ms=before).ok
    assert report(day, records | {"metrics": opened}, quiet=True, now_ms=before).unchecked == ()
    assert "not final yet" in report(day, records | {"metrics": opened}, quiet=True).unchecked[0]
    (*_, last) = (record for record in opened if b'"requests":0' not in record.value)
    lost = [record for record in opened if record.key != last.key]
    found = report(day, records | {"metrics": lost}, quiet=True, now_ms=before)
    assert any("in the windows" in problem for problem in found.problems)
