"""What was usual among the rows: kept with the classifier, checked when it is read, and asked in one sweep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.core.artefact import Artefact, ArtefactError
from router.core.classify import Classifier, Seen
from router.core.features import SURFACE
from router.core.tokens import read
from router.core.usual import LEAST_ROWS, Usual, usual_of
from tests.core.classifiers import INTEGRALS

RANDOM = np.random.default_rng(4)
N = 900


@pytest.fixture(scope="module")
def found():
    """Three classes, of which one is too rare to say anything; ``dull`` has the same p_ok everywhere."""
    classes = ["math"] * 500 + ["other"] * (N - 500 - LEAST_ROWS + 1) + ["rare"] * (LEAST_ROWS - 1)
    p_ok = {"small": RANDOM.random(N), "dull": np.full(N, 0.5)}
    return usual_of(classes, p_ok, RANDOM.normal(size=(N, len(SURFACE))))


def test_bins_hold_about_as_many_rows_each_and_a_twentieth_of_the_rows_is_far(found):
    assert set(found) == {"math", "other"}
    counts = found["math"].spread["small"].counts
    assert len(counts) == 10
    assert sum(counts) == 500
    assert max(counts) - min(counts) <= 2
    assert found["math"].far == 24
    assert found["math"].spread["dull"].counts == (500,)


def test_a_bin_begins_at_its_edge(found):
    spread = found["math"].spread["small"]
    assert spread.bin_of(spread.edges[0]) == 1
    assert spread.bin_of(0.0) == 0
    assert spread.bin_of(1.0) == len(spread.edges)


def test_it_travels_with_the_classifier_and_without_it_the_version_stays(found):
    with_it = replace(INTEGRALS, usual=found)
    back = Artefact.from_bytes(with_it.to_bytes())
    assert back.usual == found
    assert back.version == with_it.version != INTEGRALS.version
    assert Artefact.from_bytes(INTEGRALS.to_bytes()).usual == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"centroid": [0.0]},
        {"reach": float("nan")},
        {"far": 501},
        {"far": -1},
        {"spread": {"small": [[0.5, 0.5], [1, 2, 3]]}},
        {"spread": {"small": [[0.5], [1, 2, 3]]}},
        {"spread": {"small": [[0.5], [-1, 501]]}},
        {"spread": {}},
        {"spread": 3},
    ],
)
def test_what_does_not_fit_is_refused(found, changed):
    class Odd(Usual):
        def dump(self):
            return found["math"].dump() | changed

    one = found["math"]
    odd = Odd(one.spread, one.centroid, one.reach, one.far)
    with pytest.raises(ArtefactError, match="description does not fit"):
        Artefact.from_bytes(replace(INTEGRALS, usual={"math": odd}).to_bytes())


def test_far_is_who_lies_beyond_the_reach_of_the_class_that_was_learned_and_nobody_in_an_unknown_one():
    def of(reach):
        surface = {
            "small": usual_of(["math"] * 300, {"small": RANDOM.random(300)}, np.zeros((300, len(SURFACE))))[
                "math"
            ].spread["small"]
        }
        return Usual(surface, (0.0,) * len(SURFACE), reach, 15)

    asked = [Seen(text, read(text)[1]) for text in ("the integral of x", "a word or two")]
    near, far = (Classifier([], INTEGRALS.heads, {"math": of(reach)}).classify(asked) for reach in (1e9, 0.0))
    assert [one.learned for one in far] == ["math", "other"]
    assert [one.far for one in near] == [False, False]
    assert [one.far for one in far] == [True, False]
