"""A second answer beside the result, in memory: who gives it, what it costs, who judges the pair, and that the caller never notices."""

from __future__ import annotations

import random
from collections import Counter

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode, encode
from router.contract.ids import request_id
from router.contract.records import Decision, MetricWindow, ReviewItem, Reward, Work
from router.core.beside import swapped
from router.core.records import Focus, JudgedPair, Load, PricedAttempt, Spending
from router.history.audit import ListPrice, audit
from router.history.replay import Snapshots, Verdict, replay
from router.stages import account, feedback
from router.testing import FakeClock
from tests.stages.system import NAMES, System

CONFIG = """
[kafka]
partitions = 4
[models.small]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[models.arbiter]
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
shadow_percent = 100
"""
PRICES = (("small", 100, 400), ("large", 2000, 8000), ("arbiter", 1000, 1000))
BUDGET = 'policy = "squarecb"\nobjective = "budget"\nbudget_usd_per_request = 1\nepsilon = 0.5'
JUDGED = CONFIG + 'judge = "arbiter"\n'


class Shadowed(System):
    """``verdicts``: what the judge says of a request; by default that the first answer that it is shown is better."""

    def __init__(self, config=JUDGED):
        super().__init__(loads(config), feedback.build, account.build)
        self.verdicts = {}

    def works(self, model, lane="batch"):
        return [decode(Work, record.value) for record in self.log.records(NAMES.work(model, lane))]

    def body(self, work):
        said = self.verdicts.get(work.request_id, "A") if work.model == "arbiter" else f"by {work.model}"
        return {"choices": [{"message": {"content": said}}]}

    def more(self, work):
        return {"served_model": f"{work.model}-1"}

    def all(self, kind, topic):
        return [decode(kind, record.value) for record in self.log.records(NAMES.of(topic))]

    def order(self, scope, action, **args):
        record = {
            "scope": scope,
            "action": action,
            "args": args,
            "active": True,
            "by": "x",
            "reason": "y",
            "at": "2026-01-01T00:00:00Z",
        }
        self.log.produce(NAMES.of("control"), f"{scope}/{action}".encode(), orjson.dumps(record))

    def replayed(self):
        stored = {record.key.decode(): record.value for record in self.log.records(NAMES.of("snapshots"))}
        snapshots = Snapshots(stored)
        return {replay(record.value, snapshots).verdict for record in self.log.records(NAMES.of("decisions"))}


@pytest.fixture
def system():
    return Shadowed()


def run(system, *names):
    for name in names:
        system.ask(name)
    system.log.advance(2000, step_ms=100)
    return system.results()


def with_line(line, config=CONFIG):
    return Shadowed(config + line)


def test_the_baseline_answers_too_and_the_caller_gets_what_he_would_have_got(system):
    found = run(system, "a")["a"]
    assert found.response.body["choices"][0]["message"]["content"] == "by small"
    assert [(one.attempt, one.model) for one in found.router.attempts] == [(1, "small")]
    (shadow,) = system.works("large")
    asked = orjson.loads(system.log.records(NAMES.of("requests"))[0].value)
    assert (shadow.attempt, shadow.reason, shadow.body) == (101, "shadow", asked["body"])
    assert system.works("large", "interactive") == []


def test_records_say_what_was_mirrored_and_a_replay_finds_no_difference(system):
    run(system, "a")
    first, second, judge = system.all(Decision, "decisions")
    assert (first.sample.shadow, first.sample.review, first.shadow_of) == (1.0, 0.0, None)
    assert (second.attempt, second.cohort, second.shadow_of, second.model) == (101, "shadow", 1, "large")
    assert (judge.attempt, judge.cohort, judge.shadow_of, judge.model) == (201, "shadow", 1, "arbiter")
    assert system.replayed() == {Verdict.IDENTICAL}


def test_a_shadow_waits_for_the_answer(system):
    system.answers["small"] = "silence"
    run(system, "a")
    assert system.works("large") == []


def test_of_a_failed_request_there_is_nothing_to_mirror(system):
    system.answers |= {"small": "error", "large": "error"}
    system.ask("a", router={"deadline_ms": 10_000})
    system.log.advance(20_000, step_ms=500)
    assert system.results()["a"].error is not None
    assert {work.reason for work in system.works("large")} == set()


def test_where_the_baseline_answered_after_all_nobody_mirrors_it(system):
    system.answers["small"] = "error"
    found = run(system, "a")["a"]
    assert found.router.model == "large"
    assert system.works("small") == system.works("large") == []


