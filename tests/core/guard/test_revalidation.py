"""What is still worse by the margin is hardly ever released; what is well again is."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from router.core.guard.revalidation import ALPHA, Revalidation


def released(worse, better, runs=300, pairs=600, margin=0.1):
    """Share of runs in which it passes at any time."""
    random, found = np.random.default_rng(2), 0
    for _ in range(runs):
        again = Revalidation(margin, 0.7)
        for verdict in random.choice([1.0, -1.0, 0.0], pairs, p=[worse, better, 1 - worse - better]):
            again.observe(float(verdict))
            if again.passed:
                found += 1
                break
    return found / runs


def test_what_is_worse_by_just_the_margin_stays_away():
    assert released(0.235, 0.165) <= 2 * ALPHA


def test_what_is_much_worse_stays_away():
    assert released(0.4, 0.1, runs=50) == 0


def test_what_is_better_comes_back():
    assert released(0.1, 0.2, runs=60) > 0.9


def test_nothing_is_released_unseen():
    again = Revalidation(0.1, 0.7)
    assert not again.passed
    assert again.evidence == pytest.approx(0.0)
    for _ in range(10):
        again.observe(-1.0)
    assert not again.passed  # ten pairs are not enough, whatever they say


@pytest.mark.parametrize("verdict", [1.0, -1.0, 0.0, 0.5])
def test_a_great_many_verdicts_leave_it_finite(verdict):
    again = Revalidation(0.99, 1.0)
    for _ in range(20_000):
        again.observe(verdict)
    assert np.isfinite(again.evidence)
    assert again.passed == (verdict < 0.99)


def test_it_continues_exactly_where_it_was_dumped():
    whole, first, again = (Revalidation(0.1, 0.7) for _ in range(3))
    verdicts = [(-1.0, 0.0, 1.0, -0.25)[number % 4] for number in range(100)]
    for verdict in verdicts:
        whole.observe(verdict)
    for verdict in verdicts[:37]:
        first.observe(verdict)
    again.load(orjson.loads(orjson.dumps(first.dump())))
    for verdict in verdicts[37:]:
        again.observe(verdict)
    assert (again.dump(), again.evidence) == (whole.dump(), whole.evidence)
