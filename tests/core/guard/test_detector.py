"""The running test keeps its promise while nothing is wrong, and sees what is."""

from __future__ import annotations

import math

import numpy as np

from router.core.guard import events, means, pairs
from router.core.guard.detector import DAY_MS, Detector

PRIOR = np.array([0.5, 0.5])


def test_m_less_the_days_is_fair_while_nothing_is_wrong() -> None:
    random = np.random.default_rng(7)
    ends = []
    for _ in range(3000):
        detector = Detector(PRIOR, 0)
        for day in range(1, 6):
            verdicts = random.choice([-1.0, 0.0, 1.0], 10, p=[0.2, 0.6, 0.2])
            counts = {float(v): int((verdicts == v).sum()) for v in (-1.0, 0.0, 1.0)}
            detector.observe(pairs.log_factors(np.array([0.1, 0.2]), 0.4, counts), day * DAY_MS)
        ends.append(math.exp(detector.evidence))
    error = np.std(ends) / math.sqrt(len(ends))
    assert abs(np.mean(ends) - 5.0) < 4 * error


def test_events_of_equal_rates_are_a_fair_bet_whatever_the_share() -> None:
    ratios = np.array([1.4, 4.0])
    for share in (0.02, 0.5, 0.9):
        expected = share * np.exp(events.log_factors(ratios, True, share))
        expected += (1 - share) * np.exp(events.log_factors(ratios, False, share))
        assert np.allclose(expected, 1.0)


def test_a_block_of_equal_means_is_no_better_than_fair() -> None:
    excess = np.array([0.05, 0.2])
    for mean in (0.02, 0.1, 0.5):
        total = np.zeros(2)
        for pilot_bad in range(4):
            for reference_bad in range(3):
                chance = math.comb(3, pilot_bad) * mean**pilot_bad * (1 - mean) ** (3 - pilot_bad)
                chance *= math.comb(2, reference_bad) * mean**reference_bad * (1 - mean) ** (2 - reference_bad)
                block = ({1.0: pilot_bad, 0.0: 3 - pilot_bad}, {1.0: reference_bad, 0.0: 2 - reference_bad})
                total += chance * np.exp(means.log_factors(excess, 0.08, *block))
        assert (total <= 1.0 + 1e-9).all()


def test_what_began_is_the_last_time_that_nothing_spoke_for_it() -> None:
    detector = Detector(PRIOR, 0)
    for day, factor in enumerate((-1.0, -1.0, 0.5, 0.5, 0.5), 1):
        detector.observe(np.array([factor, -1.0]), day * DAY_MS)
    assert detector.began_ms[0] == 2 * DAY_MS
    assert detector.began_ms[1] == 5 * DAY_MS


def test_it_comes_back_exactly() -> None:
    detector = Detector(PRIOR, 0)
    detector.observe(np.array([0.3, -0.2]), DAY_MS)
    again = Detector(PRIOR, 0)
    again.load(detector.dump())
    for one in (detector, again):
        one.observe(np.array([0.1, 0.7]), 3 * DAY_MS)
    assert again.dump() == detector.dump()


def test_a_judge_who_likes_one_style_everywhere_is_no_evidence() -> None:
    assert pairs.taste([(100, 0.1), (100, 0.12), (100, 0.5), (10, 0.9)]) == 0.12
    assert pairs.taste([(100, 0.1), (100, 0.12)]) == 0.0
