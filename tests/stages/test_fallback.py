"""Route, workers, settle and watch on one in-memory log: who is asked after a failure, how often, and who is asked twice."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from router.config import loads
from router.contract.codec import encode
from router.contract.records import Health
from router.contract.times import to_rfc3339
from router.stages import watch
from tests.stages.system import NAMES, System

MODELS = """
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
context_window = 8000
max_output_tokens = 1000
[models.wide]
input_usd_per_mtok = 0.2
output_usd_per_mtok = 0.8
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
context_window = 8000
max_output_tokens = 1000
[models.spare]
input_usd_per_mtok = 3
output_usd_per_mtok = 9
"""
POOL = """
[pools.auto]
models = ["small", "wide", "large"]
baseline = "large"
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
sticky = "none"
"""
CODES = {
    "error": ("error", "http_503"),
    "gone": ("error", "http_404"),
    "too long": ("error", "context_length_exceeded"),
    "wrong": ("error", "invalid_request"),
    "refused": ("refused", "content_filter"),
    "limited": ("rate_limited", "rate_limited"),
    "timeout": ("timeout", "timeout"),
}


class Failing(System):
    """``fails``: model -> one of ``CODES``."""

    def __init__(self, fallback="", more=()):
        super().__init__(loads(MODELS + POOL + fallback), *more)
        self.fails = {}

    def work(self, batch, unit):
        self.answers = {model: CODES[kind][0] for model, kind in self.fails.items()}
        self.error_codes = {model: CODES[kind][1] for model, kind in self.fails.items()}
        super().work(batch, unit)

    def tell(self, *names, **changed):
        for name in names:
            self.ask(name, key=name.encode(), **changed)
        self.log.run()

    def pass_s(self, seconds):
        self.log.advance(int(seconds * 1000), step_ms=100 if seconds < 20 else 500)

    def attempts(self, name):
        return [(one.model, one.status, one.reason) for one in self.results()[name].router.attempts]

    def say(self, model, **facts):
        """A word of ``watch``."""
        now_ms = self.clock()
        known = {"state": "up", "reason": "no complaint", "error_rate": 0.0, "p95_ms": 500.0, "queue_wait_ms": None}
        record = Health(model=model, endpoints={}, until=None, at=to_rfc3339(now_ms), **(known | facts))
        self.log.produce(NAMES.of("health"), model.encode(), encode(record))
        self.log.run()


@pytest.mark.parametrize(
    ("fallback", "fails", "attempts", "error"),
    [
        ("", {"small": "too long"}, ["small", "wide"], None),
        ("", {"small": "too long", "wide": "too long"}, ["small", "wide"], "context_length_exceeded"),
        ("", {"small": "gone"}, ["small", "large"], None),
        ("", {"small": "refused"}, ["small"], "content_refused"),
        ("", {"small": "wrong"}, ["small"], "provider_error"),
        ('refused = ["wide", "spare"]', {"small": "refused", "wide": "refused"}, ["small", "wide", "spare"], None),
        ('refused = ["wide"]', {"small": "refused", "wide": "refused"}, ["small", "wide"], "content_refused"),
        ('invalid_request = ["spare"]', {"small": "wrong"}, ["small", "spare"], None),
        ('error = ["spare", "wide"]', {"small": "error"}, ["small", "small", "spare"], None),
        ('error = ["spare", "wide"]', {"small": "gone", "spare": "gone"}, ["small", "spare", "wide"], None),
        ("error = []", {"small": "error"}, ["small", "small"], "provider_error"),
        ('rate_limited = ["spare"]', {"small": "limited"}, ["small", "spare"], None),
        ('timeout = ["wide"]', {"small": "timeout"}, ["small", "small", "wide"], None),
        ('context_length_exceeded = ["spare"]', {"small": "too long"}, ["small", "spare"], None),
    ],
)  # fmt: skip
def test_who_is_asked_after_which_failure(fallback, fails, attempts, error):
    system = Failing(f"[pools.auto.fallback]\n{fallback}\n" if fallback else "")
    system.fails = fails
    system.tell("r-1")
    system.pass_s(3)
    result = system.results()["r-1"]
    assert [one.model for one in result.router.attempts] == attempts
    assert (result.error and result.error.code) == error
    assert {one.reason for one in result.router.attempts[1:]} <= {"retry", "fallback"}
    decisions = [orjson.loads(record.value) for record in system.log.records(NAMES.of("decisions"))]
    for decision in (one for one in decisions if one["model"] is not None):
        assert sum(decision["weights"].values()) == pytest.approx(1)
        assert decision["propensity"] == decision["weights"][decision["model"]]


def test_a_chain_passes_over_what_is_withdrawn_and_ends_where_all_of_it_is():
    system = Failing('[pools.auto.fallback]\nerror = ["spare", "wide"]\n')
    system.fails = {"small": "gone"}
    order = {"scope": "model:spare", "action": "ban", "active": True, "by": "ops", "reason": "test"}
    for model, name, attempts in [
        ("spare", "r-1", ["small", "wide"]),
        ("wide", "r-2", ["small"]),
    ]:
        value = order | {"scope": f"model:{model}", "at": to_rfc3339(system.clock())}
        system.log.produce(NAMES.of("control"), value["scope"].encode(), orjson.dumps(value))
        system.log.run()
        system.pass_s(3)
        system.tell(name)
        system.pass_s(1)
        assert [one.model for one in system.results()[name].router.attempts] == attempts
    assert system.results()["r-2"].error.code == "provider_error"
    assert "(small: tried, wide: ban, large: chain, spare: ban)" in system.results()["r-2"].error.message


def test_an_outage_of_all_gets_a_share_more_of_attempts_not_a_multiple():
    """Envoy's and Finagle's promise: retries are a share of traffic. Here also fallbacks, once models are known to be down."""
    system = Failing(more=(watch.build,))
    system.fails = dict.fromkeys(("small", "wide", "large", "spare"), "error")

    def storm(rounds, prefix):
        for n in range(rounds):
            system.tell(*[f"{prefix}-{n}-{i}" for i in range(50)])
            system.pass_s(0.5)

    storm(10, "first")
    assert {system.state(model) for model in ("small", "wide", "large")} <= {"down", "probing"}
    before = sum(system.calls.values())
    storm(40, "then")
    windows = 40 * 0.5 / 10 + 1
    few = 3 * 10 * 10 * windows  # of each model ten a second are always allowed
    assert sum(system.calls.values()) - before <= 2000 * 1.2 + few
    system.pass_s(60)
    assert len(system.results()) == 2500
    assert {one.error.code for one in system.results().values()} == {"provider_error"}


def test_where_one_model_is_out_everybody_is_answered_by_another():
    """The budget bounds retries, not the way to a model that is well."""
    system = Failing(more=(watch.build,))
    system.fails = {"small": "error"}
    names = [f"r-{n}-{i}" for n in range(20) for i in range(50)]
    for at in range(0, len(names), 50):
        system.tell(*names[at : at + 50])
        system.pass_s(0.5)
    system.pass_s(5)
    results = system.results()
    assert {one.error for one in results.values()} == {None}
    retries = sum(each.reason == "retry" for one in results.values() for each in one.router.attempts)
    assert retries <= 1000 * 0.2 + 4 * 25 * 2


def test_an_outage_pauses_a_batch_job_and_does_not_burn_it_through():
    """Three minutes without any provider: interactive requests end at once, what has time waits, and little is asked meanwhile."""
    system = Failing(more=(watch.build,))
    system.fails = dict.fromkeys(("small", "wide", "large", "spare"), "error")
    for n in range(6):
        system.tell(*[f"i-{n}-{i}" for i in range(10)])
        system.pass_s(1)
    names = [f"b-{n}" for n in range(100)]
    system.tell(*names, lane="batch")
    system.pass_s(5)
    before = sum(system.calls.values())
    system.pass_s(180)
    results = system.results()
    assert sum(name in results for name in names) <= 10, "few, of what was tried when the models were probed"
    assert sum(system.calls.values()) - before <= 180 * 10
    system.fails = {}
    system.pass_s(150)
    results = system.results()
    assert set(names) <= set(results)
    assert sum(results[name].error is None for name in names) >= 90
    assert all(len(results[name].router.attempts) <= 4 for name in names)


HEDGES = "[pools.auto.fallback]\nhedge_percent = 10\n"


class Slow(Failing):
    """The first attempt of a request in ``slow`` is answered when ``answer`` is called."""

    def __init__(self, fallback=HEDGES):
        super().__init__(fallback)
        self.slow, self.kept = set(), []

    def work(self, batch, unit):
        now = []
        for record in batch.records:
            work = orjson.loads(record.value)
            name = orjson.loads(record.value)["body"]["messages"][0]["content"]
            (self.kept if name in self.slow and work["attempt"] == 1 else now).append(record)
        super().work(replace(batch, records=now), unit)
        late, self.kept = ([], self.kept) if not self.let_go else (self.kept, [])
        super().work(replace(batch, records=late), unit)

    let_go = False

    def tell(self, *names, **changed):
        for name in names:
            body = {"model": "auto", "messages": [{"role": "user", "content": name}]}
            self.ask(name, key=name.encode(), **({"body": body} | changed))
        self.log.run()

    def warm_up(self):
        self.say("small")
        self.tell(*[f"w-{n}" for n in range(200)])


def test_who_waits_longer_than_most_is_asked_again_and_the_first_answer_counts():
    system = Slow()
    system.slow = {"r-1"}
    system.warm_up()
    system.tell("r-1")
    system.pass_s(0.3)
    assert "r-1" not in system.results()
    system.pass_s(0.5)
    assert system.attempts("r-1") == [("small", "timeout", "routed"), ("small", "ok", "hedge")]
    usage = [orjson.loads(record.value) for record in system.log.records(NAMES.of("usage"))]
    assert [one["attempt"] for one in usage if one["request_id"] == system.results()["r-1"].id] == [2]
    system.let_go = True
    system.tell("more")
    system.pass_s(0.3)
    usage = [orjson.loads(record.value) for record in system.log.records(NAMES.of("usage"))]
    assert sorted(one["attempt"] for one in usage if one["request_id"] == system.results()["r-1"].id) == [1, 2]
    assert len([one for one in system.log.records(NAMES.of("results")) if b'"r-1"' in one.value]) == 1


def test_hedges_have_a_budget():
    system = Slow()
    system.slow = {f"r-{n}" for n in range(300)}
    system.warm_up()
    system.tell(*sorted(system.slow))
    system.pass_s(2)
    hedged = [name for name in system.slow if name in system.results()]
    assert 0 < len(hedged) <= 500 * 0.1 + 4 * 0.5


@pytest.mark.parametrize(
    ("word", "changed"),
    [({"queue_wait_ms": 2000.0}, {}), ({"state": "degraded"}, {}), ({"p95_ms": None}, {}), ({}, {"lane": "batch"})],
)
def test_nobody_is_asked_twice_where_that_makes_it_worse_or_nobody_waits(word, changed):
    system = Slow()
    system.slow = {"r-1"}
    system.warm_up()
    system.say("small", **word)
    system.tell("r-1", **changed)
    system.pass_s(3)
    assert "r-1" not in system.results()


def test_a_hedge_goes_where_the_pool_says():
    system = Slow(HEDGES + 'hedge_to = "wide"\n')
    system.slow = {"r-1"}
    system.warm_up()
    system.tell("r-1")
    system.pass_s(1)
    assert system.attempts("r-1") == [("small", "timeout", "routed"), ("wide", "ok", "hedge")]


def test_a_hedge_that_may_not_be_sent_takes_nothing_from_the_attempt_that_waits():
    system = Slow(HEDGES + "[tenants.acme]\nrequests_per_minute = 1000\nbudget_usd_per_day = 0.0047\n")
    system.slow = {"r-1"}
    system.warm_up()
    system.tell("r-1", router={"tenant": "acme"})
    system.pass_s(2)
    decisions = [orjson.loads(record.value) for record in system.log.records(NAMES.of("decisions"))]
    system.let_go = True
    system.tell("more")
    system.pass_s(1)
    assert system.results()["r-1"].error is None, decisions[-3:]
