"""Route, workers, settle and watch on one in-memory log: a model whose workers are gone, and what waits for it."""

from __future__ import annotations

import orjson
import pytest

from router.config import loads
from router.contract.codec import encode
from router.contract.records import Health
from router.stages import watch
from tests.stages.system import NAMES, System

CONFIG = loads(
    """
    [route]
    max_inflight = 1000
    [models.small]
    input_usd_per_mtok = 0.1
    output_usd_per_mtok = 0.4
    [models.large]
    input_usd_per_mtok = 2
    output_usd_per_mtok = 8
    [pools.auto]
    models = ["small", "large"]
    baseline = "large"
    policy = "fixed"
    weights = { small = 1.0 }
    holdout_percent = 0
    sticky = "none"
    """
)


class Quiet(System):
    """Work of a model in ``away`` stays in its topic until it is back, as with a consumer group that has no member."""

    def __init__(self):
        self.away = set()
        super().__init__(CONFIG, watch.build)
        self.later = {}

    def work(self, batch, unit):
        model = batch.tp.topic.removeprefix("llm.work.").removesuffix(".batch")
        kept = self.later.setdefault(unit.partition, {}).pop(model, []) if model not in self.away else []
        for older in kept:
            super().work(older, unit)
        if model in self.away:
            self.later.setdefault(unit.partition, {}).setdefault(model, []).append(batch)
        else:
            super().work(batch, unit)

    def tell(self, *names, **changed):
        for name in names:
            self.ask(name, key=name.encode(), **changed)
        self.log.run()

    def pass_s(self, seconds):
        self.log.advance(int(seconds * 1000), step_ms=250)


@pytest.fixture
def system():
    return Quiet()


def test_without_workers_a_model_is_down_within_ten_seconds_and_health_says_why(system):
    system.away.add("small")
    system.tell("r-1", "r-2")
    system.pass_s(7)
    assert all(each["state"] == "up" for each in system.health())
    system.pass_s(3)
    last = system.health()[-1]
    assert (last["state"], last["silent"]) == ("down", True)
    assert last["reason"].startswith("silent for 8 s with 2 open: no worker takes its work")


def test_what_waits_for_it_is_answered_by_another_model_long_before_the_deadline(system):
    system.away.add("small")
    names = [f"r-{n}" for n in range(30)]
    system.tell(*names)
    system.tell("b-1", lane="batch")
    system.pass_s(12)
    found = system.results()
    assert set(found) == {*names, "b-1"}
    assert {(one.error, one.router.model) for one in found.values()} == {(None, "large")}
    attempts = {tuple((each.model, each.status, each.reason) for each in one.router.attempts) for one in found.values()}
    assert attempts == {(("small", "timeout", "routed"), ("large", "ok", "fallback"))}


def test_meanwhile_new_requests_go_elsewhere_at_once(system):
    system.away.add("small")
    system.tell("r-1")
    system.pass_s(11)
    system.tell("r-2")
    system.pass_s(0.5)
    attempts = system.results()["r-2"].router.attempts
    assert [(each.model, each.reason) for each in attempts] == [("large", "routed")]


def test_a_request_that_names_the_model_waits_for_it_and_brings_it_back(system):
    system.away.add("small")
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
    system.tell("r-1", body=body, router={"deadline_ms": 120_000})
    system.pass_s(60)
    assert system.results() == {}
    assert {each["state"] for each in system.health()[2:]} == {"down"}, "while it is silent nobody probes it"
    system.away.clear()
    system.tell("r-2", body=body)
    for _ in range(12):  # a worker that comes back reads its partitions one after the other
        system.tell(f"more-{_}", body=body)
        system.pass_s(1)
    assert system.results()["r-2"].router.model == "small"
    assert system.state() == "up"
    system.tell("r-3")
    system.pass_s(1)
    assert system.results()["r-3"].router.model == "small"


def test_an_answer_that_comes_after_all_is_the_result_if_it_is_the_first_and_each_attempt_is_billed_once(system):
    system.away |= {"small", "large"}
    system.tell("r-1", router={"deadline_ms": 120_000})
    system.pass_s(12)
    system.away.remove("small")
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
    for n in range(40):
        system.tell(f"wake-{n}", body=body)
    system.pass_s(1)
    assert system.results()["r-1"].router.model == "small"
    system.away.clear()
    wake = {"model": "large", "messages": [{"role": "user", "content": "hello"}]}
    for n in range(40):
        system.tell(f"wake-large-{n}", body=wake)
    system.pass_s(1)
    usage = [orjson.loads(record.value) for record in system.log.records(NAMES.of("usage"))]
    of_request = [each for each in usage if each["request_id"] == system.results()["r-1"].id]
    assert sorted(each["model"] for each in of_request) == ["large", "small"]


def test_where_all_are_silent_the_deadline_answers(system):
    system.away |= {"small", "large"}
    system.tell("r-1", router={"deadline_ms": 40_000})
    system.pass_s(41)
    assert system.results()["r-1"].error.code == "deadline_exceeded"


def test_slow_calls_are_no_silence_while_anything_is_answered(system):
    system.tell(*[f"ok-{n}" for n in range(20)])
    system.answers["small"] = "silence"  # taken, and never answered
    system.tell("hangs")
    system.answers.clear()
    for n in range(20):
        system.tell(f"more-{n}")
        system.pass_s(1)
    assert {each["state"] for each in system.health()} == {"up"}


def test_an_outage_of_settle_makes_no_model_silent(system):
    """What was answered lies unread before settle; when it reads on, its word is about the time up to which it has read."""
    (settle,) = [stage for stage in system.stages if stage.name.endswith("settle")]
    lanes = system.log._lanes.pop(settle.name)
    system.tell(*[f"r-{n}" for n in range(20)])
    system.log.clock.advance(20_000)
    system.log.run()
    system.log._lanes[settle.name] = lanes
    system.pass_s(3)
    assert len(system.results()) == 20
    assert "down" not in {each["state"] for each in system.health()}


def test_the_word_of_a_watch_that_died_holds_until_it_ends(system):
    """Nothing is taken from a model for ever because nobody is there to say that it is back."""
    now_ms = system.clock()
    record = Health(
        model="small",
        state="down",
        reason="silent",
        error_rate=None,
        p95_ms=None,
        queue_wait_ms=None,
        endpoints={},
        until=watch.to_rfc3339(now_ms + 5_000),
        at=watch.to_rfc3339(now_ms),
        silent=True,
    )
    for stage in [stage for stage in system.stages if "watch" in stage.name]:
        system.log._lanes.pop(stage.name)
    system.log.produce(NAMES.of("health"), b"small", encode(record))
    system.log.run()
    system.pass_s(6)
    system.away.add("small")
    for n in range(40):
        system.tell(f"r-{n}")
    system.pass_s(20)
    waiting = 40 - len(system.results())
    assert waiting > 0, "a probe went to the model and nobody says that it is silent"
