"""A cascade through all stages, in memory: who answers, who pays, who learns, and where the threshold comes from."""

from __future__ import annotations

import random

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode
from router.contract.ids import request_id
from router.contract.records import Decision, MetricWindow, ReviewItem, Reward, Weights, Work
from router.core.bandit import Observation
from router.stages import account, feedback, learn
from tests.stages.system import NAMES, System

CONFIG = """
[kafka]
partitions = 4
[models.small]
capabilities = ["logprobs"]
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.4
[models.large]
input_usd_per_mtok = 2
output_usd_per_mtok = 8
[pools.auto]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
[pools.auto.cascade]
threshold = 0.5
target_risk = 0.1
label_percent = 100
"""


class Cascaded(System):
    """Workers of ``small`` are as sure as ``confidence`` says of a request."""

    def __init__(self, config=CONFIG):
        super().__init__(loads(config), feedback.build, learn.build, account.build)
        self.confidence = {}
        self.verdicts = {}

    @property
    def works(self):
        return [
            decode(Work, record.value)
            for model in self.context.config.models
            for record in self.log.records(NAMES.work(model))
        ]

    def more(self, work):
        sure = self.confidence.get(work.request_id, 0.9) if work.model == "small" else None
        return {"served_model": f"{work.model}-1", "confidence": sure}

    def body(self, work):
        said = self.verdicts.get(work.request_id, "9") if work.model == "arbiter" else "an answer"
        return {"choices": [{"message": {"content": said}}], "by": work.model}

    def all(self, kind, topic):
        return [decode(kind, record.value) for record in self.log.records(NAMES.of(topic))]

    def opine(self, value, *, kind="label", source="reviewer", **of):
        self.log.produce(
            NAMES.of("feedback"), b"k", orjson.dumps({"kind": kind, "source": source, "value": value, **of})
        )


@pytest.fixture
def system():
    return Cascaded()


def doubt(system, *names, confidence=0.3):
    for name in names:
        system.confidence[request_id("default", name)] = confidence


def run(system, *names):
    for name in names:
        system.ask(name)
    system.log.advance(1000, step_ms=100)
    return system.results()


def test_a_doubtful_answer_is_not_given_out_and_both_are_paid(system):
    doubt(system, "hard")
    found = run(system, "easy", "hard")
    assert found["easy"].router.model == "small"
    hard = found["hard"].router
    assert (hard.model, found["hard"].response.body["by"]) == ("large", "large")
    assert [(one.attempt, one.model, one.status, one.reason, one.confidence) for one in hard.attempts] == [
        (1, "small", "ok", "routed", 0.3),
        (2, "large", "ok", "escalate", None),
    ]
    assert hard.cost_nano_usd == sum(one.cost_nano_usd for one in hard.attempts)
    assert hard.cost_nano_usd > found["easy"].router.cost_nano_usd


def test_the_records_say_what_was_checked_and_why_it_went_on(system):
    doubt(system, "hard")
    run(system, "hard")
    first, second = system.all(Decision, "decisions")
    assert (first.model, first.cascade.to, first.cascade.threshold) == ("small", "large", 0.5)
    assert (second.model, second.reason, second.cascade) == ("large", "escalate", None)
    assert [one.checks.logprobs if one.checks else None for one in system.works] == [True, None]


def test_windows_count_an_escalation_once(system):
    doubt(system, "hard")
    run(system, "easy", "hard")
    system.log.advance(120_000, step_ms=1000)
    windows = [one for one in system.all(MetricWindow, "metrics") if one.final]
    assert sum(one.escalations for one in windows) == 1
    assert sum(one.attempts for one in windows) == 3
    assert sum(one.requests for one in windows) == 2
    paid = sum(one.router.cost_nano_usd for one in system.results().values())
    assert sum(one.cost_nano_usd for one in windows) == paid


def test_where_the_better_model_fails_the_doubtful_answer_is_given_out(system):
    doubt(system, "hard")
    system.answers["large"] = "error"
    system.ask("hard", router={"deadline_ms": 20_000})
    system.log.advance(30_000, step_ms=500)
    found = system.results()["hard"]
    assert (found.error, found.router.model, found.response.body["by"]) == (None, "small", "small")
    assert {one.model for one in found.router.attempts} == {"small", "large"}


