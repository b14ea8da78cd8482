"""APGR and CPT, against what they are by definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.routing_curve import Ranked

rows = st.lists(
    st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
    min_size=1,
    max_size=12,
)


def curve(scores, strong, cheap, weights=None):
    return Ranked.by(np.array(scores, float), np.array(strong, float), np.array(cheap, float)).curve(weights)


def test_a_perfect_score_recovers_all_with_the_calls_that_are_worth_it():
    found = curve([1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0])
    assert found.cpt(1.0) == 0.5
    assert found.cpt(0.5) == 0.25
    assert found.apgr == pytest.approx(0.75)


def test_a_score_that_knows_nothing_is_random():
    found = curve([7, 7, 7, 7], [1, 1, 1, 0], [0, 0, 1, 1])
    assert found.apgr == pytest.approx(0.5)
    assert [found.cpt(level) for level in (0.5, 0.8, 0.95)] == pytest.approx([0.5, 0.8, 0.95])


def test_leaving_to_the_cheap_model_what_only_it_answers_recovers_more_than_the_gap():
    assert curve([1, 1, -1], [1, 1, 0], [0, 0, 1]).recovered.max() == 2.0


def test_without_a_gap_there_is_nothing_to_recover():
    with pytest.raises(ValueError, match="not better"):
        curve([1, 2], [1, 0], [0, 1])


@given(rows)
def test_weights_count_rows_as_often_as_they_say(found):
    scores, strong, cheap = zip(*found, strict=True)
    twice = [np.repeat(column, 2) for column in (scores, strong, cheap)]
    if sum(strong) > sum(cheap):
        weighted = curve(scores, strong, cheap, np.full(len(scores), 2.0))
        assert weighted.apgr == pytest.approx(curve(*twice).apgr)
        assert weighted.cpt(0.8) == pytest.approx(curve(scores, strong, cheap).cpt(0.8))


@given(rows, st.permutations(range(12)))
def test_the_order_of_the_rows_does_not_matter(found, order):
    moved = [found[at] for at in order if at < len(found)]
    scores, strong, cheap = zip(*found, strict=True)
    if sum(strong) > sum(cheap):
        assert curve(*zip(*moved, strict=True)).apgr == pytest.approx(curve(scores, strong, cheap).apgr)
