import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from router.core.saving import Factor, Moments, Uncertain, difference, factor, share, student


def moments(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    each = (x, y, x * x, x * y, y * y, x * x * x, x * x * y, x * y * y)
    return Moments(len(x), *(float(one.sum()) for one in each))


@given(st.floats(0.5, 0.9995), st.floats(3, 1e6))
def test_student_is_what_scipy_says(quantile, freedom):
    assert student(quantile, freedom) == pytest.approx(stats.t.ppf(quantile, freedom), rel=5e-3, abs=1e-6)


@pytest.mark.parametrize("freedom", [1.0, 2.0, math.inf])
def test_student_at_its_ends(freedom):
    assert student(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom))


def test_the_variance_of_a_mean_is_the_jackknifes():
    values = np.random.default_rng(1).lognormal(size=200)
    found = moments(np.ones(200), values)
    without = [(values.sum() - one) / 199 for one in values]
    assert found.ratio == pytest.approx(values.mean())
    assert found.variance == pytest.approx(199 / 200 * ((without - np.mean(without)) ** 2).sum(), rel=0.01)


def test_the_variance_of_a_ratio_of_uneven_units_is_the_jackknifes():
    draw = np.random.default_rng(2)
    x = draw.integers(1, 7, 60).astype(float)
    y = x * draw.lognormal(size=60)
    without = [(y.sum() - y[at]) / (x.sum() - x[at]) for at in range(60)]
    jackknife = 59 / 60 * ((without - np.mean(without)) ** 2).sum()
    assert moments(x, y).variance == pytest.approx(jackknife, rel=0.03)


def test_one_unit_has_no_variance():
    assert moments([1], [5]).variance is None
    assert factor(moments([1], [5]), moments([1, 1], [5, 6])) is None
    assert Moments().ratio is None


def test_units_of_unequal_weight_count_as_fewer():
    assert moments([1, 1, 1, 1], [0, 0, 0, 0]).effective == 4
    assert moments([100, 1, 1, 1], [0, 0, 0, 0]).effective == pytest.approx(1.06, abs=0.01)


def test_a_factor_is_the_ratio_of_the_two():
    found = factor(moments([1, 1, 1], [14, 14, 14]), moments([1, 1, 1], [10, 10, 10]))
    assert found.value == pytest.approx(1.4)
    assert found.deviation == 0.0


def test_what_rests_on_one_source_is_wrong_together():
    wrong = Factor(1.0, 0.1, 20.0)
    one, other = Uncertain(100.0).grown("a", wrong), Uncertain(100.0).grown("a", wrong)
    assert (one + other).deviation == pytest.approx(20.0)
    assert (one + Uncertain(100.0).grown("b", wrong)).deviation == pytest.approx(200**0.5)
    assert (one + one.times(-1.0)).deviation == pytest.approx(0.0)


def test_what_is_known_has_no_interval():
    assert Uncertain(5.0).interval() == (5.0, 5.0, 5.0)
    assert Uncertain(0.0).interval() == (0.0, 0.0, 0.0)


def test_a_larger_confidence_is_wider():
    found = Uncertain(100.0).grown("a", Factor(1.0, 0.1, 20.0))
    a, b = found.interval(0.5), found.interval(0.99)
    assert b.low < a.low < 100.0 < a.high < b.high
    assert b.low > 0


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1)), min_size=1, max_size=40), st.floats(0.0, 0.99))
def test_a_share_lies_in_its_interval_and_both_in_0_to_1(units, confidence):
    weights, values = zip(*units, strict=True)
    found = share(moments(weights, np.multiply(weights, values)), confidence)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    assert difference(found, found).value == 0.0


def test_all_good_says_no_more_than_their_number():
    """The rule of three: 0 of n is at most 3 / n, one-sided."""
    found = share(moments(np.ones(30), np.ones(30)))
    assert 0.85 < found.low < 0.9


def test_nothing_is_anything():
    assert share(Moments()) == (0.0, 0.0, 1.0)


def test_the_interval_of_a_share_is_wilsons():
    values = np.r_[np.ones(80), np.zeros(20)]
    found = share(moments(np.ones(100), values))
    low, high = stats.binomtest(80, 100).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.004)