def test_at_the_deadline_the_doubtful_answer_is_given_out(system):
    doubt(system, "hard")
    system.answers["large"] = "silence"
    system.ask("hard", router={"deadline_ms": 5_000})
    system.log.advance(6_000, step_ms=200)
    found = system.results()["hard"]
    assert (found.error, found.router.model) == (None, "small")
    assert found.router.attempts[1].status == "timeout"


def test_a_held_answer_survives_a_restart_of_settle(system):
    doubt(system, "hard")
    system.answers["large"] = "silence"
    system.ask("hard", router={"deadline_ms": 5_000})
    system.log.advance(1_000, step_ms=200)
    settle = next(stage for stage in system.stages if stage.name.endswith("settle"))
    system.log.restart(settle)
    system.log.advance(5_000, step_ms=200)
    assert system.results()["hard"].router.model == "small"


def test_an_opinion_of_an_escalated_answer_never_speaks_for_the_model_that_gave_it(system):
    doubt(system, "hard")
    token = run(system, "hard")["hard"].router.feedback_token
    system.opine(1.0, kind="thumbs", source="user", feedback_token=token)
    system.log.advance(3_000, step_ms=500)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.first_model, reward.model, reward.arm, reward.label) == ("small", "large", "small>large", None)


LEARNING = CONFIG.replace('policy = "fixed"\nweights = { small = 1.0 }', "epsilon = 0.5")


def test_the_cascade_is_one_arm():
    system = Cascaded(LEARNING)
    names = [f"r-{number}" for number in range(200)]
    doubt(system, *names[:100])
    found = run(system, *names)
    escalated = [one for one in found.values() if len(one.router.attempts) > 1]
    assert escalated
    for one in escalated:
        system.opine(1.0, kind="review", feedback_token=one.router.feedback_token)
    system.log.advance(5_000, step_ms=500)
    last = system.all(Weights, "weights")[-1]
    assert last.evidence["large"] == 0.0
    assert last.evidence["small"] > 0.0
    assert set(last.weights) == {"small", "large"}


def test_what_was_observed_of_the_model_alone_speaks_for_the_cascade_and_not_the_other_way_round():
    alone = LEARNING.partition("[pools.auto.cascade]")[0]
    for before, after, speaks in ((alone, LEARNING, True), (LEARNING, alone, False)):
        system = Cascaded(before)
        for one in run(system, *(f"r-{number}" for number in range(100))).values():
            system.opine(1.0, kind="review", feedback_token=one.router.feedback_token)
        system.log.advance(5_000, step_ms=500)
        known = system.all(Weights, "weights")[-1].evidence["small"]
        assert known > 0.0
        (changed,) = learn.build(Cascaded(after).context)
        system.log.restart(changed)
        system.log.advance(learn.LOOK_EVERY_MS + 1_000)
        last = system.all(Weights, "weights")[-1]
        assert (last.evidence["small"] > 0.0) is speaks, (before, after)


def test_labels_of_the_sample_make_the_threshold():
    """Answers above 0.7 are right, those below are not: once 200 are labelled, the stratum asks for about that."""
    system, dice = Cascaded(), random.Random(1)
    names = [f"r-{number}" for number in range(300)]
    for name in names:
        doubt(system, name, confidence=dice.random())
    found = run(system, *names)
    items = system.all(ReviewItem, "reviews")
    assert len(items) == 300
    assert {item.inclusion_probability for item in items} == {1.0}
    answers = {record.offset: record for record in system.log.records(NAMES.of("outcomes"))}
    assert answers
    ids = {one.id: one for one in found.values()}
    for item in items[:250]:
        right = float(system.confidence[item.request_id] >= 0.7)
        system.opine(right, request_id=item.request_id, attempt=item.attempt)
    system.log.advance(10_000, step_ms=500)
    rewards = system.all(Reward, "rewards")
    assert len(rewards) == 250
    assert {one.model for one in rewards} == {"small"}
    assert {ids[one.request_id].router.model for one in rewards} == {"small", "large"}
    last = system.all(Weights, "weights")[-1].cascade
    assert last.calibrated
    assert 0.5 < last.threshold <= 0.85
    assert last.served["small-1"].bound <= 0.1
    doubt(system, "after", confidence=last.threshold - 0.01)
    assert run(system, "after")["after"].router.model == "large"
    decision = [one for one in system.all(Decision, "decisions") if one.attempt == 1][-1]
    assert decision.cascade.threshold == last.threshold
    assert decision.candidates[0].expected_cost_nano_usd > 0