def test_its_cost_is_counted_apart_and_never_the_callers(system):
    found = run(system, "a", "b")
    system.log.advance(120_000, step_ms=1000)
    windows = [one for one in system.all(MetricWindow, "metrics") if one.final]
    shadow = [one for one in windows if one.cohort == "shadow"]
    assert sum(one.shadows for one in windows) == sum(one.shadows_ok for one in windows) == 2
    assert {one.model for one in shadow} == {"large", "arbiter"}
    assert sum(one.escalations for one in windows) == 0
    usage = system.all(PricedAttempt, "usage")
    beside = [one for one in usage if one.cohort == "shadow"]
    assert sorted((one.model, one.reason) for one in beside) == [("arbiter", "judge")] * 2 + [("large", "shadow")] * 2
    assert sum(one.cost_nano_usd for one in shadow) == sum(one.cost_nano_usd for one in beside) > 0
    assert {one.baseline_cost_nano_usd for one in beside} == {0}
    paid = sum(one.router.cost_nano_usd for one in found.values())
    assert sum(one.cost_nano_usd for one in windows if one.cohort != "shadow") == paid


def test_a_failed_shadow_is_counted_and_that_is_all(system):
    system.answers["large"] = "error"
    assert run(system, "a")["a"].error is None
    system.log.advance(120_000, step_ms=1000)
    windows = [one for one in system.all(MetricWindow, "metrics") if one.final]
    assert (sum(one.shadows for one in windows), sum(one.shadows_ok for one in windows)) == (1, 0)
    assert system.works("arbiter") == []
    assert len(system.results()) == 1


def test_a_late_shadow_is_priced_and_judged_by_nobody(system):
    system.answers["large"] = "silence"
    run(system, "a")
    (work,) = system.works("large")
    system.log.advance(3_700_000, step_ms=100_000)
    system.answers.clear()
    system.log.produce(NAMES.work("large", "batch"), work.request_id.encode(), encode(work))
    system.log.advance(1000)
    (late,) = [one for one in system.all(PricedAttempt, "usage") if one.reason == "shadow"]
    assert late.late
    assert system.works("arbiter") == []


def test_duplicates_and_redelivered_outcomes_make_no_second_shadow_price_or_pair(system):
    run(system, "a", "a")
    for record in list(system.log.records(NAMES.of("outcomes"))):
        topic, where = NAMES.of("outcomes"), record.partition
        system.log.produce(topic, record.key, record.value, partition=where)
    system.log.advance(120_000)
    system.ask("a")
    system.log.advance(2000, step_ms=100)
    assert len(system.works("large")) == len(system.works("arbiter")) == 1
    assert len(system.all(PricedAttempt, "usage")) == 3
    assert len(system.all(JudgedPair, "pairs")) == 1
    assert len(system.log.records(NAMES.of("dead-letter"))) == 0


def test_restarts_lose_and_double_nothing(system):
    names = [f"r{number}" for number in range(20)]
    for name in names:
        system.ask(name)
        system.log.run()
        for stage in system.stages:
            system.log.restart(stage)
        system.clock.advance(50)
    system.log.advance(5000, step_ms=100)
    assert set(system.results()) == set(names)
    assert sorted(one.request_id for one in system.all(JudgedPair, "pairs")) == sorted(
        request_id("default", name) for name in names
    )


def test_the_judge_gets_both_answers_blind_and_in_either_order(system):
    names = [f"r{number}" for number in range(40)]
    run(system, *names)
    for work in system.works("arbiter"):
        text = work.body["messages"][1]["content"]
        turned = swapped("default", work.request_id)
        assert (text.index("by large") < text.index("by small")) == turned
        assert text.index("<answer A>") < text.index("<answer B>")
    assert {swapped("default", work.request_id) for work in system.works("arbiter")} == {True, False}


@pytest.mark.parametrize(("said", "sign"), [("A", -1.0), ("B", 1.0), ("tie", 0.0)])
def test_a_verdict_is_of_the_model_against_the_baseline(system, said, sign):
    names = [f"r{number}" for number in range(10)]
    system.verdicts |= {request_id("default", name): said for name in names}
    run(system, *names)
    pairs = system.all(JudgedPair, "pairs")
    assert len(pairs) == 10
    for pair in pairs:
        assert (pair.model, pair.served_model, pair.reference_model) == ("small", "small-1", "large")
        assert (pair.cohort, pair.pool, pair.judge, pair.inclusion) == ("pilot", "auto", "arbiter", 1.0)
        assert pair.verdict == (-sign if swapped("default", pair.request_id) else sign)
        assert pair.asked_ms <= pair.at_ms
    told = {tuple(one.slices) for one in [*pairs, *system.all(PricedAttempt, "usage")]}
    assert told == {("language=latin", "length=short")}
    keys = {record.key.decode() for record in system.log.records(NAMES.of("pairs"))}
    assert keys == {f"{pair.pool}/{pair.stratum}" for pair in pairs}


