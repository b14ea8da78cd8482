"""core/quantiles: one per cent off at most, and the same sketch whatever the order."""

import math
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core import quantiles
from router.core.quantiles import Sketch

VALUES = st.lists(st.integers(min_value=0, max_value=quantiles.MAX_VALUE), min_size=1, max_size=300)


def sketch_of(values) -> Sketch:
    sketch: Sketch = {}
    for value in values:
        quantiles.add(sketch, value)
    return sketch


@settings(deadline=None)
@given(VALUES, st.floats(min_value=0, max_value=1))
def test_every_quantile_is_within_one_per_cent(values, q):
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    estimate = quantiles.quantile(sketch_of(values), q)
    assert estimate == pytest.approx(exact, rel=quantiles.RELATIVE_ERROR + 1e-9)


@settings(deadline=None)
@given(VALUES, VALUES, VALUES)
def test_merging_is_associative_and_equals_counting_together(a, b, c):
    left, right = sketch_of(a), sketch_of(b)
    quantiles.merge(left, sketch_of(b))
    quantiles.merge(left, sketch_of(c))
    quantiles.merge(right, sketch_of(c))
    quantiles.merge(right, sketch_of(a))
    assert left == right == sketch_of(a + b + c)


@settings(deadline=None)
@given(VALUES)
def test_a_sketch_survives_json(values):
    sketch = sketch_of(values)
    assert quantiles.from_json(orjson.loads(orjson.dumps(quantiles.to_json(sketch)))) == sketch


def test_nothing_measured_has_no_quantile():
    assert quantiles.quantiles({}, (0.5, 0.95)) == [None, None]


def test_zero_negative_and_endless_values_are_counted_too():
    sketch = sketch_of([0, -5, 10**30])
    assert sum(sketch.values()) == 3
    assert quantiles.quantile(sketch, 0) == 0.0
    assert quantiles.quantile(sketch, 1) == pytest.approx(quantiles.MAX_VALUE, rel=0.011)


def test_a_sketch_of_a_million_latencies_stays_small():
    rng = random.Random(1)
    sketch = sketch_of(int(rng.lognormvariate(7, 2)) for _ in range(100_000))
    assert len(sketch) < 1_050
