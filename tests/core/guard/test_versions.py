"""A new name behind a model starts a further test, and no number of names buys more than the pool's alarms pay for."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.guard import pairs
from router.core.guard.detector import DAY_MS, Detector
from router.core.guard.monitor import Guard, Settings
from router.core.guard.unit import HOUR_MS
from router.core.guard.versions import (
    CREDIT,
    FORGOTTEN_DAYS,
    MOST_CHARACTERS,
    MOST_MODELS,
    MOST_NAMES,
    REFILL,
    Versions,
    height,
)

ARL = 200.0


def known(names=("a",)):
    """Names of the first day."""
    versions = Versions(ARL, 0)
    for name in names:
        versions.heard("small", name, 0)
    return versions


def test_names_of_the_first_day_are_no_change():
    versions = known()
    versions.heard("small", "b", DAY_MS - 1)
    versions.heard("small", "a", 5 * DAY_MS)
    assert (versions.take(), versions.tell()) == (0.0, [])


def test_a_new_name_is_told_once_with_the_one_before_and_gives_half_of_what_there_is():
    versions = known()
    for at_ms in (3 * DAY_MS, 3 * DAY_MS + 1, 9 * DAY_MS):
        versions.heard("small", "b", at_ms)
    assert versions.tell() == [("small", "b", "a", 3 * DAY_MS)]
    assert versions.tell() == []
    assert versions.take() == CREDIT * ARL / 2
    assert versions.take() == 0.0


def test_each_model_has_names_of_its_own():
    versions = known()
    versions.heard("large", "a", 3 * DAY_MS)  # its first
    versions.heard("large", "b", 4 * DAY_MS)
    assert [news.model for news in versions.tell()] == ["large"]


@given(gaps=st.lists(st.integers(0, 40 * DAY_MS), max_size=60))
def test_names_made_up_one_a_request_share_what_the_height_pays_for(gaps):
    versions, at_ms, given_days = known(), DAY_MS, 0.0
    for number, gap in enumerate(gaps):
        at_ms += gap
        versions.heard("small", f"made up {number}", at_ms)
        given_days += versions.take()
        assert given_days <= CREDIT * ARL + REFILL * at_ms / DAY_MS + 1e-6


@given(arl=st.floats(1, 1e5))
def test_at_the_height_the_mean_run_length_is_what_was_promised(arl):
    assert (height(arl) - CREDIT * arl) / (1 + REFILL) >= arl * (1 - 1e-9)


def test_m_less_the_days_and_what_was_given_is_fair_while_nothing_is_wrong():
    random = np.random.default_rng(5)
    ends, given_days = [], 0.0
    for _ in range(2000):
        detector, versions, given_days = Detector(np.array([0.5, 0.5]), 0), known(), 0.0
        for day in range(1, 6):
            verdicts = random.choice([-1.0, 0.0, 1.0], 10, p=[0.2, 0.6, 0.2])
            counts = {float(v): int((verdicts == v).sum()) for v in (-1.0, 0.0, 1.0)}
            detector.observe(pairs.log_factors(np.array([0.1, 0.2]), 0.4, counts), day * DAY_MS)
            versions.heard("small", f"name {day // 2}", day * DAY_MS)
            if days := versions.take():
                detector.begin(days)
                given_days += days
        ends.append(math.exp(detector.evidence))
    assert given_days > 10
    error = np.std(ends) / math.sqrt(len(ends))
    assert abs(np.mean(ends) - 5.0 - given_days) < 4 * error


def test_names_and_models_are_bounded_and_room_is_made_when_names_are_out_of_use():
    versions = known()
    for number in range(10 * MOST_NAMES):
        versions.heard("small", f"name {number}", 2 * DAY_MS)
        versions.heard(f"model {number}", "x", 2 * DAY_MS)
    assert len(versions.tell()) == MOST_NAMES - 1
    found = versions.dump()["models"]
    assert len(found) == MOST_MODELS
    versions.heard("small", "really new", (FORGOTTEN_DAYS + 3) * DAY_MS)
    assert [news.name for news in versions.tell()] == ["really new"]
    assert len(versions.dump()["models"]["small"][2]) == MOST_NAMES


@pytest.mark.parametrize("name", ["", "\x00", "\x1b[2J", "é" * 10, "x" * 100_000])
def test_any_text_is_a_name(name):
    versions = known()
    versions.heard("small", name, 3 * DAY_MS)
    (news,) = versions.tell()
    assert news.name == name[:MOST_CHARACTERS]


def test_it_comes_back_exactly():
    versions = known(("a", "b"))
    versions.heard("small", "c", 3 * DAY_MS)
    again = Versions(ARL, 0)
    again.load(orjson.loads(orjson.dumps(versions.dump())))
    for one in (versions, again):
        one.heard("small", "d", 50 * DAY_MS)
        one.heard("small", "a", 51 * DAY_MS)
    assert again.dump() == versions.dump()
    assert (again.take(), again.tell()) == (versions.take(), versions.tell())


def test_it_starts_a_test_in_every_unit_that_is_tested_and_erases_none():
    guard = Guard(Settings(), ("chat/easy", "code/hard", "math/hard"), 0)
    guard.units["code/hard"].detector.begin(100.0)
    guard.fence("math/hard", HOUR_MS)
    guard.units["code/hard"].detector.begin(100.0)
    guard.served("small", "a", 0)
    guard.served("small", "b", 2 * DAY_MS)
    guard.step(2 * DAY_MS)
    m = {name: math.exp(unit.evidence) for name, unit in guard.units.items()}
    first = CREDIT * Settings().arl_days / 2
    assert m["chat/easy"] == pytest.approx(first)
    assert m["code/hard"] == pytest.approx(first + 200.0)
    assert m["math/hard"] == 0.0
    guard.step(3 * DAY_MS)
    assert math.exp(guard.units["chat/easy"].evidence) == pytest.approx(first)
