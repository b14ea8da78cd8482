"""What a soak goes by: no growth is found where there is none, however long noise remembers, and what grows is."""

import numpy as np
import pytest

from benchmarks.slopes import slope

SAMPLES, SERIES = 400, 400


def noise(draw, remembers):
    """An AR(1) series of standard deviation 1, in its long-run state from the first sample on."""
    fresh = draw.normal(size=SAMPLES) * (1 - remembers**2) ** 0.5
    series = np.empty(SAMPLES)
    series[0] = draw.normal()
    for at in range(1, SAMPLES):
        series[at] = remembers * series[at - 1] + fresh[at]
    return series


@pytest.mark.parametrize("remembers", [0.0, 0.5, 0.9, 0.97])
def test_an_interval_misses_a_slope_that_is_zero_about_as_often_as_it_says(remembers):
    draw = np.random.default_rng(11)
    found = [slope(range(SAMPLES), noise(draw, remembers)) for _ in range(SERIES)]
    assert sum(not one.low <= 0 <= one.high for one in found) <= 0.12 * SERIES


@pytest.mark.parametrize("remembers", [0.0, 0.9])
def test_what_grows_by_a_few_times_its_noise_is_found(remembers):
    draw = np.random.default_rng(12)
    grown = [slope(range(SAMPLES), noise(draw, remembers) + np.linspace(0, 8, SAMPLES)) for _ in range(50)]
    assert all(one.low > 0 for one in grown)
    assert not any(one.steady(1.0) for one in grown)
    assert abs(np.mean([one.per_s * SAMPLES for one in grown]) - 8) < 0.5


def test_what_never_changes_has_no_slope_and_growth_below_the_resolution_is_none():
    still = slope(range(100), [7.0] * 100)
    assert (still.low, still.per_s, still.high) == (0.0, 0.0, 0.0)
    little = slope(range(100), [7.0 + at / 100 for at in range(100)])
    assert little.low > 0
    assert not little.steady(0.5)
    assert little.steady(1.0)


def test_too_few_samples_are_refused_with_how_many_are_needed():
    with pytest.raises(ValueError, match="needs 48 samples"):
        slope(range(10), [1.0] * 10)