def test_what_is_no_verdict_makes_no_pair(system):
    system.verdicts[request_id("default", "a")] = "As an assistant I cannot compare answers."
    run(system, "a")
    assert len(system.works("arbiter")) == 1
    assert system.all(JudgedPair, "pairs") == []


def test_a_shadow_is_no_evidence(system):
    found = run(system, "a")
    token = found["a"].router.feedback_token
    system.log.produce(
        NAMES.of("feedback"), b"k", orjson.dumps({"kind": "thumbs", "value": 1.0, "feedback_token": token})
    )
    system.log.advance(1000)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.model, reward.cohort) == ("small", "pilot")


class TestTheOtherWayRound:
    def test_the_baselines_answers_are_mirrored_where_the_policy_is_only_observed(self):
        system = Shadowed(JUDGED.replace('policy = "fixed"\nweights = { small = 1.0 }', 'policy = "observe"'))
        assert run(system, "a")["a"].router.model == "large"
        (shadow,) = system.works("small")
        assert shadow.attempt == 101
        (pair,) = system.all(JudgedPair, "pairs")
        assert (pair.model, pair.reference_model, pair.cohort) == ("small", "large", "control")
        # the judge prefers what it is shown first: the caller's answer, which is the baseline's, unless the two were swapped
        assert pair.verdict == (-1.0 if swapped("default", pair.request_id) else 1.0)
        assert system.replayed() == {Verdict.IDENTICAL}

    def test_and_where_the_stratum_was_rolled_back(self, system):
        system.order("all", "rollback")
        assert run(system, "a")["a"].router.model == "large"
        assert [work.attempt for work in system.works("small")] == [101]

    def test_else_nobody_mirrors_the_baseline(self):
        system = Shadowed(JUDGED.replace("small = 1.0", "large = 1.0"))
        run(system, "a")
        assert system.works("small") == []

    def test_nor_what_a_person_ordered_or_the_caller_named(self, system):
        system.order("tenant:acme", "pin", model="small")
        system.ask("a", router={"tenant": "acme"})
        system.ask("b", body={"model": "small", "messages": [{"role": "user", "content": "x"}]})
        system.log.advance(2000, step_ms=100)
        assert system.works("large") == []


class TestWhoIsDrawn:
    def test_by_the_request_and_not_by_its_session(self):
        system = with_line("", CONFIG.replace("shadow_percent = 100", "shadow_percent = 50"))
        for number in range(200):
            system.ask(f"r{number}", router={"session": "s"})
        system.log.advance(10_000, step_ms=100)
        assert 70 < len(system.works("large")) < 130
        drawn = [one for one in system.all(Decision, "decisions") if one.attempt == 1 and one.sample is not None]
        assert len(drawn) == len(system.works("large"))
        assert {one.sample.shadow for one in drawn} == {0.5}

    def test_more_often_in_a_stratum_that_the_guard_looks_at(self):
        system = with_line("", CONFIG.replace("shadow_percent = 100", "shadow_percent = 10"))
        run(system, "a")
        stratum = system.all(Decision, "decisions")[0].stratum
        focus = Focus(pool="auto", stratum=stratum, reviews=1.0, shadow=5.0, at_ms=system.clock())
        system.log.produce(NAMES.of("focus"), f"auto/{stratum}".encode(), encode(focus))
        system.log.advance(2000, step_ms=500)
        before = len(system.works("large"))
        for number in range(200):
            system.ask(f"r{number}")
        system.log.advance(10_000, step_ms=100)
        assert 70 < len(system.works("large")) - before < 130
        assert system.replayed() == {Verdict.IDENTICAL}

    def test_not_what_the_other_model_cannot_do(self):
        system = Shadowed(JUDGED.replace("[models.large]\n", "[models.large]\ncontext_window = 20000\n"))
        system.ask("a", body={"messages": [{"role": "user", "content": "word " * 30_000}]})
        system.log.advance(2000, step_ms=100)
        assert system.results()["a"].router.model == "small"
        assert system.works("large") == []


