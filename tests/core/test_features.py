"""What a classifier sees of a prompt."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router.core.features import BITS, SURFACE, features_of
from router.core.tokens import read


def features(*texts):
    return features_of([read(text)[1] for text in texts])


def bag(found, number):
    return set(found.numbers[found.starts[number] : found.starts[number + 1]].tolist())


@given(st.lists(st.text(max_size=60), max_size=5))
def test_a_prompt_is_seen_alike_alone_and_in_a_batch(texts):
    together = features(*texts)
    assert together.surface.shape == (len(texts), len(SURFACE))
    for number, text in enumerate(texts):
        alone = features(text)
        assert bag(together, number) == bag(alone, 0)
        assert np.allclose(together.surface[number], alone.surface[0])


@given(st.text(max_size=200))
def test_every_number_is_in_range_once_and_every_figure_is_one(text):
    found = features(text)
    assert len(set(found.numbers.tolist())) == len(found.numbers)
    assert all(0 <= number < 2**BITS for number in found.numbers)
    assert np.isfinite(found.surface).all()


def test_order_matters_for_pairs_alone():
    one, other = features("man bites dog"), features("dog bites man")
    assert len(bag(one, 0) & bag(other, 0)) == 3
    assert len(bag(one, 0) | bag(other, 0)) == 7


def test_shouting_looks_like_talking():
    found = features("Explain the second law of thermodynamics", "EXPLAIN THE SECOND LAW OF THERMODYNAMICS")
    assert bag(found, 0) == bag(found, 1)
    assert np.allclose(found.surface[0], found.surface[1])


def test_the_surface_shows_what_its_names_say():
    found = features("What is 2 + 2?", "One line\nand a second one\nand a third")
    shown = [dict(zip(SURFACE, row, strict=True)) for row in found.surface]
    assert shown[0]["questions_a_word"] > 0 < shown[0]["maths_a_word"]
    assert shown[1]["questions_a_word"] == 0 == shown[1]["digits_a_word"]
    assert shown[1]["log_lines"] == np.log1p(3)
    assert shown[1]["log_first_line"] == np.log1p(2)
    assert shown[0]["log_lines"] == np.log1p(1)
