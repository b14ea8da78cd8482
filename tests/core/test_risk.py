"""The threshold of a cascade keeps its risk, notices when it no longer does, and knows what it does not know."""

from __future__ import annotations

import json
import math
import random
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.labels import GONE_MS, MAX_LABELS, MAX_NAME, MOST_SERVED, OTHERS, Labels, by_served, load
from router.core.risk import GRID, Label, calibrate, later

TARGET, DELTA, START = 0.1, 0.1, 0.5


def answers(dice, n, *, worse=0.0, served="v1", held=0.5, begin_ms=0, weight=1.0):
    """Answers whose confidence is the probability that they are good, less ``worse``."""
    found = []
    for number in range(n):
        confidence = dice.betavariate(4, 2)
        good = float(dice.random() < confidence - worse)
        promised = held is not None and held != START
        found.append(Label(confidence, good, weight, begin_ms + number, served, held, promised, number))
    return found


def counting(news, before=None):
    """The labels that count, in a state that came through a table."""
    now_ms = max((one.at_ms for one in news), default=0)
    found = (before or Labels("s")).adding(news, TARGET, now_ms)
    assert load(json.loads(json.dumps(found.dump()))) == found
    return found


@lru_cache
def true_risk(threshold, worse=0.0):
    dice = np.random.default_rng(0)
    confidence = dice.beta(4, 2, 400_000)
    return float(np.mean((1.0 - np.clip(confidence - worse, 0, 1)) * (confidence >= threshold)))


def test_the_risk_is_kept_as_often_as_promised():
    dice, wrong, runs = random.Random(1), 0, 200
    for _ in range(runs):
        # Looked at again and again while labels come in: one wrong look is one too many.
        labels = answers(dice, 300)
        looks = [calibrate(labels[:n], TARGET, DELTA).threshold for n in (60, 100, 150, 200, 250, 300)]
        wrong += any(one is not None and true_risk(one) > TARGET for one in looks)
    assert wrong / runs <= DELTA


def test_more_labels_let_more_through_but_never_more_than_the_risk_allows():
    dice = random.Random(2)
    labels = answers(dice, 2000)
    found = [calibrate(labels[:n], TARGET, DELTA) for n in (100, 500, 2000)]
    thresholds = [one.threshold for one in found]
    assert thresholds == sorted(thresholds, reverse=True)
    assert found[-1].escalates < found[0].escalates
    ideal = min(float(t) for t in GRID if true_risk(t) <= TARGET)
    assert ideal <= thresholds[-1] <= ideal + 0.1
    assert found[-1].risk <= found[-1].bound <= TARGET + 1e-6


def test_too_few_labels_show_nothing():
    assert calibrate([], TARGET, DELTA).threshold is None
    few = calibrate(answers(random.Random(3), 10), TARGET, DELTA)
    assert (few.threshold, few.labels) == (None, 10)
    assert few.bound > TARGET


def test_a_model_that_is_never_right_is_never_let_through_below_the_top():
    labels = [Label(0.9, 0.0, 1.0, number, "v1") for number in range(500)]
    found = calibrate(labels, TARGET, DELTA)
    assert found.threshold is not None
    assert found.threshold > 0.9


def test_a_model_that_is_always_right_is_let_through_at_the_bottom():
    labels = [Label(0.3, 1.0, 1.0, number, "v1") for number in range(500)]
    assert calibrate(labels, TARGET, DELTA).threshold == GRID[0]


def test_what_was_drawn_seldom_counts_for_more():
    """Half of the answers were drawn ten times less often; they are the bad ones. Unweighted, all would look well."""
    dice, labels = random.Random(4), []
    for number in range(3000):
        bad = number % 2 == 0
        if dice.random() < (0.1 if bad else 1.0):
            labels.append(Label(0.6, 0.0 if bad else 1.0, 10.0 if bad else 1.0, number, "v1"))
    weighted = calibrate(labels, 0.2, DELTA)
    unweighted = calibrate([one._replace(weight=1.0) for one in labels], 0.2, DELTA)
    assert unweighted.threshold == GRID[0]
    assert weighted.threshold > 0.6


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            Label,
            st.floats(0, 1),
            st.floats(0, 1),
            st.floats(1, 1e4),
            st.integers(0, 10**6),
            st.sampled_from(["a", "b"]),
            st.none() | st.floats(0, 1),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=60,
    ),
    st.floats(0.01, 0.9),
)
def test_whatever_the_labels_the_figures_are_sound(labels, target):
    found = Labels("s").adding(labels, target, 10**7).in_force(START, target, DELTA)
    assert 0.0 <= found.threshold <= 1.0
    assert 0.0 <= found.escalates <= 1.0
    for one in found.served.values():
        assert 0.0 <= one.risk <= one.bound + 1e-9 <= 1.0 + 2e-9
        assert math.isfinite(one.escalates)