@pytest.mark.parametrize(
    "opinion",
    [
        {"kind": "thumbs", "source": "user"},
        {"kind": "label", "source": "user"},
        {"kind": "label", "source": "reviewer", "attempt": None},
    ],
)
def test_nothing_else_is_a_label(system, opinion):
    doubt(system, "hard")
    result = run(system, "hard")["hard"]
    system.opine(0.0, **{"attempt": 1} | opinion, request_id=result.id)
    system.log.advance(3_000, step_ms=500)
    assert all(one.label is None for one in system.all(Reward, "rewards"))
    assert [one for one in system.all(Weights, "weights") if one.cascade and one.cascade.served] == []


def test_an_attempt_that_gave_no_answer_cannot_be_judged(system):
    result = run(system, "easy")["easy"]
    system.opine(1.0, request_id=result.id, attempt=7)
    system.log.advance(8_000, step_ms=500)
    (letter,) = [orjson.loads(record.value) for record in system.log.records(NAMES.of("dead-letter"))]
    assert "attempt 7" in letter["reason"]["message"]


def test_a_label_and_an_opinion_of_the_same_request_both_count_and_each_once(system):
    doubt(system, "hard")
    result = run(system, "hard")["hard"]
    for _ in range(2):
        system.opine(0.0, request_id=result.id, attempt=1)
        system.opine(1.0, request_id=result.id)
    system.log.advance(3_000, step_ms=500)
    rewards = system.all(Reward, "rewards")
    assert sorted((one.model, one.reward, one.label is not None) for one in rewards) == [
        ("large", 1.0, False),
        ("small", 0.0, True),
    ]


def test_labels_survive_a_restart_of_learn(system):
    names = [f"r-{number}" for number in range(120)]
    for item in (run(system, *names), system.all(ReviewItem, "reviews"))[1]:
        system.opine(1.0, request_id=item.request_id, attempt=item.attempt)
    system.log.advance(5_000, step_ms=500)
    before = system.all(Weights, "weights")[-1].cascade
    assert before.served["small-1"].labels == 120
    stage = next(stage for stage in system.stages if stage.name.endswith("learn"))
    system.log.restart(stage)
    result = run(system, "one more")["one more"]
    system.opine(1.0, request_id=result.id, attempt=1)
    system.log.advance(5_000, step_ms=500)
    assert system.all(Weights, "weights")[-1].cascade.served["small-1"].labels == 121


def test_observing_changes_no_answer_and_collects_labels():
    system = Cascaded(CONFIG + "observe = true\n")
    doubt(system, "hard", confidence=0.01)
    result = run(system, "hard")["hard"]
    assert (result.router.model, len(result.router.attempts)) == ("small", 1)
    system.opine(0.0, request_id=result.id, attempt=1)
    system.log.advance(3_000, step_ms=500)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.label.threshold, reward.arm) == (None, None)


def test_embeddings_are_not_checked(system):
    system.ask("e", url="/v1/embeddings", body={"model": "auto", "input": "x"})
    system.log.advance(1_000, step_ms=100)
    assert [one.checks for one in system.works] == [None]


JUDGED = CONFIG.replace("[pools.auto.cascade]", 'judge = "arbiter"\n[pools.auto.cascade]\nsignal = "judge"').replace(
    "[models.large]", "[models.arbiter]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n[models.large]"
)