class TestLimits:
    def test_what_a_day_may_cost_is_passed_by_a_call_and_its_judge_at_most(self):
        # a shadow costs 10 x 2,000 + 5 x 8,000 nano-dollars by its outcome; each of four lanes has a quarter of 0.001 USD
        system = with_line("shadow_usd_per_day = 0.001\n", CONFIG)
        for number in range(40):
            system.ask(f"r{number}")
            system.log.advance(200, step_ms=100)
        cost = sum(one.cost_nano_usd for one in system.all(PricedAttempt, "usage") if one.cohort == "shadow")
        assert 0 < cost <= 250_000 + 60_000
        assert 0 < len(system.works("large")) < 40
        system.log.advance(86_400_000, step_ms=21_600_000)
        before = len(system.works("large"))
        system.ask("next day")
        system.log.advance(2000, step_ms=100)
        assert len(system.works("large")) == before + 1

    def test_only_so_many_are_out_at_once(self):
        system = Shadowed(CONFIG + "[route]\nmax_inflight = 80\n")
        system.answers["large"] = "silence"
        for number in range(30):
            system.ask(f"r{number}")
            system.log.advance(200, step_ms=100)
        assert len(system.works("large")) == 2  # a tenth of 80, of which a lane has a quarter

    @pytest.mark.parametrize(("behind_ms", "sent"), [(2_000, 0), (100, 1)])
    def test_none_while_settle_is_behind(self, behind_ms, sent):
        system, now_ms = Shadowed(CONFIG), FakeClock().now_ms
        load = Load(stage="settle", partition=9, at_ms=now_ms, read_to_ms=now_ms - behind_ms)
        system.log.produce(NAMES.of("load"), b"settle/9", encode(load))
        system.ask("a")
        system.log.run()
        assert "a" in system.results()
        assert len(system.works("large")) == sent

    def test_none_while_batch_is_not_admitted(self):
        system = Shadowed(CONFIG.replace("[pools.auto]", "[route]\nmax_inflight = 1\n[pools.auto]"))
        system.answers["small"] = "silence"
        system.ask("waits", lane="batch")
        system.log.advance(2000, step_ms=100)
        system.answers.clear()
        system.ask("a")
        system.log.advance(2000, step_ms=100)
        assert "a" in system.results()
        assert system.works("large") == []


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_twice_or_crashes_the_topics_agree_to_the_nano_dollar(seed):
    dice = random.Random(seed)
    system = Shadowed(JUDGED.replace("shadow_percent = 100", "shadow_percent = 60") + "reviews_per_day = 500\n")
    for number in range(60):
        what = dice.random()
        outcomes = system.log.records(NAMES.of("outcomes"))
        if what < 0.5 or not outcomes:
            system.answers["large"] = dice.choice(["ok", "ok", "error"])
            system.answers["small"] = dice.choice(["ok", "ok", "ok", "error"])
            system.ask(f"r{dice.randrange(number // 2 + 1)}", lane=dice.choice(["interactive", "batch"]))
        elif what < 0.75:
            again = dice.choice(outcomes)
            system.log.produce(again.topic, again.key, again.value, partition=again.partition)
        else:
            system.log.restart(dice.choice(system.stages))
        if dice.random() < 0.7:
            system.log.advance(dice.choice([50, 500, 3000]), step_ms=100)
    system.log.advance(200_000, step_ms=5000)
    answered = {one.id for one in system.results().values() if one.error is None}
    works = [one for model in ("small", "large", "arbiter") for one in system.works(model) if one.attempt > 100]
    beside = Counter((one.request_id, one.attempt) for one in works)
    assert beside
    assert set(beside.values()) == {1}
    assert {request for request, _ in beside} <= answered
    pairs = Counter(one.request_id for one in system.all(JudgedPair, "pairs"))
    assert pairs
    assert set(pairs.values()) == {1}
    seen = Counter((one.request_id, one.attempt) for one in system.all(ReviewItem, "reviews"))
    assert seen
    assert set(seen.values()) == {1}
    topics = NAMES.all(list(system.context.config.models))
    prices = {name: ListPrice(prompt=cost, completion=more) for name, cost, more in PRICES}
    records = [record for topic in topics for record in system.log.records(topic)]
    report = audit(records, prices=prices, now_ms=system.clock())
    ours = [
        one for one in report.problems if not (one.startswith("outcome ") and one.endswith(" times"))
    ]  # we did that
    assert (ours, report.unchecked) == ([], ())
    assert report.figures["shadows"] > 0
    assert system.replayed() == {Verdict.IDENTICAL}


def test_a_pools_budget_for_its_requests_pays_for_no_shadow():
    config = JUDGED.replace('policy = "fixed"\nweights = { small = 1.0 }', BUDGET)
    system = Shadowed(config)
    for number in range(30):
        system.ask(f"r{number}")
        system.log.advance(300, step_ms=100)
    usage, lanes = system.all(PricedAttempt, "usage"), ("spending", "spending.batch")
    told = [one for lane in lanes for one in system.all(Spending, lane)]
    for shadow in (True, False):
        paid = sum(one.cost_nano_usd for one in usage if (one.cohort == "shadow") == shadow)
        assert sum(one.cost for one in told if one.shadow == shadow) == paid > 0
    assert sum(one.requests for one in told if one.shadow) == len([one for one in usage if one.cohort == "shadow"])
