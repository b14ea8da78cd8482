"""Route, workers with few slots, settle and watch on one in-memory log: more comes than can be done, and then no more."""

from __future__ import annotations

from collections import Counter, deque

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode, encode
from router.contract.records import Decision, Health, Outcome, Saturation, Work
from router.contract.times import to_rfc3339
from router.core.records import Order
from router.history.replay import Snapshots, Verdict, replay
from router.stages import watch
from tests.stages.system import NAMES, System
from tests.stages.test_tenants import KEYS

CONFIG = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[pools.auto]
models = ["small"]
sticky = "none"
holdout_percent = 0
[route]
max_queue_s = 5
"""
STEP_MS, CALL_MS = 100, 400


class Narrow(System):
    """``calls_a_step`` calls of ``CALL_MS`` end in 100 ms, interactive ones first."""

    def __init__(self, config=CONFIG, calls_a_step=1):
        self.calls_a_step, self.queues = calls_a_step, {"interactive": deque(), "batch": deque()}
        self.now_open, self.asked = deque(), 0
        super().__init__(loads(config), watch.build)

    def work(self, batch, unit):
        lane = "batch" if batch.tp.topic.endswith(".batch") else "interactive"
        self.queues[lane].extend(decode(Work, record.value) for record in batch.records)

    def go(self, seconds, per_s=0, **changed):
        """``per_s`` requests a second in all four partitions, or none."""
        for step in range(seconds * 1000 // STEP_MS):
            for _ in range((step + 1) * per_s // 10 - step * per_s // 10):
                self.asked += 1
                self.ask(f"r-{self.asked}", key=KEYS[self.asked % 4], **changed)
            self.go_on()
        return self

    def go_on(self):
        """One step."""
        self._serve()
        self.log.advance(STEP_MS)

    def _serve(self):
        while self.now_open and self.now_open[0][0] <= self.clock():
            work = self.now_open.popleft()[1]
            outcome = Outcome(
                request_id=work.request_id,
                attempt=work.attempt,
                model=work.model,
                status="ok",
                slip=work.slip,
                body={"choices": []},
                usage=self.usage(work),
                latency_ms=CALL_MS,
            )
            key = work.request_id.encode()
            self.log.produce(NAMES.of("outcomes"), key, encode(outcome), partition=work.outcome_partition)
        for _ in range(self.calls_a_step):
            queue = self.queues["interactive"] or self.queues["batch"]
            if queue:
                self.now_open.append((self.clock() + CALL_MS, queue.popleft()))

    def full(self, wait_s=60.0, model="small"):
        """Say that the model has far too much to do."""
        record = Health(
            model=model,
            state="up",
            reason="",
            error_rate=None,
            p95_ms=None,
            queue_wait_ms=None,
            endpoints={},
            until=None,
            at=to_rfc3339(self.clock()),
            saturated=Saturation(at_ms=self.clock(), queued=int(10 * wait_s), per_s=10.0),
        )
        self.log.produce(NAMES.of("health"), model.encode(), encode(record))
        self.log.advance(1)

    def codes(self, names=None):
        found = [one for name, one in self.results().items() if names is None or name in names]
        return Counter("ok" if one.error is None else one.error.code for one in found)

    def replayed(self):
        snapshots = Snapshots({one.key.decode(): one.value for one in self.log.records(NAMES.of("snapshots"))})
        return Counter(replay(one.value, snapshots).verdict for one in self.log.records(NAMES.of("decisions")))


@pytest.fixture
def full():
    world = Narrow()
    world.full()
    return world


def test_a_new_request_is_refused_at_once_with_a_hint(full):
    full.ask("r-1")
    full.go(1)
    (result,) = full.results().values()
    assert result.error.code == "overloaded"
    assert result.error.message == "all models that may answer have too much to do; try again in 60 s"
    assert result.error.retry_after_ms == 60_000
    assert result.router.attempts == []
    assert result.router.cost_nano_usd == 0
    decision = decode(Decision, full.log.records(NAMES.of("decisions"))[0].value)
    assert (decision.attempt, decision.error.code) == (0, "overloaded")
    assert not full.log.records(NAMES.work("small", "interactive"))


def test_batch_waits_and_is_not_refused(full):
    full.ask("b-1", lane="batch")
    full.go(2)
    assert full.codes() == {"ok": 1}


def test_a_further_attempt_has_been_admitted_already():
    world = Narrow()
    asked = world.ask("r-1")
    world.log.run()
    world.full()
    order = Order(
        request_id=decode(Decision, world.log.records(NAMES.of("decisions"))[0].value).request_id,
        attempt=2,
        reason="retry",
        lane="interactive",
        origin={"topic": asked.topic, "partition": asked.partition, "offset": asked.offset},
        at_ms=asked.timestamp,
        deadline_at_ms=asked.timestamp + 60_000,
        first={
            "stratum": "general/easy",
            "cohort": "pilot",
            "propensity": 1.0,
            "policy_version": "thompson:0",
            "model": "small",
        },
        prefer="small",
    )
    world.log.produce(NAMES.of("redispatch"), b"k", encode(order), partition=asked.partition)
    world.log.run()
    assert [one.attempt for one in world.queues["interactive"]] == [1, 2]


def test_a_request_that_is_refused_uses_nothing_of_its_tenants_limits():
    world = Narrow(CONFIG + "[tenants.acme]\nrequests_per_minute = 2\n")
    world.clock.now_ms = 1_767_225_600_000
    world.full()
    for number in range(5):
        world.ask(f"r-{number}", router={"tenant": "acme"})
    world.go(8)
    assert world.codes() == {"overloaded": 5}
    for number in range(5, 8):
        world.ask(f"r-{number}", router={"tenant": "acme"})
    world.go(4)
    assert world.codes() == {"overloaded": 5, "ok": 2, "rate_limited": 1}


def test_without_word_of_the_queue_or_with_an_old_one_nobody_is_refused(full):
    full.log.advance(6_000)
    full.ask("r-1")
    full.go(1)
    assert full.codes() == {"ok": 1}


def test_a_model_named_directly_is_no_exception(full):
    full.ask("r-1", body={"model": "small", "messages": [{"role": "user", "content": "hello"}]})
    full.go(1)
    assert full.codes() == {"overloaded": 1}


def test_a_word_of_the_queue_makes_no_new_snapshot(full):
    full.ask("b-1", lane="batch")
    full.go(2)
    before = len(full.log.records(NAMES.of("snapshots")))
    full.full(30.0)
    full.ask("b-2", lane="batch")
    full.go(2)
    assert len(full.log.records(NAMES.of("snapshots"))) == before


def test_an_overload_through_all_stages_and_back():
    world = Narrow().go(10, per_s=5)
    assert world.codes().keys() == {"ok"}
    normal = world.asked
    for number in range(20):
        world.ask(f"b-{number}", lane="batch")
    world.go(30, per_s=60)
    served = world.codes()["ok"] - normal
    assert served >= 0.9 * 10 * 30, "no slot is idle"
    late = world.asked
    world.go(20)
    after = world.asked
    world.go(10, per_s=5)
    world.go(5)
    results = world.results()
    assert len(results) == world.asked + 20, "each has one result"
    assert world.codes().keys() == {"ok", "overloaded"}
    assert world.codes({f"r-{number}" for number in range(after + 1, world.asked + 1)}) == {"ok": world.asked - late}
    assert world.codes({f"b-{number}" for number in range(20)}) == {"ok": 20}
    assert max(results[f"r-{number}"].router.latency_ms for number in range(after + 1, world.asked + 1)) < 1_500
    assert max(one.router.latency_ms for name, one in results.items() if name.startswith("r-")) < 60_000
    refused = [one for one in results.values() if one.error is not None]
    assert max(one.router.latency_ms for one in refused) <= 200, "who is refused knows at once"
    assert set(world.replayed()) == {Verdict.IDENTICAL, Verdict.REFUSAL}
    assert world.replayed()[Verdict.REFUSAL] == len(refused)


def test_health_says_how_much_waits_and_how_much_is_done():
    world = Narrow().go(5, per_s=5).go(8, per_s=60)
    found = [orjson.loads(record.value) for record in world.log.records(NAMES.of("health"))]
    (last,) = [one for one in found[-1:] if one["saturated"]]
    assert last["saturated"]["per_s"] == pytest.approx(10.0, rel=0.15)
    assert last["saturated"]["queued"] == pytest.approx(len(world.queues["interactive"]), abs=25)
    world.go(60)
    found = [orjson.loads(record.value) for record in world.log.records(NAMES.of("health"))]
    assert found[-1]["saturated"] is None


TABLES = """
[tenants.noisy]
[tenants.quiet]
"""


def test_a_tenant_that_sends_far_too_much_has_no_other_one_refused_and_is_served_with_what_is_left():
    """Fifty times the other one's traffic, five times what can be done: what exceeds its share waits behind, and is refused by that queue."""
    world = Narrow(CONFIG.replace("[models.small]", "[models.small]\nconcurrency = 4") + TABLES)
    for second in range(60):
        for step in range(10):
            for number in range(5):
                world.ask(f"noisy-{second}-{step}-{number}", key=KEYS[number % 4], router={"tenant": "noisy"})
            if not step:
                world.ask(f"quiet-{second}", key=KEYS[second % 4], router={"tenant": "quiet"})
            world.go_on()
    world.go(60)
    of = {name: Counter() for name in ("noisy", "quiet")}
    for one in world.results().values():
        of[one.router.tenant][one.error.code if one.error else "ok"] += 1
    assert of["quiet"] == {"ok": 60}
    assert set(of["noisy"]) == {"ok", "overloaded"}, "nothing dies in the queue"
    assert of["noisy"].total() == 3_000
    assert of["noisy"]["ok"] > 0.8 * 60 * 9, "no slot is idle"
    assert world.replayed()[Verdict.DIFFERENT] == 0
