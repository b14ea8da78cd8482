"""Who is asked, and what little is known of those who do not answer."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.checks import MOST_ASKED
from router.core import survey
from router.core.review_rates import rate_of
from router.core.survey import Ask, Quiet, Template, ask_of, drawn, part_of_day, user_of
from router.core.survey_rates import Asked, compared, difference, responses

TEMPLATE = Template(name="nps", share=0.1, quiet_ms=1000, per_day=10)


def test_the_share_is_kept_and_another_survey_draws_others():
    ids = [f"{number:032x}" for number in range(20_000)]
    one = {each for each in ids if drawn(TEMPLATE, "acme", each)}
    other = {each for each in ids if drawn(Template(name="csat", share=0.1, quiet_ms=0, per_day=1), "acme", each)}
    assert len(one) == pytest.approx(2000, rel=0.1)
    assert len(one & other) == pytest.approx(200, rel=0.3)
    assert one == {each for each in ids if drawn(TEMPLATE, "acme", each)}


@pytest.mark.parametrize(
    ("body", "session", "like"),
    [
        ({"user": "u"}, "s", "u"),
        ({"safety_identifier": "p", "user": "u"}, None, "p"),
        ({"user": ""}, "s", "s"),
        ({"user": 7}, "s", "s"),
        ({"user": ["u"]}, "s", "s"),
        ({}, "s", "s"),
        ({"user": "\ud800"}, None, "\ud800"),
    ],
)
def test_a_user_is_who_the_caller_says_it_is(body, session, like):
    assert user_of("acme", body, session) == user_of("acme", {"user": like}, None)
    assert user_of("acme", body, session) != user_of("bolt", body, session)


@pytest.mark.parametrize("body", [{}, {"user": None}, {"user": ""}, {"user": {}}])
def test_who_names_nobody_is_nobody(body):
    assert user_of("acme", body, None) is None
    assert user_of("acme", body, "") is None


@given(st.integers(1, 100_000), st.integers(1, 1000))
def test_the_parts_of_a_day_are_the_day(per_day, lanes):
    assert sum(part_of_day(per_day, lane, lanes) for lane in range(lanes)) == per_day


def test_an_ask_travels():
    ask = Ask(name="nps", inclusion=0.1, user="0123456789abcdef")
    assert ask_of(ask.values()) == ask
    assert ask_of(None) is None


def test_who_was_asked_is_known_as_long_as_it_matters():
    quiet = Quiet(1000)
    quiet.note("a", 10)
    quiet.note("b", 500)
    quiet.note("a", 900)
    quiet.note("a", 20)  # read late, from another partition
    assert (quiet.since_ms("a"), quiet.since_ms("b"), quiet.since_ms("c")) == (900, 500, None)
    quiet.note("c", 1600)
    assert (quiet.since_ms("a"), quiet.since_ms("b")) == (900, None)


def test_of_too_many_users_those_asked_longest_ago_are_forgotten(monkeypatch):
    monkeypatch.setattr(survey, "MOST_USERS", 3)
    quiet = Quiet(10**9)
    for number in range(10):
        quiet.note(str(number), number)
    assert len(quiet) == 3
    assert quiet.since_ms("9") == 9
    assert quiet.since_ms("6") is None


def test_the_configuration_allows_as_many_as_are_remembered():
    assert survey.MOST_USERS == MOST_ASKED


def people(cohort, answered, silent, value=1.0):
    return [Asked(cohort, 0.1, value)] * answered + [Asked(cohort, 0.1, None)] * silent


def test_the_silent_are_shown_as_what_they_might_have_said():
    found = responses(people("pilot", 10, 90, 0.8))
    assert (found.asked, found.answered) == (100, 10)
    assert found.rate.value == pytest.approx(0.1)
    assert found.rate.low < 0.1 < found.rate.high
    assert found.mean.value == pytest.approx(0.8)
    assert found.worst.value == pytest.approx(0.08)
    assert found.best.value == pytest.approx(0.98)
    assert responses([]) is None
    assert responses(people("pilot", 0, 5)).mean is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_whatever_the_silent_think_the_mean_of_all_lies_between(said):
    found = responses([Asked("pilot", 0.1, value if answers else None) for value, answers in said])
    truth = sum(value for value, _ in said) / len(said)
    assert found.worst.value - 1e-9 <= truth <= found.best.value + 1e-9


def test_a_response_rate_that_differs_between_the_cohorts_is_seen():
    even = compared([*people("pilot", 100, 900), *people("control", 60, 540), *people("holdout", 40, 360)])
    assert not even.rate.shows
    odd = compared([*people("pilot", 60, 940), *people("control", 120, 880)])
    assert odd.rate.shows
    assert odd.rate.value == pytest.approx(-0.06)
    assert compared(people("pilot", 5, 5)) is None
    assert compared([*people("pilot", 5, 5), *people("pinned", 5, 5)]) is None


def test_unhappy_users_who_fall_silent_are_within_the_bounds_though_the_means_say_nothing():
    """The pilot's answers are worse, and whoever got a bad one says nothing: those who answer are content in both cohorts."""
    rng = random.Random(5)
    everybody, truth = [], {"pilot": 0.0, "control": 0.0}
    for cohort, bad in (("pilot", 0.4), ("control", 0.1)):
        for _ in range(2000):
            good = rng.random() >= bad
            truth[cohort] += good / 2000
            everybody.append(Asked(cohort, 0.1, 1.0 if good and rng.random() < 0.3 else None))
    found = compared(everybody)
    assert found.mean.value == pytest.approx(0.0)
    assert found.rate.shows
    assert found.low <= truth["pilot"] - truth["control"] <= found.high


def test_intervals_of_a_difference_hold_the_truth_as_often_as_they_say():
    rng, held, runs = random.Random(11), 0, 600
    for _ in range(runs):
        one, other = (
            rate_of([(float(rng.random() < share), 0.1) for _ in range(n)]) for share, n in ((0.08, 300), (0.12, 120))
        )
        found = difference(one, other)
        held += found.low <= -0.04 <= found.high
    assert held / runs >= 0.93
