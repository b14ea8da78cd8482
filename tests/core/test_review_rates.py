"""Rates of a weighted sample cover the truth as often as they say, and a judge's are corrected for what it gets wrong."""

import random

import pytest

from router.core.review_rates import LEAST_DIFFERENT, JudgeError, corrected, judge_error, judge_power, rate_of, wilson

ROUNDS = 400


def test_rare_answers_that_are_looked_at_more_often_count_for_less():
    opinions = [(1.0, 0.5)] * 50 + [(0.0, 0.05)] * 50
    assert rate_of(opinions).value == pytest.approx(100 / 1100)
    assert rate_of([]) is None
    assert rate_of([(1.0, 0.0)]) is None


def test_nothing_bad_among_few_is_no_certainty():
    found = rate_of([(0.0, 0.1)] * 20)
    assert (found.value, found.low) == (0.0, 0.0)
    assert 0.1 < found.high < 0.2


@pytest.mark.parametrize("truth", [0.03, 0.2])
def test_intervals_cover_the_truth_where_doubtful_answers_are_looked_at_more(truth):
    dice, covered = random.Random(7), 0
    for _ in range(ROUNDS):
        opinions = []
        for _ in range(1200):
            doubtful = dice.random() < 0.3
            bad = dice.random() < (truth * 2.0 if doubtful else truth * 0.4 / 0.7)
            inclusion = 0.4 if doubtful else 0.1
            if dice.random() < inclusion:
                opinions.append((float(bad), inclusion))
        found = rate_of(opinions)
        covered += found.low <= truth <= found.high
    assert covered / ROUNDS > 0.92


def test_a_weighted_sample_is_as_sure_as_fewer_even_draws():
    even, uneven = (
        rate_of([(0.0, 0.1), (1.0, 0.1)] * 50),
        rate_of([(0.0, 0.01), (1.0, 0.01), (0.0, 1.0), (1.0, 1.0)] * 25),
    )
    assert even.effective == pytest.approx(99.0)
    assert uneven.effective < 60
    assert uneven.high - uneven.low > even.high - even.low


@pytest.mark.parametrize(("share", "n"), [(0.0, 1.0), (1.0, 3.0), (0.5, 0.5), (0.3, 1e9)])
def test_an_interval_lies_within_bounds_and_holds_its_share(share, n):
    low, high = wilson(share, n)
    assert 0.0 <= low <= share <= high <= 1.0


def judged(dice, truth, n, sensitivity, specificity):
    """What people and a judge find of ``n`` answers."""
    found = []
    for _ in range(n):
        bad = dice.random() < truth
        found.append((bad, dice.random() < (sensitivity if bad else 1.0 - specificity)))
    return found


def test_a_judge_is_measured_by_what_people_found_of_the_same():
    error = judge_error([(True, True)] * 8 + [(True, False)] * 2 + [(False, False)] * 27 + [(False, True)] * 3)
    assert (error.sensitivity.value, error.sensitivity.n) == (0.8, 10)
    assert (error.specificity.value, error.specificity.n) == (0.9, 30)
    assert error.sensitivity.low < 0.8 < error.sensitivity.high
    assert judge_error([]) == JudgeError(None, None)


@pytest.mark.parametrize(("truth", "sensitivity", "specificity"), [(0.06, 0.85, 0.85), (0.3, 0.7, 0.98)])
def test_a_corrected_rate_covers_the_truth(truth, sensitivity, specificity):
    dice, covered, raw = random.Random(3), 0, 0
    for _ in range(ROUNDS):
        error = judge_error(judged(dice, 0.3, 150, sensitivity, specificity))
        reported = rate_of((float(said), 0.1) for _, said in judged(dice, truth, 300, sensitivity, specificity))
        found = corrected(reported, error)
        covered += found.low <= truth <= found.high
        raw += reported.low <= truth <= reported.high
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert covered / ROUNDS > 0.92
    assert raw / ROUNDS < 0.7


def test_a_judge_that_is_no_better_than_a_coin_corrects_nothing():
    dice = random.Random(5)
    coin = judge_error(judged(dice, 0.5, 400, 0.5, 0.5))
    assert corrected(rate_of([(1.0, 0.1), (0.0, 0.1)] * 20), coin) is None
    assert corrected(rate_of([(1.0, 0.1)]), JudgeError(None, None)) is None


def compared(dice, accuracy, taste, count):
    """Pairs as a judge sees them that takes each answer for good or bad with so much accuracy, and in ``taste`` of them says worse whatever it sees."""
    found = []
    for _ in range(count):
        mine, theirs = dice.random() < 0.3, dice.random() < 0.1
        seen = [bad if dice.random() < accuracy else not bad for bad in (mine, theirs)]
        verdict = 1.0 if dice.random() < taste else float(seen[0]) - float(seen[1])
        found.append((float(mine) - float(theirs), verdict))
    return found


@pytest.mark.parametrize(
    ("accuracy", "taste", "truth"), [(0.85, 0.0, 0.7), (1.0, 0.0, 1.0), (0.7, 0.2, 0.32), (0.5, 0.0, 0.0)]
)
def test_a_judges_power_is_what_its_verdicts_show_of_a_difference_whatever_its_taste(accuracy, taste, truth):
    dice, covered = random.Random(3), 0
    for _ in range(100):
        found = judge_power(compared(dice, accuracy, taste, 300))
        covered += found.low <= truth + 1e-9 and truth - 1e-9 <= found.high
    assert covered >= 88


def test_a_judges_power_is_not_known_where_people_found_too_few_to_differ():
    alike = [(0.0, 1.0)] * 500
    assert judge_power([]) is None
    assert judge_power(alike + [(1.0, 1.0)] * (LEAST_DIFFERENT - 1)) is None
    assert judge_power([(1.0, 1.0)] * 500) is None
    assert judge_power(alike + [(1.0, 1.0)] * LEAST_DIFFERENT) is not None
