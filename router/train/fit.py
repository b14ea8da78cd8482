"""Fit a classifier to rows: a logistic regression for each model and each task class, calibrated on rows left out.

For each model the target is the quality of its answers, 0..1; a graded one counts as so much good and so much bad. Weights are
shrunk (L2). ``taught`` is the whole procedure, and sees nothing but the rows that it is given:

1. each of them is scored by heads that were fitted without it (``folds`` of them), with each strength of shrinking that is
   tried; the one with the least log loss of all models together is taken;
2. slope and intercept of each model are fitted to those scores (``core.calibration.platt``), so ``p_ok`` says what it means;
3. the heads that are kept are fitted to all of them.

What is reported is *nested*: the rows are parted once more, and each part is asked what the procedure makes of the others. So
whatever is fitted or chosen (weights, shrinking, slopes, the scale of the surface) has not seen the row that it is judged by.
Words are hashed, there is no vocabulary to be learned. Bands of difficulty are cut from the same held-out ``p_ok``.

Rows with the same text stay in one fold, else a model would be asked what it has been told. A row without an answer of a model
says nothing of it: each head is fitted to the rows that have its model, and scores all.

Sources: per-model correctness as in Ong et al. (RouteLLM), section 3, with a bag of words in place of embeddings: on 7,000 rows
larger models of the text were no better (docs/classifier.md lists what was tried). Nested: Varma and Simon, Bias in error
estimation when using cross-validation for model selection, BMC Bioinformatics 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.contract.errors import ConfigError
from router.core.artefact import Artefact
from router.core.calibration import platt, sigmoid
from router.core.classify import GENERAL
from router.core.features import BITS, Features, features_of
from router.core.learned import Heads, standardised
from router.core.usual import usual_of
from router.train.measure import qualities_of
from router.train.rows import Row

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

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
    """``held_out`` (n, models): p_ok of every row, by a procedure that did not see it. ``strength``: as chosen; in each fold."""

    artefact: Artefact
    models: tuple[str, ...]
    held_out: Array
    strength: float
    strengths: tuple[float, ...]


class Design:
    """Rows as a sparse matrix (n, 2^BITS + surface), and what turns its weights back into heads.

    ``known``: the rows whose surface says what is usual; all without.
    """

    def __init__(self, features: Features, known: Rows | None = None) -> None:
        from scipy import sparse  # noqa: PLC0415 - offline only

        sizes = np.diff(features.starts)
        data = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes)
        bag = sparse.csr_matrix((data, features.numbers, features.starts), shape=(len(sizes), 2**BITS))
        usual = features.surface if known is None else features.surface[known]
        self.mean = usual.mean(axis=0)
        self.deviation = np.maximum(usual.std(axis=0), LEAST_DEVIATION)
        surface = standardised(features.surface, self.mean, self.deviation) * SURFACE_WEIGHT
        self.matrix: Any = sparse.hstack([bag, sparse.csr_matrix(surface)]).tocsr()

    @staticmethod
    def head(weights: Array, bias: float) -> tuple[Array, Array, float]:
        """Weights of the bag and of the standardised surface, and the bias."""
        return weights[: 2**BITS], weights[2**BITS :] * SURFACE_WEIGHT, bias


@dataclass(frozen=True, slots=True)
class Taught:
    """What the procedure made of some rows: of each model weights and bias, its slope and intercept already in them.

    ``said`` (n, models): ``p_ok`` of each of these rows by heads that were fitted without it, with the strength, slopes and intercepts of ``heads``: what these
    will say of more such rows is spread alike.
    """

    heads: tuple[tuple[Array, float], ...]
    strength: float
    said: Array

    def p_ok(self, design: Design, rows: Rows) -> Array:
        """(rows, models)."""
        return np.column_stack([sigmoid(_logits(head, design, rows)) for head in self.heads])


def fit(rows: Sequence[Row], *, folds: int = 5, seed: int = 0, progress: Progress | None = None) -> Fitted:
    """The classifier of these rows.

    Args:
        rows: Those with a class are what classes are learned from.
        folds: Parts of the rows that are left out in turn, to report; and of the rest, to choose.
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
    features = features_of([row.prompt.read()[1] for row in rows])
    quality = np.stack(list(known_of.quality.values()), axis=1)
    for at, model in enumerate(models):
        answers = quality[np.isfinite(quality[:, at]), at]
        if len(answers) < LEAST_ROWS:
            raise ConfigError(f"{model}: {len(answers)} rows: at least {LEAST_ROWS} are wanted")
        if answers.min() == answers.max():
            raise ConfigError(f"{model}: all answers have quality {answers[0]:g}: nothing can be learned")

    def learn(design: Design, known: Rows, told: Callable[[int, int], None]) -> Taught:
        inner = [(known[some], known[others]) for some, others in split([texts[at] for at in known], folds, seed)]
        return taught(design, quality, known, inner, told)

    named = np.array([row.task_class for row in rows])
    held_out, strengths = np.zeros_like(quality), []
    classes_out = np.full(len(rows), GENERAL, dtype=object)
    for number, (known, asked) in enumerate(split(texts, folds, seed)):
        part = Design(features, known)
        found = learn(part, known, partial(_counted, tell, number, folds))
        held_out[asked] = found.p_ok(part, asked)
        classes_out[asked] = classes_of(class_heads(named[known], part, _silent, known), part, asked)
        strengths.append(found.strength)
    design = Design(features)
    whole = learn(design, np.arange(len(rows)), partial(tell, "fitting to all rows"))
    fitted = [design.head(*head) for head in whole.heads]
    classes = class_heads(named, design, tell)
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
    usual = usual_of(
        classes_out.tolist(),
        {model: whole.said[:, at] for at, model in enumerate(models)},
        standardised(features.surface, design.mean, design.deviation),
    )
    artefact = Artefact(heads, gain_edges(models, held_out), {}, usual)
    return Fitted(artefact, models, held_out, whole.strength, tuple(strengths))


