"""What `surveys` prints."""

import json

import pytest

from router.cli import run
from router.cli.surveys import page
from router.core.records import SurveyEvent
from router.history.surveys import rates_of

CONFIG = """
[models.m]
provider = "sim"
input_usd_per_mtok = 1
output_usd_per_mtok = 1
[pools.auto]
models = ["m"]
"""
SURVEY = """
[surveys.helpful]
question = "Did this answer help you?"
percent = 2.5
"""


def event(number, cohort, value=None, kind="asked", **more):
    given = {"survey": "helpful", "pool": "auto", "stratum": "math/hard", "at_ms": 0, "inclusion": 0.1}
    return SurveyEvent(event=kind, request_id=f"{number:032x}", cohort=cohort, value=value, **given | more)


def asked(cohort, answered, silent, first):
    found = [event(first + number, cohort) for number in range(answered + silent)]
    return found + [event(first + number, cohort, 0.75, "answered") for number in range(answered)]


@pytest.mark.parametrize(("survey", "said"), [(SURVEY, "2.5 % of requests"), ("", "no surveys")])
def test_the_list_is_of_the_configuration(tmp_path, monkeypatch, capsys, survey, said):
    (tmp_path / "pointsman.toml").write_text(CONFIG + survey)
    monkeypatch.chdir(tmp_path)
    assert run(["surveys", "list"]) == 0
    assert said in capsys.readouterr().out
    assert run(["surveys", "list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == ({"helpful"} if survey else set())


def test_the_page_says_who_was_silent_and_that_the_cohorts_do_not_answer_alike():
    events = [*asked("pilot", 30, 970, 0), *asked("control", 90, 910, 2000)]
    text = page(rates_of(events, {"helpful": 3}, 10 * 86_400_000))
    assert "pilot      1000       30  3.0% (2.1% - 4.3%)" in text
    assert "0.022 to 0.993" in text  # mean of all asked: the silent ones at 0, at 1
    assert "-6.0% (-8.1% to -4.0%)" in text
    assert "they do not answer equally often" in text
    assert "whatever the silent ones think" in text
    assert "of math/hard alone:" in text


def test_where_only_one_cohort_was_asked_there_is_nothing_to_compare():
    text = page(rates_of(asked("pilot", 0, 5, 0), {}, 10 * 86_400_000))
    assert "nothing to compare" in text
    assert page([]).startswith("nobody was asked yet")


def test_records_of_a_topic_do_not_steer_a_terminal():
    events = [event(1, "pilot", stratum="math\x1b[2J", survey="\x9bx")]
    text = page(rates_of(events, {}, 10 * 86_400_000))
    assert all(one == "\n" or one.isprintable() for one in text)
