"""Surveys in memory: whom they ask, what the result says, what becomes of the answer, and what the guard hears of it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from router.config import loads
from router.contract.codec import decode
from router.contract.errors import ConfigError
from router.contract.records import MetricWindow, Reward
from router.contract.topics import DAY_MS, Names
from router.core.records import SurveyEvent
from router.history.replay import Verdict
from router.history.surveys import rates_of
from router.stages.guard import GuardStage
from router.stages.route_surveys import HELD
from tests.stages import test_guard
from tests.stages.system import NAMES
from tests.stages.test_shadow import CONFIG as SHADOWED
from tests.stages.test_shadow import Shadowed

PLAIN = SHADOWED.replace("shadow_percent = 100\n", "")
SURVEY = """
[surveys.helpful]
question = "Did this answer help you?"
percent = 100
quiet_days = 7
per_day = 1000
"""
CONFIG = PLAIN + SURVEY


def ask(system, *names, user=None, **more):
    """Each name is a request, of a user of its own where none is given."""
    for name in names:
        who = {"session": user or f"user-{name}"}
        system.ask(
            name,
            router=who | more.get("router", {}),
            key=(user or name).encode(),
            **{k: v for k, v in more.items() if k != "router"},
        )
    system.log.advance(1000, step_ms=100)
    return system.results()


def asking(system):
    return {name for name, found in system.results().items() if found.router.survey is not None}


def events(system, event=None):
    found = [decode(SurveyEvent, record.value) for record in system.log.records(NAMES.of("surveys"))]
    return [one for one in found if event in {None, one.event}]


def answer(system, result, value, **more):
    given = {"kind": "survey", "value": value, "feedback_token": result.router.feedback_token} | more
    system.log.produce(NAMES.of("feedback"), b"k", orjson.dumps(given))
    system.log.advance(1000)


def test_a_result_says_what_to_ask_and_that_it_was_drawn():
    system = Shadowed(CONFIG)
    found = ask(system, "a")["a"].router
    assert found.survey.name == "helpful"
    assert found.survey.question == "Did this answer help you?"
    assert found.survey.scale == "thumbs"
    assert found.survey.inclusion_probability == 1.0
    (event,) = events(system)
    assert (event.event, event.survey, event.pool, event.stratum) == ("asked", "helpful", "auto", found.stratum)
    assert "user-a" not in str(event)


def test_without_surveys_nothing_changes():
    system = Shadowed(PLAIN)
    ask(system, "a")
    (record,) = system.log.records(NAMES.of("results"))
    assert "survey" not in orjson.loads(record.value)["router"]
    assert events(system) == []
    route = next(stage for stage in system.stages if stage.name == "llm-route")
    assert not [key for lane in range(4) for key, _ in system.log.rows(route, lane).items() if key[:1] in {b"q", b"y"}]


def test_a_share_is_drawn_by_the_request_alike_in_all_cohorts():
    config = CONFIG.replace("percent = 100", "percent = 30").replace("holdout_percent = 0", "holdout_percent = 50")
    system, again = Shadowed(config), Shadowed(config.replace("holdout_percent = 50", "holdout_percent = 0"))
    names = [f"r-{number}" for number in range(300)]
    found = ask(system, *names)
    ask(again, *names)
    cohorts = {name: one.router.cohort for name, one in found.items()}
    assert set(cohorts.values()) == {"pilot", "holdout"}
    assert asking(system) == asking(again)  # who is in which cohort changes nobody
    for cohort in ("pilot", "holdout"):
        of_it = [name for name in names if cohorts[name] == cohort]
        assert 0.15 < len(asking(system) & set(of_it)) / len(of_it) < 0.45


def test_a_user_is_left_in_peace_for_the_quiet_days_in_every_partition():
    system = Shadowed(CONFIG)
    ask(system, "a", user="ann")
    for number in range(8):
        system.ask(f"b-{number}", router={"session": "ann"}, key=str(number).encode())
    system.log.advance(1000, step_ms=100)
    assert asking(system) == {"a"}
    system.log.advance(7 * DAY_MS, step_ms=DAY_MS)
    ask(system, "c", user="ann")
    assert asking(system) == {"a", "c"}


def test_a_user_is_asked_once_also_while_the_first_result_is_not_there_yet():
    system = Shadowed(CONFIG)
    system.answers["small"] = system.answers["large"] = "silence"
    for name in ("a", "b", "c"):
        system.ask(name, router={"session": "ann"})
    system.log.run()
    route = next(stage for stage in system.stages if stage.name == "llm-route")
    rows = [key for lane in range(4) for key, _ in system.log.rows(route, lane).items() if key[:1] == HELD]
    assert len(rows) == 1
    system.log.restart(route)
    system.ask("d", router={"session": "ann"})
    system.log.advance(300_000, step_ms=10_000)
    assert asking(system) == set()
    assert events(system) == []  # no answer, nothing to ask about
    rows = [key for lane in range(4) for key, _ in system.log.rows(route, lane).items() if key[:1] == HELD]
    assert rows == []
    system.answers.clear()
    ask(system, "e", user="ann")
    assert asking(system) == {"e"}


def test_a_day_has_its_limit_and_the_next_one_too():
    system = Shadowed(CONFIG.replace("per_day = 1000", "per_day = 10"))
    ask(system, *(f"a-{number}" for number in range(200)))
    assert len(asking(system)) == 10
    route = next(stage for stage in system.stages if stage.name == "llm-route")
    system.log.restart(route)
    ask(system, *(f"b-{number}" for number in range(50)))
    assert len(asking(system)) == 10
    system.log.advance(DAY_MS, step_ms=DAY_MS // 4)
    ask(system, *(f"c-{number}" for number in range(200)))
    assert len(asking(system)) == 20


def test_batch_work_direct_requests_and_nobody_are_not_asked():
    system = Shadowed(CONFIG)
    system.ask("batch", lane="batch", router={"session": "ann"})
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}]}
    system.ask("direct", body=body, router={"session": "bob"})
    system.ask("nobody")
    system.log.advance(1000, step_ms=100)
    assert len(system.results()) == 3
    assert asking(system) == set()


def test_a_retry_asks_still():
    system = Shadowed(CONFIG)
    system.answers["small"] = "error"
    system.ask("a", router={"session": "ann"})
    system.log.advance(20_000, step_ms=500)
    found = system.results()["a"].router
    assert len(found.attempts) > 1
    assert found.survey is not None


def test_an_answer_counts_once_as_reward_metric_and_response():
    system = Shadowed(CONFIG)
    found = ask(system, "a", "b")
    answer(system, found["a"], 0.75)
    answer(system, found["a"], 0.0)
    answer(system, found["b"], 0.5, source="reviewer")
    (said,) = events(system, "answered")
    assert (said.request_id, said.value, said.survey) == (found["a"].id, 0.75, "helpful")
    rewards = [decode(Reward, record.value) for record in system.log.records(NAMES.of("rewards"))]
    assert [(one.kind, one.source, one.reward) for one in rewards] == [
        ("survey", "user", 0.75),
        ("survey", "reviewer", 0.5),
    ]
    system.log.advance(180_000, step_ms=5_000)
    windows = [decode(MetricWindow, record.value) for record in system.log.records(NAMES.of("metrics"))]
    assert sum(one.surveys for one in windows if one.final) == 2
    assert sum(one.feedback["survey"].n for one in windows if one.final and "survey" in one.feedback) == 2


def test_an_answer_by_request_id_is_one_too_and_an_opinion_that_nobody_asked_for_is_none():
    system = Shadowed(CONFIG.replace("[surveys.helpful]", '[surveys.helpful]\npools = ["auto"]'))
    found = ask(system, "a")
    answer(system, found["a"], 1.0, feedback_token=None, request_id=found["a"].id)
    system.ask("unasked")
    system.log.advance(1000, step_ms=100)
    answer(system, system.results()["unasked"], 0.0)
    assert [one.request_id for one in events(system, "answered")] == [found["a"].id]
    rewards = [decode(Reward, record.value) for record in system.log.records(NAMES.of("rewards"))]
    assert [one.reward for one in rewards] == [1.0, 0.0]


def test_a_survey_that_is_gone_asks_no_more_though_its_requests_are_on_their_way():
    system = Shadowed(CONFIG)
    system.answers["small"] = "silence"
    system.ask("a", router={"session": "ann"})
    system.log.run()
    without = Shadowed(PLAIN)
    settle = next(stage for stage in without.stages if stage.name == "llm-settle")
    system.log.restart(settle)
    system.answers.clear()
    (work,) = system.works("small", "interactive")
    assert work.slip
    system.log.produce(
        NAMES.of("outcomes"),
        work.request_id.encode(),
        orjson.dumps(
            {
                "request_id": work.request_id,
                "attempt": 1,
                "model": "small",
                "status": "ok",
                "slip": work.slip,
                "body": {},
            }
        ),
        partition=work.outcome_partition,
    )
    system.log.advance(1000)
    assert system.results()["a"].router.survey is None
    assert events(system) == []


def test_decisions_replay_as_they_were():
    system = Shadowed(CONFIG)
    ask(system, *(f"a-{number}" for number in range(20)))
    assert system.replayed() == {Verdict.IDENTICAL}


def test_rates_show_the_silent_and_leave_the_waiting_out():
    system = Shadowed(CONFIG.replace("holdout_percent = 0", "holdout_percent = 50"))
    names = [f"a-{number}" for number in range(40)]
    found = ask(system, *names)
    for name in names[:10]:
        answer(system, found[name], 1.0)
    system.log.advance(3 * DAY_MS, step_ms=DAY_MS)
    answer(system, found[names[10]], 0.0)  # three days are over
    ask(system, "late-1", "late-2")
    answer(system, system.results()["late-1"], 1.0)
    (one,) = rates_of([*events(system), *events(system)], {"helpful": 3}, system.clock())
    assert (one.waiting, one.waiting_answered, one.late) == (2, 1, 1)
    whole = next(group for group in one.groups if (group.stratum, group.cohort) == (None, None))
    assert (whole.of.asked, whole.of.answered) == (40, 10)
    assert (whole.of.worst.value, whole.of.best.value) == (pytest.approx(0.25), 1.0)
    parts = [group.of.asked for group in one.groups if group.stratum is None and group.cohort is not None]
    assert (len(parts), sum(parts)) == (2, 40)
    assert one.comparison is not None


class Guarded(Shadowed):
    def __init__(self):
        super().__init__(CONFIG)
        self.log.add(GuardStage(self.context).stage())


def test_what_is_said_in_a_survey_reaches_the_guard():
    system = Guarded()
    found = ask(system, "a")
    answer(system, found["a"], 0.25)
    heard = [orjson.loads(record.value) for record in system.log.records(Names().of("guard.evidence"))]
    said = [opinion for one in heard for opinion in one["said"]]
    assert [(signal, value, arm, stratum) for signal, value, arm, stratum, *_ in said] == [
        ("survey", 0.25, "pilot", found["a"].router.stratum)
    ]


def test_surveys_alone_make_the_guard_name_the_stratum(monkeypatch):
    monkeypatch.setattr(test_guard, "REWARD", replace(test_guard.REWARD, kind="survey", source="user"))
    one = test_guard.Installation(auto_rollback=False)
    one.hours(24, {})
    assert one.alerts() == []
    one.hours(60, {"math/hard": 0.6})
    assert {(alert.stratum, alert.signal) for alert in one.alerts()} == {("math/hard", "survey")}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (SURVEY.replace('"Did this answer help you?"', '""'), "question"),
        (SURVEY.replace('question = "Did this answer help you?"', ""), "question"),
        (SURVEY + 'scale = "1-9"', "scale"),
        (SURVEY + 'pools = ["none"]', 'pool "none"'),
        (SURVEY + 'pools = ["auto", "auto"]', "listed twice"),
        (SURVEY.replace("percent = 100", "percent = 101"), "percent"),
        (SURVEY.replace("quiet_days = 7", "quiet_days = 91"), "quiet_days"),
        (SURVEY.replace("per_day = 1000", "per_day = 0"), "per_day"),
        (SURVEY.replace("per_day = 1000", "per_day = 100000"), "300,000 are remembered"),
        (SURVEY + SURVEY.replace("helpful", "other"), "a pool has one"),
        (SURVEY.replace("helpful", "Helpful"), "Helpful"),
    ],
)
def test_a_survey_that_makes_no_sense_is_refused_with_its_name(changed, named):
    with pytest.raises(ConfigError, match=named):
        loads(PLAIN + changed)
