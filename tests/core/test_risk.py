"""The threshold of a cascade keeps its risk, notices when it no longer does, and knows what it does not know."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.risk import GONE_MS, GRID, MAX_LABELS, Label, calibrate, in_force, later, with_labels

TARGET, DELTA, START = 0.1, 0.1, 0.5


def answers(dice, n, *, worse=0.0, served="v1", held=0.5, begin_ms=0, weight=1.0):
    """Answers whose confidence is the probability that they are good, less ``worse``."""
    found = []
    for number in range(n):
        confidence = dice.betavariate(4, 2)
        good = float(dice.random() < confidence - worse)
        found.append(Label(confidence, good, weight, begin_ms + number, served, held))
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
        ),
        max_size=60,
    ),
    st.floats(0.01, 0.9),
)
def test_whatever_the_labels_the_figures_are_sound(labels, target):
    found = in_force(with_labels([], labels, START, target), START, target, DELTA)
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
    at_once = with_labels([], labels, START, TARGET)
    assert with_labels(with_labels([], shuffled[:150], START, TARGET), shuffled[150:], START, TARGET) == at_once
    assert in_force(at_once, START, TARGET, DELTA) == in_force(
        with_labels([], shuffled, START, TARGET), START, TARGET, DELTA
    )


def test_the_watch_seldom_cries_without_reason_and_soon_with_one():
    dice = random.Random(6)
    held = calibrate(answers(dice, 2000), TARGET, DELTA).threshold
    assert all(later(answers(dice, 1000, held=held), START, TARGET).since is None for _ in range(20))
    worse = [*answers(dice, 500, held=held), *answers(dice, 400, held=held, worse=0.4, begin_ms=500)]
    since = later(worse, START, TARGET).since
    assert since is not None
    assert 400 <= since <= 700


def test_a_change_for_the_worse_drops_what_was_before_and_the_threshold_rises():
    dice = random.Random(7)
    before = answers(dice, 1000)
    calm = in_force(with_labels([], before, START, TARGET), START, TARGET, DELTA)
    after = answers(dice, 600, held=calm.threshold, worse=0.3, begin_ms=1000)
    kept = with_labels(before, after, START, TARGET)
    assert min(one.at_ms for one in kept) >= 900
    now = in_force(kept, 0.5, TARGET, DELTA)
    assert now.threshold > calm.threshold
    assert true_risk(now.threshold, worse=0.3) <= TARGET


def test_a_new_served_model_starts_without_labels_and_the_stricter_threshold_holds():
    dice = random.Random(8)
    old = answers(dice, 1500)
    alone = in_force(old, 0.5, TARGET, DELTA)
    assert alone.calibrated
    new = answers(dice, 5, served="v2", begin_ms=1500)
    both = in_force([*old, *new], 0.9, TARGET, DELTA)
    assert not both.calibrated
    assert both.threshold == max(0.9, alone.threshold)
    assert both.served["v2"].threshold is None
    gone = [one._replace(at_ms=one.at_ms + 2 * GONE_MS) for one in answers(dice, 300, served="v2")]
    assert set(in_force([*old, *gone], 0.5, TARGET, DELTA).served) == {"v2"}


def test_the_newest_labels_are_kept():
    kept = with_labels([], answers(random.Random(9), MAX_LABELS + 500), START, TARGET)
    assert len(kept) == MAX_LABELS
    assert kept[0].at_ms == 500


@pytest.mark.parametrize("n", [0, 5])
def test_before_there_are_labels_the_configured_threshold_holds(n):
    found = in_force(answers(random.Random(10), n), 0.42, TARGET, DELTA)
    assert (found.threshold, found.calibrated) == (0.42, False)


def test_neither_what_was_observed_nor_the_start_is_watched():
    for held in (None, START):
        labels = answers(random.Random(11), 800, held=held)
        assert later(labels, START, TARGET) == later([], START, TARGET)
        assert with_labels([], labels, START, TARGET) == labels
