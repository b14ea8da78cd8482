"""Fit a classifier to rows: a logistic regression for each model and each task class, calibrated on rows left out.

For each model the target is the quality of its answers, 0..1; a graded one counts as so much good and so much bad. Weights are
shrunk (L2); how much is chosen once, for all models, by log loss on rows left out. Then

1. every row is scored by heads that were fitted without it (``folds`` of them): *held-out* scores;
2. slope and intercept of each model are fitted to those (``core.calibration.platt``), so ``p_ok`` says what it means;
3. the heads that are kept are fitted to all rows.

Rows with the same text stay in one fold, else a model would be asked what it has been told. A row without an answer of a model
says nothing of it: each head is fitted to the rows that have its model, and scores all.

Source of the whole: per-model correctness as in Ong et al. (RouteLLM), section 3, with a bag of words in place of
embeddings: on 7,000 rows larger models of the text were no better (docs/classifier.md lists what was tried).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.artefact import Artefact
from router.core.calibration import platt, sigmoid
from router.core.features import BITS, Features, features_of
from router.core.learned import Heads, standardised
from router.train.measure import qualities_of
from router.train.rows import Row

Array = NDArray[np.float64]

#: Least rows to fit to: below, held-out scores are noise.
LEAST_ROWS = 100
#: Inverse strength of the shrinking (scikit-learn's C) that is tried.
STRENGTHS = (0.1, 0.3, 1.0, 3.0)
#: The same of classes: which one is largest needs no probabilities, and few texts name each.
CLASS_STRENGTH = 30.0
#: Surface numbers are standardised, then weigh so much beside the bag.
SURFACE_WEIGHT = 0.1
#: What is the same in all rows says nothing of rows in which it is not.
LEAST_DEVIATION = 0.05
#: Bands of difficulty: bounds at these quantiles of the gain.
BAND_QUANTILES = (1 / 3, 2 / 3)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Fitted:
    """``held_out`` (n, models): calibrated p_ok of every row, by heads and slopes fitted without it. ``strength``: as chosen."""

    artefact: Artefact
    models: tuple[str, ...]
    held_out: Array
    strength: float


class Design:
    """Rows as a sparse matrix (n, 2^BITS + surface), and what turns its weights back into heads."""

    def __init__(self, features: Features) -> None:
        from scipy import sparse  # noqa: PLC0415 - offline only

        sizes = np.diff(features.starts)
        data = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes)
        bag = sparse.csr_matrix((data, features.numbers, features.starts), shape=(len(sizes), 2**BITS))
        self.mean = features.surface.mean(axis=0)
        self.deviation = np.maximum(features.surface.std(axis=0), LEAST_DEVIATION)
        surface = standardised(features.surface, self.mean, self.deviation) * SURFACE_WEIGHT
        self.matrix: Any = sparse.hstack([bag, sparse.csr_matrix(surface)]).tocsr()

    @staticmethod
    def head(weights: Array, bias: float) -> tuple[Array, Array, float]:
        """Weights of the bag and of the standardised surface, and the bias."""
        return weights[: 2**BITS], weights[2**BITS :] * SURFACE_WEIGHT, bias


def fit(rows: Sequence[Row], *, folds: int = 5, seed: int = 0, progress: Progress | None = None) -> Fitted:
    """The classifier of these rows.

    Args:
        rows: Those with a class are what classes are learned from.
        folds: Parts of the rows that are left out in turn.
        seed: Of the folds.
        progress: Told what is done, how much of it, and how much there is.

    Raises:
        ConfigError: too few rows, of all or of a model, or a model whose answers are all alike.
    """
    if len(rows) < LEAST_ROWS:
        raise ConfigError(f"{len(rows)} rows: at least {LEAST_ROWS} are wanted")
    tell = progress or _silent
    known_of = qualities_of(rows)
    models = known_of.models
    texts = [row.prompt.last_user_text for row in rows]
    design = Design(features_of([row.prompt.read()[1] for row in rows]))
    quality = np.stack(list(known_of.quality.values()), axis=1)
    there = np.isfinite(quality)
    for at, model in enumerate(models):
        answers = quality[there[:, at], at]
        if len(answers) < LEAST_ROWS:
            raise ConfigError(f"{model}: {len(answers)} rows: at least {LEAST_ROWS} are wanted")
        if answers.min() == answers.max():
            raise ConfigError(f"{model}: all answers have quality {answers[0]:g}: nothing can be learned")
    parts = list(split(texts, folds, seed))
    strength = _strongest(design, quality, parts[0], tell)
    scores = np.zeros_like(quality)
    for number, (known, asked) in enumerate(parts):
        for at in range(len(models)):
            told = known[there[known, at]]
            scores[asked, at] = _logits(_regression(design.matrix[told], quality[told, at], strength), design, asked)
        tell("scoring rows by heads fitted without them", number + 1, folds)
    held_out = np.zeros_like(quality)
    for known, asked in parts:
        for at in range(len(models)):
            told = known[there[known, at]]
            slope, intercept = platt(scores[told, at], quality[told, at])
            held_out[asked, at] = sigmoid(slope * scores[asked, at] + intercept)
    fitted = []
    for at in range(len(models)):
        told = np.flatnonzero(there[:, at])
        slope, intercept = platt(scores[told, at], quality[told, at])
        bag, surface, bias = design.head(*_regression(design.matrix[told], quality[told, at], strength))
        fitted.append((slope * bag, slope * surface, slope * bias + intercept))
        tell("fitting heads to all rows", at + 1, len(models))
    classes = class_heads(np.array([row.task_class for row in rows]), design, tell)
    bags, surfaces, biases = zip(*fitted, *classes.values(), strict=True)
    heads = Heads.of(
        models,
        tuple(classes),
        weights=np.stack(bags),
        surface=np.stack(surfaces),
        bias=np.array(biases),
        mean=design.mean,
        deviation=design.deviation,
    )
    return Fitted(Artefact(heads, gain_edges(models, held_out), {}), models, held_out, strength)


def split(texts: Sequence[str], folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(rows to fit to, rows to ask), ``folds`` times; equal texts are never apart."""
    groups = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    fold_of_group = np.random.default_rng(seed).permutation(len(groups)) % folds
    fold = fold_of_group[[groups[text] for text in texts]]
    for number in range(folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def gain_edges(models: Sequence[str], p_ok: Array) -> dict[tuple[str, str], tuple[float, ...]]:
    """For each ordered pair of models the bounds between bands of difficulty."""
    return {
        (models[strong], models[cheap]): tuple(
            round(float(edge), 6) for edge in np.quantile(p_ok[:, strong] - p_ok[:, cheap], BAND_QUANTILES)
        )
        for strong, cheap in permutations(range(len(models)), 2)
    }


def _strongest(
    design: Design, quality: Array, part: tuple[NDArray[np.intp], NDArray[np.intp]], tell: Progress
) -> float:
    """The strength with the least log loss over all models, on one fold that is left out."""
    known, asked = part
    losses = []
    for number, strength in enumerate(STRENGTHS):
        loss = 0.0
        for at in range(quality.shape[1]):
            told, left = (part[np.isfinite(quality[part, at])] for part in (known, asked))
            fitted = _regression(design.matrix[told], quality[told, at], strength)
            p = np.clip(sigmoid(_logits(fitted, design, left)), 1e-6, 1 - 1e-6)
            truth = quality[left, at]
            loss -= float((truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()) if len(truth) else 0.0
        losses.append(loss)
        tell("choosing how much to shrink", number + 1, len(STRENGTHS))
    return STRENGTHS[int(np.argmin(losses))]


def _regression(matrix: Any, target: Array, strength: float) -> tuple[Array, float]:
    """Weights and bias for graded targets 0..1: a row counts as good with its target, as bad with the rest."""
    from scipy import sparse  # noqa: PLC0415 - offline only
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    graded = np.flatnonzero((target > 0.0) & (target < 1.0))
    weights = np.concatenate([np.where(target > 0.0, target, 1.0), 1.0 - target[graded]])
    labels = np.concatenate([target > 0.0, np.zeros(len(graded), np.bool_)])
    if labels.all() or not labels.any():  # in this part of the rows: a rare failure may lie wholly in the other
        return np.zeros(matrix.shape[1]), float(np.log(len(target) + 1.0)) * (1.0 if labels[0] else -1.0)
    if len(graded):
        matrix = sparse.vstack([matrix, matrix[graded]])
    # Dual: the rows are far fewer than the weights.
    model = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=1000, random_state=0)
    model.fit(matrix, labels, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def _logits(fitted: tuple[Array, float], design: Design, rows: NDArray[np.intp]) -> Array:
    weights, bias = fitted
    return np.asarray(design.matrix[rows] @ weights + bias)


def heads_of(features: Features, classes: Sequence[str]) -> Heads:
    """A classifier of classes alone: the class of each text (n,)."""
    design = Design(features)
    found = class_heads(np.array(classes), design, _silent)
    bags, surfaces, biases = zip(*found.values(), strict=True)
    return Heads.of(
        (),
        tuple(found),
        weights=np.stack(bags),
        surface=np.stack(surfaces),
        bias=np.array(biases),
        mean=design.mean,
        deviation=design.deviation,
    )


def class_heads(named: NDArray[np.str_], design: Design, tell: Progress) -> dict[str, tuple[Array, Array, float]]:
    """One head a class that rows name (n,), against all others; none where fewer than two are named."""
    known = np.flatnonzero(named != "")
    classes = sorted(set(named[known].tolist()))
    if len(classes) < 2:
        return {}
    heads = {}
    for number, name in enumerate(classes):
        target = (named[known] == name).astype(float)
        heads[name] = design.head(*_regression(design.matrix[known], target, CLASS_STRENGTH))
        tell("learning classes", number + 1, len(classes))
    return heads


def _silent(_what: str, _done: int, _all: int) -> None:
    """No progress is wanted."""
