"""Answers that people look at, in memory: which ones, what they are given, what becomes of what they say."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from router.contract.codec import decode, encode
from router.contract.ids import request_id
from router.contract.records import Decision, MetricWindow, ReviewItem, Reward
from router.core.records import CountedFeedback, Focus, JudgedPair, Pace
from router.history.replay import Verdict
from router.stages import review_text
from tests.stages.system import NAMES
from tests.stages.test_shadow import CONFIG as SHADOWED
from tests.stages.test_shadow import Shadowed

CONFIG = SHADOWED.replace("shadow_percent = 100", "reviews_per_day = 200")
TEXT = CONFIG + "[reviews]\ntext = true\n"


def without_secrets(text):
    return text.replace("hello", "[name]")


def failing(text):
    raise ValueError(text)


def ask(system, *names, **more):
    for name in names:
        system.ask(name, **more)
    system.log.advance(2000, step_ms=100)
    return system.results()


def items(system, topic="reviews"):
    return [decode(ReviewItem, record.value) for record in system.log.records(NAMES.of(topic))]


def said(system, value, item, *, kind="review", source="reviewer"):
    record = {
        "kind": kind,
        "source": source,
        "value": value,
        "feedback_token": item.feedback_token,
        "attempt": item.attempt,
        "weight": item.weight,
    }
    system.log.produce(NAMES.of("feedback"), b"k", orjson.dumps(record))
    system.log.advance(1000)


def test_an_item_says_where_prompt_and_answer_lie_and_not_who_answered():
    system = Shadowed(CONFIG)
    found = ask(system, "a")["a"]
    (item,) = items(system)
    assert (item.request_id, item.attempt, item.sample) == (found.id, 1, "review")
    assert (item.prompt, item.answer) == (None, None)
    asked = system.log.partition((item.request_at.topic, item.request_at.partition))[item.request_at.offset]
    answer = system.log.partition((item.answer_at.topic, item.answer_at.partition))[item.answer_at.offset]
    assert orjson.loads(asked.value)["custom_id"] == "a"
    assert orjson.loads(answer.value)["body"] == found.response.body
    shown = encode(item).replace(item.feedback_token.encode(), b"")
    assert b"small" not in shown
    assert b"pilot" not in shown


def test_the_decision_says_how_it_was_drawn_and_a_replay_finds_no_difference():
    system = Shadowed(CONFIG)
    names = [f"r{number}" for number in range(200)]
    ask(system, *names)
    first = {one.request_id: one for one in system.all(Decision, "decisions") if one.attempt == 1}
    drawn = {one.request_id: one.sample.review for one in first.values() if one.sample is not None}
    assert {one.request_id: one.inclusion_probability for one in items(system)} == drawn
    assert 0 < len(drawn) < len(names)
    assert 0.0 < min(drawn.values()) <= max(drawn.values()) <= 1.0
    assert system.replayed() == {Verdict.IDENTICAL}


def test_what_a_reviewer_says_is_a_reward_once_with_its_weight():
    system = Shadowed(CONFIG)
    ask(system, "a")
    (item,) = items(system)
    said(system, 0.0, item)
    said(system, 1.0, item)
    (reward,) = system.all(Reward, "rewards")
    assert (reward.kind, reward.source, reward.reward, reward.model) == ("review", "reviewer", 0.0, "small")
    assert reward.weight == item.weight
    assert reward.slices == ["language=latin", "length=short"]
    counted = system.all(CountedFeedback, "feedback.counted")
    assert [(one.attempt, one.source, one.repeat) for one in counted] == [
        (1, "reviewer", False),
        (1, "reviewer", True),
    ]


def test_of_an_error_there_is_nothing_to_look_at():
    system = Shadowed(CONFIG)
    system.answers |= {"small": "error", "large": "error"}
    system.ask("a", router={"deadline_ms": 10_000})
    system.log.advance(20_000, step_ms=500)
    assert system.results()["a"].error is not None
    assert items(system) == []


def test_after_a_fall_back_it_is_the_answer_that_the_caller_got():
    system = Shadowed(CONFIG)
    system.answers["small"] = "error"
    found = ask(system, "a")["a"]
    (item,) = items(system)
    assert item.attempt == found.router.attempts[-1].attempt > 1
    answer = system.log.partition((item.answer_at.topic, item.answer_at.partition))[item.answer_at.offset]
    assert orjson.loads(answer.value)["model"] == "large"


def test_a_held_answer_of_a_cascade_is_found_where_it_lies():
    system = Shadowed(CONFIG.replace("holdout_percent = 0\n", "holdout_percent = 0\ncascade = { threshold = 0.5 }\n"))
    system.more = lambda work: {"confidence": 0.1} if work.model == "small" else {}
    system.answers["large"] = "silence"
    system.ask("a", router={"deadline_ms": 5000})
    system.log.advance(2000, step_ms=100)
    for stage in system.stages:
        system.log.restart(stage)
    system.log.advance(6000, step_ms=500)
    assert system.results()["a"].router.model == "small"
    (item,) = [one for one in items(system) if one.sample == "review"]
    answer = system.log.partition((item.answer_at.topic, item.answer_at.partition))[item.answer_at.offset]
    assert (item.attempt, orjson.loads(answer.value)["model"]) == (1, "small")


class TestHowMany:
    def test_the_budget_of_a_day_is_that_of_all_lanes_together(self):
        system = Shadowed(CONFIG.replace("200", "40"))
        for hour in range(48):
            for number in range(12):
                lane = "batch" if number % 3 == 0 else "interactive"
                system.ask(f"{hour}-{number}", key=f"{number}".encode(), lane=lane)
            system.log.run()
            system.log.advance(3_600_000, step_ms=900_000)
        assert len(items(system)) == pytest.approx(80, rel=0.35)
        told = {record.key.decode(): decode(Pace, record.value) for record in system.log.records(NAMES.of("paces"))}
        assert {name.split("/")[0] for name in told} == {"interactive", "batch"}
        assert sum(one.per_day for one in told.values()) == pytest.approx(288, rel=0.35)

    def test_a_restart_forgets_nothing_of_the_past(self):
        system = Shadowed(CONFIG.replace("200", "40"))
        for number in range(300):
            system.ask(f"r{number}")
            system.log.run()
            system.log.advance(60_000, step_ms=60_000)
        for stage in system.stages:
            system.log.restart(stage)
        ask(system, "after")
        last = system.all(Decision, "decisions")[-1]
        assert last.features["pace"] == pytest.approx(40 / 1440, rel=0.35)

    def test_the_guard_moves_them_and_the_inclusion_says_so(self):
        system = Shadowed(CONFIG.replace("200", "2000"))
        ask(system, *[f"r{number}" for number in range(50)])
        stratum = system.all(Decision, "decisions")[0].stratum
        focus = Focus(pool="auto", stratum=stratum, reviews=20.0, shadow=1.0, at_ms=system.clock())
        before = system.all(Decision, "decisions")[-1].features["pace"]
        system.log.produce(NAMES.of("focus"), f"auto/{stratum}".encode(), encode(focus))
        system.log.advance(2000, step_ms=500)
        ask(system, *[f"s{number}" for number in range(50)])
        drawn = [one for one in system.all(Decision, "decisions")[50:] if one.sample is not None]
        assert drawn
        for one in drawn:
            assert one.sample.review == pytest.approx(min(1.0, 20.0 * one.features["pace"]))
        assert system.all(Decision, "decisions")[-1].features["pace"] < before / 5
        assert system.replayed() == {Verdict.IDENTICAL}

    def test_holdout_and_pilot_are_drawn_alike(self):
        system = Shadowed(CONFIG.replace("holdout_percent = 0", "holdout_percent = 50"))
        ask(system, *[f"r{number}" for number in range(100)])
        decisions = system.all(Decision, "decisions")
        found = Counter(one.cohort for one in decisions if one.sample is not None)
        assert set(found) == {"holdout", "pilot"}
        paces = [one.features["pace"] for one in decisions if one.features["pace"] is not None]
        assert len(paces) == 100


class TestPairs:
    def test_without_a_judge_people_look_at_both(self):
        system = Shadowed(SHADOWED)
        ask(system, "a")
        found = {one.attempt: one for one in items(system)}
        assert set(found) == {1, 101}
        assert {(one.sample, one.inclusion_probability) for one in found.values()} == {("shadow", 1.0)}
        assert len({one.model_hidden for one in found.values()}) == 2
        said(system, 0.0, found[1])
        said(system, 1.0, found[101])
        counted = {one.attempt: one for one in system.all(CountedFeedback, "feedback.counted")}
        assert {at: (one.model, one.cohort, one.value) for at, one in counted.items()} == {
            1: ("small", "pilot", 0.0),
            101: ("large", "shadow", 1.0),
        }
        assert not any(one.repeat for one in counted.values())
        assert [(one.model, one.reward) for one in system.all(Reward, "rewards")] == [("small", 0.0)]
        assert system.log.records(NAMES.of("dead-letter")) == []

    def test_a_shadows_review_is_in_the_metrics_of_the_shadow(self):
        system = Shadowed(SHADOWED)
        ask(system, "a")
        said(system, 1.0, next(one for one in items(system) if one.attempt == 101))
        system.log.advance(120_000, step_ms=1000)
        (window,) = [one for one in system.all(MetricWindow, "metrics") if one.final and one.feedback]
        assert (window.model, window.cohort, window.feedback["review"].n) == ("large", "shadow", 1)

    def test_with_a_judge_people_look_at_both_where_they_look_at_one(self):
        system = Shadowed(SHADOWED + 'judge = "arbiter"\nreviews_per_day = 100000\n')
        ask(system, "a")
        assert {(one.attempt, one.sample) for one in items(system)} == {(1, "review"), (101, "shadow")}
        assert len(system.all(JudgedPair, "pairs")) == 1

    def test_with_a_judge_alone_nobody_is_bothered(self):
        system = Shadowed(SHADOWED + 'judge = "arbiter"\n')
        ask(system, "a")
        assert items(system) == []


class TestText:
    def test_it_is_in_the_item_where_the_configuration_says_so(self):
        system = Shadowed(TEXT)
        ask(system, "a")
        (item,) = items(system)
        assert (item.prompt, item.answer) == ("user: hello", "by small")
        assert item.request_id == request_id("default", "a")

    def test_redacted_before_it_is_written(self):
        system = Shadowed(TEXT + 'redact = "tests.stages.test_reviews:without_secrets"\n')
        ask(system, "a")
        assert items(system)[0].prompt == "user: [name]"

    def test_what_cannot_be_redacted_is_withheld(self):
        system = Shadowed(TEXT + 'redact = "tests.stages.test_reviews:failing"\n')
        ask(system, "a")
        (item,) = items(system)
        assert "hello" not in item.prompt
        assert item.prompt == item.answer == "[withheld: it could not be redacted]"

    def test_however_long_it_is_the_item_fits(self):
        system = Shadowed(TEXT)
        ask(system, "a", body={"messages": [{"role": "user", "content": "\x01" * 100_000 + "the end"}]})
        (record,) = system.log.records(NAMES.of("reviews"))
        assert len(record.value) < 1024 * 1024
        assert decode(ReviewItem, record.value).prompt.endswith("the end")
        assert len(decode(ReviewItem, record.value).prompt) == review_text.MOST_TEXT

    def test_without_the_key_no_text_is_anywhere_but_in_the_topics_that_have_it(self):
        system = Shadowed(CONFIG)
        ask(system, "a")
        assert system.log.records(NAMES.of("reviews.wanted")) == []
        for topic in ("reviews", "decisions", "usage", "redispatch.batch"):
            assert not any(b"hello" in record.value for record in system.log.records(NAMES.of(topic)))

    def test_what_is_no_item_is_a_dead_letter(self):
        system = Shadowed(TEXT)
        for value in (b"{", b"[]", b"{}"):
            system.log.produce(NAMES.of("reviews.wanted"), b"k", value)
        system.log.advance(1000)
        assert len(system.log.records(NAMES.of("dead-letter"))) == 2
        assert len(system.log.records(NAMES.of("reviews"))) == 1
