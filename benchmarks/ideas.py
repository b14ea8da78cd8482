"""What else a classifier could be: each idea beside ours, by nested cross-validation on the same folds.

    python benchmarks/ideas.py --answers FILE [--draws-of-folds 3] [--only TEXT] [--json]

FILE: rows of ``docs/classifier.md``. An idea is a set of candidates, of which inner folds choose one by log loss (as ours chooses its
shrinking), and what becomes of its scores. Neither sees the outer fold that it is judged by. Differences to ours are paired: the same
resampled rows, the mean over all draws of folds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.core.calibration import expected_calibration_error, platt, sigmoid
from router.core.features import BITS, Features, features_of
from router.core.routing_curve import Ranked
from router.core.words import words_of
from router.train.fit import STRENGTHS, SURFACE_WEIGHT, Design, regression, split
from router.train.measure import figure, qualities_of, resample
from router.train.rows import Row, read_rows

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

FOLDS, DRAWS = 5, 1000
_ODD = tuple(
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xCF1BBCDCB7A56463, 0xA0761D6478BD642F)
)
CAVEATS = [
    "intervals are of a bootstrap over rows, of predictions as they are: what another fit would say is in them only by the draws of folds"
]


@dataclass(frozen=True)
class Bag:
    """How words become numbers. ``runs``: lengths of runs of neighbouring words that count."""

    bits: int = BITS
    runs: tuple[int, ...] = (1, 2)
    surface: float = SURFACE_WEIGHT
    products: bool = False


@dataclass(frozen=True)
class Idea:
    """``bags`` x ``strengths``: candidates. ``scores``: of the chosen one into p_ok, by what inner folds showed."""

    name: str
    bags: Sequence[Bag] = (Bag(),)
    strengths: Sequence[float] = STRENGTHS
    finish: str = "platt"
    take: str = "least log loss"


IDEAS = (
    Idea("ours"),
    Idea("words alone", bags=[Bag(runs=(1,))]),
    Idea("words, with or without pairs, as inner folds choose", bags=[Bag(), Bag(runs=(1,))]),
    Idea("words, pairs and triples", bags=[Bag(runs=(1, 2, 3))]),
    Idea("2^14, 2^17 or 2^20 numbers, as inner folds choose", bags=[Bag(bits=bits) for bits in (14, 17, 20)]),
    Idea("2^14 numbers", bags=[Bag(bits=14)]),
    Idea("2^20 numbers", bags=[Bag(bits=20)]),
    Idea(
        "surface weighs .03, .1, .3 or 1, as inner folds choose",
        bags=[Bag(surface=each) for each in (0.03, 0.1, 0.3, 1.0)],
    ),
    Idea("squares and products of the surface beside it", bags=[Bag(products=True)]),
    Idea("twelve strengths of shrinking in place of four", strengths=np.geomspace(0.03, 10.0, 12).tolist()),
    Idea("each model its own shrinking", take="each its own"),
    Idea("mean of two strengths, 0.3 and 3", strengths=(0.3, 3.0), take="mean"),
    Idea("mean of all four strengths", take="mean"),
    Idea("shrinking by inner APGR in place of log loss", take="most APGR"),
    Idea("all heads' scores into each p_ok (stacked)", finish="stacked"),
    Idea("all heads' scores and the surface into each p_ok", finish="stacked with surface"),
    Idea("isotonic in place of slope and intercept", finish="isotonic"),
    Idea("mean of five heads, each of a resample of the rows (bagged)", take="bagged"),
)


@dataclass
class Data:
    """Rows, and matrices of them as they are asked for."""

    rows: Sequence[Row]
    _bags: dict[Bag, Any] = field(default_factory=dict)

    @cached_property
    def texts(self) -> list[str]:
        return [row.prompt.last_user_text for row in self.rows]

    @cached_property
    def quality(self) -> Array:
        known = qualities_of(self.rows)
        return np.column_stack([known.quality[model] for model in known.models])

    @cached_property
    def pair(self) -> tuple[int, int]:
        known = qualities_of(self.rows)
        strong, cheap = known.pair(None, None)
        return known.models.index(strong), known.models.index(cheap)

    @cached_property
    def ids(self) -> list[Any]:
        return [row.prompt.read()[1] for row in self.rows]

    @cached_property
    def features(self) -> Features:
        return features_of(self.ids)

    def words(self, bag: Bag) -> Any:
        """(n, 2^bits), each number once in a row, 1 / sqrt of how many there are."""
        if bag not in self._bags:
            self._bags[bag] = self._matrix(bag)
        return self._bags[bag]

    def _matrix(self, bag: Bag) -> Any:
        from scipy import sparse  # noqa: PLC0415 - as in ``train``

        counts = np.fromiter(map(len, self.ids), np.int64, len(self.ids))
        words = words_of(np.concatenate(self.ids), counts)
        keys = []
        for run in bag.runs:
            whole = len(words.text) - run + 1
            hashes = np.zeros(whole, np.uint64)
            for at in range(run):
                hashes ^= words.hashes[at : at + whole] * (_ODD[at + 1] if run > 1 else np.uint64(1))
            together = words.text[:whole] == words.text[run - 1 :]
            number = (hashes * _ODD[0]) >> np.uint64(64 - bag.bits)
            keys.append(words.text[:whole][together] << bag.bits | number[together].astype(np.int64))
        found = np.unique(np.concatenate(keys))
        rows, columns = found >> bag.bits, found & (2**bag.bits - 1)
        sizes = np.bincount(rows, minlength=len(self.ids))
        weights = 1.0 / np.sqrt(sizes[rows])
        return sparse.csr_matrix((weights, (rows, columns)), shape=(len(self.ids), 2**bag.bits))

    def surface(self, known: Rows) -> Array:
        """Standardised by the known rows, and bounded as heads bound it."""
        return np.asarray(Design(self.features, known).matrix[:, 2**BITS :].todense()) / SURFACE_WEIGHT

    def matrix(self, bag: Bag, known: Rows) -> Any:
        from scipy import sparse  # noqa: PLC0415 - as in ``train``

        surface = self.surface(known)
        if bag.products:
            one, other = np.triu_indices(surface.shape[1])
            both = surface[:, one] * surface[:, other]
            both = (both - both[known].mean(axis=0)) / np.maximum(both[known].std(axis=0), 0.05)
            surface = np.hstack([surface, np.clip(both, -4.0, 4.0)])
        return sparse.hstack([self.words(bag), sparse.csr_matrix(surface * bag.surface)]).tocsr()


def judged(idea: Idea, data: Data, seed: int) -> Array:
    """Nested p_ok of all rows (n, models)."""
    said = np.zeros_like(data.quality)
    for known, asked in split(data.texts, FOLDS, seed):
        said[asked] = said_of(idea, data, known, asked, seed)
    return said


def said_of(idea: Idea, data: Data, known: Rows, asked: Rows, seed: int) -> Array:
    """The idea's whole procedure on the known rows, then on those that are asked."""
    parts = [(known[some], known[left]) for some, left in split([data.texts[at] for at in known], FOLDS, seed)]
    matrices = [data.matrix(bag, known) for bag in idea.bags]
    fitting = bagged if idea.take == "bagged" else plain
    tried = list(product(range(len(matrices)), idea.strengths))
    inner = np.zeros((len(tried), *data.quality.shape))
    for at, (matrix, strength) in enumerate(tried):
        for some, left in parts:
            inner[at, left] = fitting(matrices[matrix], data.quality, some, left, strength)

    def outer(at: int) -> Array:
        matrix, strength = tried[at]
        return fitting(matrices[matrix], data.quality, known, asked, strength)

    models = range(data.quality.shape[1])
    truth = data.quality[known]
    if idea.take == "mean":
        found, asked_scores = inner.mean(axis=0), np.mean([outer(at) for at in range(len(tried))], axis=0)
    elif idea.take == "each its own":
        best = [int(np.argmin([log_loss(one[known, m], truth[:, m]) for one in inner])) for m in models]
        found = np.column_stack([inner[best[m], :, m] for m in models])
        asked_scores = np.column_stack([outer(best[m])[:, m] for m in models])
    else:
        chosen = int(np.argmin([badness(idea, one[known], truth, data.pair) for one in inner]))
        found, asked_scores = inner[chosen], outer(chosen)
    surface = data.surface(known)
    return finished(idea.finish, found[known], truth, asked_scores, (surface[known], surface[asked]))


