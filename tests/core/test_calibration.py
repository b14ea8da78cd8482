"""Probabilities that mean what they say."""

import numpy as np
import pytest

from router.core.calibration import expected_calibration_error, platt, sigmoid


def test_right_probabilities_have_no_error_and_wrong_ones_have_theirs():
    truth = np.array([1.0] * 8 + [0.0] * 2)
    assert expected_calibration_error(np.full(10, 0.8), truth) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(10, 0.5), truth) == pytest.approx(0.3)


def test_weights_count_as_repeated_rows():
    said, truth = np.array([0.1, 0.9, 0.9]), np.array([0.0, 1.0, 0.0])
    weights = np.array([1.0, 3.0, 1.0])
    repeated = np.repeat(said, weights.astype(int)), np.repeat(truth, weights.astype(int))
    assert expected_calibration_error(said, truth, weights) == pytest.approx(expected_calibration_error(*repeated))


def test_slope_and_intercept_are_found_again():
    scores = np.linspace(-4, 4, 4001)
    assert platt(scores, sigmoid(0.5 * scores - 1.0)) == pytest.approx((0.5, -1.0), abs=1e-3)


def test_separable_scores_end():
    slope, intercept = platt(np.array([-1.0, 1.0] * 20), np.array([0.0, 1.0] * 20))
    assert np.isfinite([slope, intercept]).all()
    assert slope > 5


def test_no_score_is_too_large():
    assert sigmoid(np.array([-1e9, 0.0, 1e9])).tolist() == [0.0, 0.5, 1.0]