def test_the_order_in_which_labels_arrive_changes_nothing():
    dice = random.Random(5)
    labels = answers(dice, 400)
    shuffled = [*labels]
    dice.shuffle(shuffled)
    at_once = counting(labels)
    assert counting(shuffled[150:], counting(shuffled[:150])) == at_once
    assert at_once.in_force(START, TARGET, DELTA) == counting(shuffled).in_force(START, TARGET, DELTA)


def test_the_watch_seldom_cries_without_reason_and_soon_with_one():
    dice = random.Random(6)
    held = calibrate(answers(dice, 2000), TARGET, DELTA).threshold
    assert all(later(answers(dice, 1000, held=held), TARGET).since is None for _ in range(20))
    worse = [*answers(dice, 500, held=held), *answers(dice, 400, held=held, worse=0.4, begin_ms=500)]
    since = later(worse, TARGET).since
    assert since is not None
    assert 400 <= since <= 700


def test_a_change_for_the_worse_drops_what_was_before_and_the_threshold_rises():
    dice = random.Random(7)
    before = answers(dice, 1000)
    calm = counting(before).in_force(START, TARGET, DELTA)
    after = answers(dice, 600, held=calm.threshold, worse=0.3, begin_ms=1000)
    kept = counting(after, counting(before))
    assert min(one.at_ms for one in kept.known) >= 900
    now = kept.in_force(START, TARGET, DELTA)
    assert now.threshold > calm.threshold
    assert true_risk(now.threshold, worse=0.3) <= TARGET


def test_a_new_served_model_starts_without_labels_and_the_stricter_threshold_holds():
    dice = random.Random(8)
    old = answers(dice, 1500)
    alone = counting(old).in_force(START, TARGET, DELTA)
    assert alone.calibrated
    new = answers(dice, 5, served="v2", begin_ms=1500)
    both = counting([*old, *new]).in_force(0.9, TARGET, DELTA)
    assert not both.calibrated
    assert both.threshold == max(0.9, alone.threshold)
    assert both.served["v2"].threshold is None
    gone = [one._replace(at_ms=one.at_ms + 2 * GONE_MS) for one in answers(dice, 300, served="v2")]
    assert set(counting([*old, *gone]).in_force(0.5, TARGET, DELTA).served) == {"v2"}


def test_the_newest_labels_are_kept():
    kept = counting(answers(random.Random(9), MAX_LABELS + 500)).known
    assert len(kept) == MAX_LABELS
    assert kept[0].at_ms == 500


@pytest.mark.parametrize("n", [0, 5])
def test_before_there_are_labels_the_configured_threshold_holds(n):
    found = counting(answers(random.Random(10), n)).in_force(0.42, TARGET, DELTA)
    assert (found.threshold, found.calibrated) == (0.42, False)


def test_neither_what_was_observed_nor_the_start_is_watched():
    for held in (None, START):
        labels = answers(random.Random(11), 800, held=held)
        assert later(labels, TARGET) == later([], TARGET)
        assert list(counting(labels).known) == labels


def test_bad_labels_that_came_in_one_file_are_no_change():
    """A broker stamps a whole file alike: six bad ones of two hundred are three per cent, wherever they stand."""
    good = [Label(0.9, 1.0, 1.0, number, "v1", None, number=number) for number in range(300)]
    dice = random.Random(12)
    file = [
        Label(0.9, float(n >= 6), 1.0, 1000, "v1", 0.8, promised=True, number=dice.randrange(2**32)) for n in range(200)
    ]
    assert len(Labels("s").adding(good, 0.05, 999).adding(file, 0.05, 2000).known) == 500


def test_after_a_change_the_next_one_is_seen_like_the_first():
    dice = random.Random(13)
    held = calibrate(answers(dice, 2000), TARGET, DELTA).threshold
    found = counting(answers(dice, 600, held=held))
    for begin_ms in (1000, 3000):
        found = counting(answers(dice, 200, held=held, worse=0.5, begin_ms=begin_ms), found)
        assert min(one.at_ms for one in found.known) >= begin_ms - 700
        watched_ms = found.watched_ms
        assert watched_ms >= begin_ms
        found = counting(answers(dice, 600, held=held, begin_ms=begin_ms + 500), found)
        assert found.watched_ms == watched_ms


def test_a_flood_of_served_models_is_taken_for_one():
    dice = random.Random(14)
    flood = [one._replace(served_model=f"{n}-" + "x" * 300, at_ms=n) for n, one in enumerate(answers(dice, 500))]
    groups = by_served(flood)
    assert len(groups) == MOST_SERVED + 1
    assert len(groups[OTHERS]) == 500 - MOST_SERVED
    found = counting(flood).in_force(START, TARGET, DELTA)
    assert not found.calibrated
    assert max(map(len, found.served)) <= MAX_NAME