def badness(idea: Idea, scores: Array, truth: Array, pair: tuple[int, int]) -> float:
    if idea.take == "most APGR":
        strong, cheap = pair
        p = sigmoid(scores)
        return -Ranked.by(p[:, strong] - p[:, cheap], truth[:, strong], truth[:, cheap]).curve().apgr
    return log_loss(scores, truth)


def log_loss(scores: Array, truth: Array) -> float:
    p = np.clip(sigmoid(scores), 1e-6, 1 - 1e-6)
    return -float((truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


def plain(matrix: Any, quality: Array, some: Rows, left: Rows, strength: float) -> Array:
    """Logits (left, models)."""
    heads = [regression(matrix[some], quality[some, at], strength) for at in range(quality.shape[1])]
    return np.column_stack([matrix[left] @ weights + bias for weights, bias in heads])


def bagged(matrix: Any, quality: Array, some: Rows, left: Rows, strength: float) -> Array:
    draw = np.random.default_rng(len(some))
    return np.mean([plain(matrix, quality, draw.choice(some, len(some)), left, strength) for _ in range(5)], axis=0)


def finished(how: str, inner: Array, truth: Array, scores: Array, surfaces: tuple[Array, Array]) -> Array:
    """p_ok (asked, models) of ``scores``, by what ``inner`` ones of the known rows were worth; ``surfaces`` of both."""
    found = []
    for at in range(truth.shape[1]):
        if how == "isotonic":
            from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - as in ``train``

            fitted = IsotonicRegression(y_min=0.001, y_max=0.999, out_of_bounds="clip").fit(inner[:, at], truth[:, at])
            found.append(fitted.predict(scores[:, at]))
        elif how.startswith("stacked"):
            ours, theirs = inner, scores
            if how == "stacked with surface":
                ours, theirs = np.hstack([inner, surfaces[0]]), np.hstack([scores, surfaces[1]])
            from scipy import sparse  # noqa: PLC0415 - as in ``train``

            weights, bias = regression(sparse.csr_matrix(ours), truth[:, at], 1.0)
            found.append(sigmoid(theirs @ weights + bias))
        else:
            slope, intercept = platt(inner[:, at], truth[:, at])
            found.append(sigmoid(slope * scores[:, at] + intercept))
    return np.column_stack(found)


def measure(file: Path, *, draws_of_folds: int, only: str) -> Report:
    report = Report("ideas", caveats=CAVEATS)
    data = Data(read_rows([file]))
    strong, cheap = data.pair
    ideas = [idea for idea in IDEAS if idea is IDEAS[0] or only in idea.name]
    ranked: dict[str, list[Ranked]] = {}
    for idea in ideas:
        said = [judged(idea, data, seed) for seed in range(draws_of_folds)]
        ranked[idea.name] = [
            Ranked.by(p[:, strong] - p[:, cheap], data.quality[:, strong], data.quality[:, cheap]) for p in said
        ]
        errors = [expected_calibration_error(p[:, at], data.quality[:, at]) for p in said for at in (cheap, strong)]
        report.details[idea.name] = {"ece": round(float(np.mean(errors)), 4)}
        print(f"{idea.name} ...", file=sys.stderr, flush=True)
    drawn: dict[str, list[float]] = {idea.name: [] for idea in ideas}

    def ask(weights: Array) -> None:
        for name, each in ranked.items():
            drawn[name].append(float(np.mean([one.curve(weights).apgr for one in each])))

    resample(len(data.rows), ask, draws=DRAWS, seed=0)
    ours = ideas[0].name
    for name, apgr in means(ranked):
        difference = figure(apgr - dict(means(ranked))[ours], np.array(drawn[name]) - np.array(drawn[ours]))
        report.details[name] |= {"apgr": round(apgr, 4), "less_ours": str(difference)}
        unit = "" if name == ours else f"{difference} to ours"
        report.add(f"{name}: APGR", round(apgr, 4), f"{unit}, ECE {report.details[name]['ece']:.3f}".lstrip(", "))
    return report


def means(ranked: dict[str, list[Ranked]]) -> Iterator[tuple[str, float]]:
    for name, each in ranked.items():
        yield name, float(np.mean([one.curve().apgr for one in each]))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--draws-of-folds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT", help="ideas with it in their name, and ours")
    asked = parser.parse_args()
    finish(measure(asked.answers, draws_of_folds=asked.draws_of_folds, only=asked.only), asked.json)


if __name__ == "__main__":
    main()
