"""A classifier that was fitted: task class, and for each model the probability that its answer is good enough.

One linear head for each model and each class, on ``core/features``:

    z = bias + (sum of weight[number] over the bag) / sqrt(size of the bag) + surface weights . standardised surface

The surface is standardised by mean and deviation of the rows that were fitted to, and cut off at ``FARTHEST`` deviations: a
prompt unlike all of them is taken for the most unlike of them, no more.

``p_ok`` = sigmoid(z), calibrated when it was fitted (``core/calibration``: slope and intercept are in the weights). The
class is that of the largest z. All heads of a batch of prompts are one gather and one sum.

Weights are kept in 8 bits and one scale a head; that moves a probability by less than 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.core.calibration import sigmoid
from router.core.features import Features, features_of
from router.core.tokens import Ids

Array = NDArray[np.float64]

_STEPS = 127
_DIGITS = 4
FARTHEST = 3.0


class Read(NamedTuple):
    """Of n prompts: class (``None`` without classes), ``p_ok`` by model to four digits, standardised surface (n, len(SURFACE))."""

    classes: list[str | None]
    p_ok: list[dict[str, float]]
    surface: Array


@dataclass(frozen=True, slots=True)
class Heads:
    """``models`` and ``classes`` are the h heads, in this order; ``classes`` may be empty.

    ``weights`` (2^BITS, h) int8 in steps of ``scales`` (h,); ``surface`` (h, len(SURFACE)); ``bias`` (h,). ``mean`` and
    ``deviation`` (len(SURFACE),) of the surface.
    """

    models: tuple[str, ...]
    classes: tuple[str, ...]
    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    surface: NDArray[np.float32]
    bias: NDArray[np.float32]
    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        classes: Sequence[str],
        *,
        weights: Array,
        surface: Array,
        bias: Array,
        mean: Array,
        deviation: Array,
    ) -> Heads:
        """From weights (h, 2^BITS) of any size: rounded to 8 bits."""
        scales = np.maximum(np.abs(weights).max(axis=1, initial=0.0), 1e-12) / _STEPS
        return cls(
            models=tuple(models),
            classes=tuple(classes),
            weights=np.round(weights.T / scales).astype(np.int8),
            scales=scales.astype(np.float32),
            surface=surface.astype(np.float32),
            bias=bias.astype(np.float32),
            mean=mean.astype(np.float32),
            deviation=deviation.astype(np.float32),
        )

    def logits(self, features: Features) -> Array:
        """(n, h) of n prompts."""
        return self._logits(features, standardised(features.surface, self.mean, self.deviation))

    def _logits(self, features: Features, surface: Array) -> Array:
        sizes = np.diff(features.starts)
        found = np.zeros((len(sizes), len(self.scales)))
        some = sizes > 0
        if some.any():
            gathered = self.weights[features.numbers].astype(np.float32)
            sums = np.add.reduceat(gathered, features.starts[:-1][some])
            found[some] = sums * self.scales / np.sqrt(sizes[some])[:, None]
        return np.asarray(found + surface @ self.surface.T + self.bias)

    def p_ok(self, features: Features) -> Array:
        """(n, models): of each prompt and model the probability that its answer is good enough."""
        return sigmoid(self.logits(features)[:, : len(self.models)])

    def predict(self, prompts: Sequence[Ids]) -> tuple[list[str | None], list[dict[str, float]]]:
        """Class (``None`` without classes) and ``p_ok`` by model, to four digits, of prompts given as token ids."""
        classes, p_ok, _ = self.read(prompts)
        return classes, p_ok

    def read(self, prompts: Sequence[Ids]) -> Read:
        """All that is seen of prompts given as token ids."""
        features = features_of(prompts)
        surface = standardised(features.surface, self.mean, self.deviation)
        logits = self._logits(features, surface)
        count = len(self.models)
        p_ok = sigmoid(logits[:, :count]).round(_DIGITS).tolist()
        named = [dict(zip(self.models, each, strict=True)) for each in p_ok]
        if not self.classes:
            return Read([None] * len(prompts), named, surface)
        return Read([self.classes[best] for best in logits[:, count:].argmax(axis=1).tolist()], named, surface)


def standardised(surface: Array, mean: NDArray[Any], deviation: NDArray[Any]) -> Array:
    """(n, len(SURFACE)) in deviations from the mean, at most ``FARTHEST``."""
    return np.asarray(np.clip((surface - mean) / deviation, -FARTHEST, FARTHEST))