def test_a_judge_decides_what_goes_out_and_is_paid():
    system = Cascaded(JUDGED)
    system.verdicts[request_id("default", "bad")] = "2"
    found = run(system, "good", "bad")
    good, bad = found["good"].router, found["bad"].router
    assert [(one.model, one.reason) for one in good.attempts] == [("small", "routed"), ("arbiter", "judge")]
    assert [(one.model, one.reason) for one in bad.attempts] == [
        ("small", "routed"),
        ("arbiter", "judge"),
        ("large", "escalate"),
    ]
    assert (good.model, good.attempts[0].confidence, bad.model, bad.attempts[0].confidence) == (
        "small",
        0.9,
        "large",
        0.2,
    )
    for one in (good, bad):
        assert one.cost_nano_usd == sum(each.cost_nano_usd for each in one.attempts)
    asked = [one for one in system.works if one.model == "arbiter"]
    assert all("an answer" in one.body["messages"][1]["content"] for one in asked)
    assert all("hello" in one.body["messages"][1]["content"] for one in asked)
    system.log.advance(120_000, step_ms=1000)
    windows = [one for one in system.all(MetricWindow, "metrics") if one.final]
    assert sum(one.escalations for one in windows) == 3
    assert sum(one.attempts for one in windows) == sum(one.requests + one.escalations for one in windows) == 5
    assert all(one.baseline_cost_nano_usd > 0 for one in windows if one.model in {"arbiter", "large"})


def test_without_a_judge_that_can_be_asked_the_better_model_answers():
    system = Cascaded(JUDGED)
    system.answers["arbiter"] = "error"
    assert run(system, "one")["one"].router.model == "large"
    ban = {
        "scope": "model:arbiter",
        "action": "ban",
        "active": True,
        "by": "me",
        "reason": "r",
        "at": "2025-06-15T15:00:00Z",
    }
    system.log.produce(NAMES.of("control"), b"model:arbiter/ban", orjson.dumps(ban))
    found = run(system, "two")["two"].router
    assert [(one.attempt, one.model) for one in found.attempts] == [(1, "small"), (2, "large")]


def test_the_judges_call_is_part_of_the_expected_cost():
    costs = []
    for config in (CONFIG, JUDGED):
        system = Cascaded(config)
        run(system, "one")
        costs.append(system.all(Decision, "decisions")[0].candidates[0].expected_cost_nano_usd)
    assert costs[1] > costs[0]


def test_an_opinion_of_a_judged_answer_speaks_for_the_cascade():
    system = Cascaded(JUDGED)
    token = run(system, "one")["one"].router.feedback_token
    system.opine(1.0, kind="thumbs", source="user", feedback_token=token)
    system.log.advance(3_000, step_ms=500)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.model, reward.arm, reward.answered_by_attempt) == ("small", "small>large", 1)


def test_a_refusal_of_the_provider_escalates_and_is_in_no_sample(system):
    system.answers["small"] = "refused"
    found = run(system, "one")["one"].router
    assert [(one.model, one.status, one.reason) for one in found.attempts] == [
        ("small", "refused", "routed"),
        ("large", "ok", "escalate"),
    ]
    assert system.all(ReviewItem, "reviews") == []
    system.opine(1.0, kind="thumbs", source="user", feedback_token=found.feedback_token)
    system.log.advance(3_000, step_ms=500)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.arm, reward.model) == ("small>large", "large")


# --- what a review of the whole found ---


def labelled(system, count, value=1.0, begin=0):
    names = [f"l-{begin + number}" for number in range(count)]
    run(system, *names)
    for name in names:
        system.opine(value, request_id=request_id("default", name), attempt=1)
    system.log.advance(3_000, step_ms=500)


def cascade_now(system):
    return system.all(Weights, "weights")[-1].cascade


def learning_as(system, config):
    """Learn starts again with another configuration."""
    (stage,) = learn.build(Cascaded(config).context)
    system.log.restart(stage)
    system.log.advance(learn.LOOK_EVERY_MS + 1_000)


@pytest.mark.parametrize(
    "changed",
    [
        CONFIG.replace("threshold = 0.5", 'threshold = 0.5\nchecks = ["refusal", "length"]'),
        CONFIG.replace("threshold = 0.5", 'threshold = 0.5\nsignal = "checks"'),
        CONFIG.replace('capabilities = ["logprobs"]', 'capabilities = ["logprobs"]\nprovider_model = "small-next"'),
    ],
)
def test_labels_of_another_scale_do_not_count(changed):
    system = Cascaded()
    labelled(system, 200)
    assert cascade_now(system).calibrated
    learning_as(system, changed)
    assert cascade_now(system) is None or cascade_now(system).threshold == 0.5
    (other,) = [stage for stage in system.stages if stage.name.endswith("route")]
    assert other is not None


