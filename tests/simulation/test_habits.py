"""Drift in recorded streams: usual is what the first week was."""

from __future__ import annotations

import numpy as np
import pytest

from router.core.guard.detector import DAY_MS
from router.core.guard.monitor import Settings
from router.simulation.habits import Habits
from router.simulation.recorded import Outline
from router.simulation.trace import Replay

T0 = 20_000 * DAY_MS
RANDOM = np.random.default_rng(9)


def event(day, at, *, confidence=None, p_ok=None, tokens=100.0, **more):
    found = {"t_s": (T0 + (day + at / 600) * DAY_MS) / 1000, "request_id": f"{day}-{at}", "tenant": "t", "stratum": "a"}
    found |= {"model": "cheap", "cohort": "pilot", "features": {"tokens": tokens, "language": "en"}}
    return (
        found
        | {name: value for name, value in {"confidence": confidence, "p_ok": p_ok}.items() if value is not None}
        | more
    )


def heard(days, made):
    """``made(day, at)`` 600 times a day."""
    habits = Habits()
    for day in range(days):
        for at in range(600):
            one = made(day, at)
            habits.note(one, "a", round(one["t_s"] * 1000))
    return habits


def usual(day, at, **more):
    return event(day, at, **{"confidence": RANDOM.beta(4, 2), "tokens": RANDOM.normal(100, 20)} | more)


def test_two_more_weeks_of_the_same_say_nothing():
    assert heard(21, usual).found == []


@pytest.mark.parametrize("where", ["confidence", "p_ok", "by model"])
def test_confidence_that_falls_is_found_the_day_after(where):
    def made(day, at):
        said = RANDOM.beta(2, 4) if day >= 12 else RANDOM.beta(4, 2)
        if where == "confidence":
            return event(day, at, confidence=said)
        return event(day, at, p_ok={"cheap": said, "dear": 0.9} if where == "by model" else said)

    ((at_ms, stratum, signal),) = heard(16, made).found
    assert (stratum, signal) == ("a", "confidence_drift")
    assert 12 < (at_ms - T0) / DAY_MS < 14


def test_numbers_unlike_the_first_weeks_are_far():
    found = heard(16, lambda day, at: usual(day, at, tokens=RANDOM.normal(170 if day >= 12 else 100, 20))).found
    assert [(stratum, signal) for _, stratum, signal in found] == [("a", "off_centroid")]


def test_a_loud_conversation_is_one_event_a_day_and_odd_values_are_as_if_absent():
    def made(day, at):
        loud = {"session": "s", "confidence": 0.01} if day >= 12 and at % 2 else {}
        return usual(day, at, **loud)

    assert heard(16, made).found == []
    odd = heard(10, lambda day, at: event(day, at, confidence="high", p_ok=[1], features=None))
    assert odd.found == []


def test_it_stands_in_the_figures_of_a_stream_and_pages_nobody():
    stream = [
        usual(day, at, confidence=RANDOM.beta(1, 6) if day >= 10 else RANDOM.beta(4, 2))
        for day in range(13)
        for at in range(600)
    ]
    known = Outline()
    known.strata.add("a")
    found = Replay(known, Settings()).play(stream).score()
    ((day, stratum, signal),) = found["drift_watches"]
    assert (stratum, signal) == ("a", "confidence_drift")
    assert 10 < day < 12
    assert (found["pages"], found["watches"]) == ([], 0)