def taught(
    design: Design, quality: Array, known: Rows, parts: Sequence[tuple[Rows, Rows]], tell: Callable[[int, int], None]
) -> Taught:
    """The procedure of the module's text on the ``known`` rows, which ``parts`` divide into (rows to fit to, rows to ask).

    ``quality`` (n, models): NaN where there is no answer.
    """
    models = range(quality.shape[1])
    steps = len(STRENGTHS) * len(parts)
    scores = np.zeros((len(STRENGTHS), *quality.shape))
    for step, (tried, (some, others)) in enumerate(product(range(len(STRENGTHS)), parts)):
        for at in models:
            told = _answered(quality, some, at)
            fitted = regression(design.matrix[told], quality[told, at], STRENGTHS[tried])
            scores[tried, others, at] = _logits(fitted, design, others)
        tell(step + 1, steps)
    best = int(np.argmin([_log_loss(sigmoid(one[known]), quality[known]) for one in scores]))
    heads, said = [], np.zeros_like(quality)
    for at in models:
        told = _answered(quality, known, at)
        slope, intercept = platt(scores[best, told, at], quality[told, at])
        weights, bias = regression(design.matrix[told], quality[told, at], STRENGTHS[best])
        heads.append((slope * weights, slope * bias + intercept))
        said[:, at] = sigmoid(slope * scores[best, :, at] + intercept)
    return Taught(tuple(heads), STRENGTHS[best], said)


def _answered(quality: Array, rows: Rows, model: int) -> Rows:
    """Those of the rows that have an answer of the model."""
    found: Rows = rows[np.isfinite(quality[rows, model])]
    return found


def split(texts: Sequence[str], folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
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


def _log_loss(said: Array, truth: Array) -> float:
    """Of all models together, each as much as the others; ``said`` and ``truth`` (n, models), NaN where there is no answer."""
    p = np.clip(said, 1e-6, 1 - 1e-6)
    losses = truth * np.log(p) + (1 - truth) * np.log(1 - p)
    return -float(np.nanmean(losses, axis=0).sum())


def regression(matrix: Any, target: Array, strength: float) -> tuple[Array, float]:
    """Weights and bias for graded targets 0..1: a row counts as good with its target, as bad with the rest."""
    from scipy import sparse  # noqa: PLC0415 - offline only
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    graded = np.flatnonzero((target > 0.0) & (target < 1.0))
    weights = np.concatenate([np.where(target > 0.0, target, 1.0), 1.0 - target[graded]])
    labels = np.concatenate([target > 0.0, np.zeros(len(graded), np.bool_)])
    if len(graded):
        matrix = sparse.vstack([matrix, matrix[graded]])
    if labels.all() or not labels.any():  # in some fold all answers may be alike
        good = float(target.sum())
        return np.zeros(matrix.shape[1]), float(np.log((good + 0.5) / (len(target) - good + 0.5)))
    # Dual: the rows are far fewer than the weights.
    model = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=1000, random_state=0)
    model.fit(matrix, labels, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def _logits(fitted: tuple[Array, float], design: Design, rows: Rows) -> Array:
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


def class_heads(
    named: NDArray[np.str_], design: Design, tell: Progress, rows: Rows | None = None
) -> dict[str, tuple[Array, Array, float]]:
    """One head a class that rows name (n,), against all others; none where fewer than two are named. ``rows``: of the design, which they are."""
    known = np.flatnonzero(named != "")
    classes = sorted(set(named[known].tolist()))
    if len(classes) < 2:
        return {}
    matrix = design.matrix[known if rows is None else rows[known]]
    heads = {}
    for number, name in enumerate(classes):
        target = (named[known] == name).astype(float)
        heads[name] = design.head(*regression(matrix, target, CLASS_STRENGTH))
        tell("learning classes", number + 1, len(classes))
    return heads


def classes_of(heads: dict[str, tuple[Array, Array, float]], design: Design, rows: Rows) -> list[str]:
    """The class of each row by these heads."""
    if not heads:
        return [GENERAL] * len(rows)
    asked = design.matrix[rows]
    scores = [asked @ np.concatenate([bag, surface / SURFACE_WEIGHT]) + bias for bag, surface, bias in heads.values()]
    names = list(heads)
    return [names[best] for best in np.argmax(scores, axis=0).tolist()]


def _counted(tell: Progress, number: int, folds: int, done: int, steps: int) -> None:
    """Steps of one fold, as steps of all."""
    tell("judging each fold by what the others teach", number * steps + done, folds * steps)


def _silent(_what: str, _done: int, _all: int) -> None:
    """No progress is wanted."""
