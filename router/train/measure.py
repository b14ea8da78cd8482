"""How good a classifier's probabilities are on rows that it has not seen, with intervals, beside what else one could do.

Two models of the rows are compared as *strong* and *cheap*: scores are ``p_ok(strong) - p_ok(cheap)``. Intervals are
percentiles of a bootstrap over rows; differences are of the same draws (paired), so what moves both cancels out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.calibration import expected_calibration_error
from router.core.ope import Estimate
from router.core.routing_curve import Ranked, RoutingCurve
from router.train.rows import Row

Array = NDArray[np.float64]

DRAWS = 2000
LEVELS = (0.5, 0.8, 0.95)
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Judged:
    """One way to route. ``curve`` of the rows as they are; ``difference``: its APGR less that of the first one, paired."""

    name: str
    curve: RoutingCurve
    apgr: Estimate
    cpt: Mapping[float, Estimate]
    difference: Estimate | None


@dataclass(frozen=True, slots=True)
class Qualities:
    """``quality[model]`` and ``cost_usd[model]`` (n,); NaN where a row has no such arm, or its cost is unknown."""

    quality: Mapping[str, Array]
    cost_usd: Mapping[str, Array]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.quality)

    @property
    def means(self) -> dict[str, float]:
        """Of each model, over the rows that have it."""
        return {name: float(quality[self.has(name)].mean()) for name, quality in self.quality.items()}

    def has(self, *models: str) -> NDArray[np.bool_]:
        """Rows (n,) with arms of all these models."""
        found: NDArray[np.bool_] = np.all([np.isfinite(self.quality[model]) for model in models], axis=0)
        return found

    def pair(self, strong: str | None, cheap: str | None) -> tuple[str, str]:
        """The models to compare: as named, else the best on average, and of the others the cheapest (or the worst).

        Raises:
            ConfigError: there is no such model, or fewer than two.
        """
        for name in (strong, cheap):
            if name is not None and name not in self.quality:
                raise ConfigError(f"no model {name!r} in the rows; there are {', '.join(self.models)}")
        means = self.means
        strong = strong or max((name for name in means if name != cheap), key=means.__getitem__, default=None)
        others = [name for name in means if name != strong]
        if strong is None or not others:
            raise ConfigError("rows with two models are wanted, to compare")
        costs = {name: float(self.cost_usd[name][self.has(name)].mean()) for name in others}
        known = all(np.isfinite(cost) for cost in costs.values())
        return strong, cheap or min(others, key=costs.__getitem__ if known else means.__getitem__)


def qualities_of(rows: Sequence[Row]) -> Qualities:
    """Of all models that any row has."""
    arms = {
        model: [row.arms.get(model) for row in rows] for model in sorted({name for row in rows for name in row.arms})
    }
    return Qualities(
        {model: np.array([np.nan if arm is None else arm.quality for arm in each]) for model, each in arms.items()},
        {
            model: np.array([np.nan if arm is None else _or_nan(arm.cost_usd) for arm in each])
            for model, each in arms.items()
        },
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def resample(n: int, ask: Callable[[Array], None], *, draws: int, seed: int) -> None:
    """Call ``ask`` with ``draws`` weightings of n rows, each a resample with replacement; the same for the same seed.

    A draw in which something has no value (``ValueError``: no gap is left) is passed over.
    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        with contextlib.suppress(ValueError):
            ask(np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64))


def figure(value: float, drawn: Array) -> Estimate:
    """With the percentiles of what was drawn."""
    low, high = np.percentile(drawn, INTERVAL)
    return Estimate(value, float(low), float(high))


def judge(
    scores: Mapping[str, Array], strong: Array, cheap: Array, *, draws: int = DRAWS, seed: int = 0
) -> list[Judged]:
    """Each way to order the rows, the first of them being what the others are compared with.

    Raises:
        ConfigError: the strong model is not better on average, so there is nothing to recover.
    """
    ranked = {name: Ranked.by(score, strong, cheap) for name, score in scores.items()}
    try:
        curves = {name: one.curve() for name, one in ranked.items()}
    except ValueError as error:
        raise ConfigError(str(error)) from None

    drawn: dict[str, list[list[float]]] = {name: [] for name in ranked}

    def ask(weights: Array) -> None:
        found = {name: one.curve(weights) for name, one in ranked.items()}
        for name, curve in found.items():
            drawn[name].append([curve.apgr, *(curve.cpt(level) for level in LEVELS)])

    resample(len(strong), ask, draws=draws, seed=seed)
    columns = {name: np.array(rows) for name, rows in drawn.items()}
    first = next(iter(ranked))
    return [
        Judged(
            name=name,
            curve=curves[name],
            apgr=figure(curves[name].apgr, columns[name][:, 0]),
            cpt={level: figure(curves[name].cpt(level), columns[name][:, 1 + at]) for at, level in enumerate(LEVELS)},
            difference=None
            if name == first
            else figure(curves[name].apgr - curves[first].apgr, columns[name][:, 0] - columns[first][:, 0]),
        )
        for name in ranked
    ]


def calibration(predicted: Array, truth: Array, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """Expected calibration error of one model's probabilities."""
    drawn: list[float] = []
    resample(
        len(truth),
        lambda weights: drawn.append(expected_calibration_error(predicted, truth, weights)),
        draws=draws,
        seed=seed,
    )
    return figure(expected_calibration_error(predicted, truth), np.array(drawn))
