"""Is a probability what it says? And the two numbers that make a score one.

``expected_calibration_error``: predictions in ten bins of equal width; the mean distance between what a bin says and how
often it is right, weighted by its size. 0..1; a few hundredths are left by chance alone at some hundred rows a bin.

``platt``: p = sigmoid(a z + b) for a score z, with a and b of the greatest likelihood. Targets may be graded, 0..1.
Newton's method on two numbers, with a ridge of 1e-6 so that separable data end.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (ECE); Platt, Probabilistic Outputs for Support
Vector Machines, 1999.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BINS = 10
_RIDGE, _STEPS, _NEAR = 1e-6, 50, 1e-10


def sigmoid(z: Array) -> Array:
    """Of any size, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def bins_of(predicted: Array) -> NDArray[np.intp]:
    """Bin 0..9 of each prediction 0..1."""
    return np.minimum((predicted * BINS).astype(np.intp), BINS - 1)


def expected_calibration_error(predicted: Array, truth: Array, weights: Array | None = None) -> float:
    """``predicted``, ``truth`` 0..1 and ``weights`` (n,); 1 each without."""
    weight = np.ones(len(truth)) if weights is None else weights
    missed = np.bincount(bins_of(predicted), weight * (predicted - truth), BINS)
    return float(np.abs(missed).sum() / weight.sum())


def platt(scores: Array, truth: Array) -> tuple[float, float]:
    """Slope and intercept for ``scores`` (n,) and ``truth`` 0..1 (n,).

    >>> slope, intercept = platt(np.array([-1.0, 1.0] * 50), np.array([0.25, 0.75] * 50))
    >>> round(slope, 3), round(abs(intercept), 3)
    (1.099, 0.0)
    """
    design = np.stack([scores, np.ones(len(scores))], axis=1)
    found = np.array([1.0, 0.0])
    for _ in range(_STEPS):
        p = sigmoid(design @ found)
        slope = design.T @ (p - truth) + _RIDGE * found
        curve = (design * (p * (1.0 - p))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(curve, slope)
        found = found - step
        if np.abs(step).max() < _NEAR:
            break
    return float(found[0]), float(found[1])