def test_a_threshold_of_another_scale_is_not_used_by_routers():
    system = Cascaded()
    labelled(system, 200)
    old = cascade_now(system).threshold
    assert old != 0.5
    changed = Cascaded(CONFIG.replace("threshold = 0.5", 'threshold = 0.5\nsignal = "checks"'))
    for record in system.log.records(NAMES.of("weights")):
        changed.log.produce(NAMES.of("weights"), record.key, record.value)
    run(changed, "r-1")
    assert changed.all(Decision, "decisions")[-1].cascade.threshold == 0.5


def test_an_answer_has_one_label_whoever_gives_it(system):
    run(system, "one")
    for kind in ("label", "review"):
        for source in ("reviewer", "judge", "system"):
            system.opine(1.0, kind=kind, source=source, request_id=request_id("default", "one"), attempt=1)
    system.log.advance(3_000, step_ms=500)
    assert cascade_now(system).served["small-1"].labels == 1


def test_an_answer_without_a_confidence_is_in_no_sample(system):
    system.confidence[request_id("default", "one")] = None
    run(system, "one")
    assert system.all(ReviewItem, "reviews") == []


def test_labels_that_were_read_before_a_crash_are_published_after_it(system, monkeypatch):
    names = [f"r-{number}" for number in range(120)]
    run(system, *names)
    monkeypatch.setattr(learn, "STRATA_A_TICK", 0)
    for name in names:
        system.opine(1.0, request_id=request_id("default", name), attempt=1)
    system.log.advance(3_000, step_ms=500)
    assert system.all(Weights, "weights") == []
    monkeypatch.setattr(learn, "STRATA_A_TICK", 1)
    system.log.restart(next(stage for stage in system.stages if stage.name.endswith("learn")))
    system.log.advance(1_000)
    assert cascade_now(system).served["small-1"].labels == 120


@pytest.mark.parametrize("policy", ["thompson", "squarecb"])
def test_what_the_model_alone_did_badly_does_not_speak_against_the_cascade(policy):
    config = loads(LEARNING.replace("epsilon = 0.5", f'epsilon = 0.5\npolicy = "{policy}"'))
    learner = learn.learners(config)["auto"]
    now_ms = 1_780_000_000_000

    def seen(model, bad):
        return [
            Observation(model=model, kind="review", source="reviewer", reward=float(n % 10 >= bad), at_ms=now_ms)
            for n in range(300)
        ]

    baseline = seen("large", 0)
    weights = {}
    for alone, cascaded in ((5, 0), (0, 5)):
        state = learner.policy.update(
            learner.policy.empty(), [*baseline, *seen("small", alone), *seen("small>large", cascaded)], now_ms
        )
        weights[alone], *_ = learner.outlook([state], now_ms)
    assert weights[5]["small"] > 0.5
    state = learner.policy.update(learner.policy.empty(), [*baseline, *seen("small", 0)], now_ms)
    assert learner.outlook([state], now_ms)[0]["small"] > 0.5


def test_a_doubtful_empty_answer_survives_a_restart_of_settle(system):
    doubt(system, "hard")
    system.answers["large"] = "silence"
    system.body = lambda _work: {}
    system.ask("hard", router={"deadline_ms": 5_000})
    system.log.advance(1_000, step_ms=200)
    system.log.restart(next(stage for stage in system.stages if stage.name.endswith("settle")))
    system.log.advance(5_000, step_ms=200)
    assert system.results()["hard"].response.body == {}


def test_while_the_better_model_is_out_the_cheap_one_costs_what_it_costs(system):
    run(system, "before")
    ban = {
        "scope": "model:large",
        "action": "ban",
        "active": True,
        "by": "me",
        "reason": "r",
        "at": "2025-06-15T15:00:00Z",
    }
    system.log.produce(NAMES.of("control"), b"model:large/ban", orjson.dumps(ban))
    system.log.advance(1_000)
    run(system, "after")
    before, after = (one.candidates[0].expected_cost_nano_usd for one in system.all(Decision, "decisions"))
    assert after < before


def test_a_judge_that_is_not_asked_makes_no_other_scale():
    system = Cascaded()
    labelled(system, 200)
    threshold = cascade_now(system).threshold
    learning_as(system, CONFIG.replace("[pools.auto.cascade]", 'judge = "large"\n[pools.auto.cascade]'))
    assert (cascade_now(system).threshold, cascade_now(system).calibrated) == (threshold, True)
