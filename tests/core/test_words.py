"""Words are put together from tokens as one would read them, whatever the case."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.lexicon import SHOWS, counted, lexicon, polynomials
from router.core.tokens import RANKS, o200k_base
from router.core.words import words_of


def hashes(*texts):
    """One array of hashes a text."""
    tokens = [o200k_base().encode_ordinary(text) for text in texts]
    counts = np.array([len(each) for each in tokens], np.int64)
    found = words_of(np.array([token for each in tokens for token in each], np.int64), counts)
    return [found.hashes[found.text == number].tolist() for number in range(len(texts))]


def spelled(text):
    """What a regular expression takes for words, hashed."""
    words = [word.encode() for word in re.findall(r"\w+", text.lower()) if len(word.encode()) > 1]
    return polynomials(words, lexicon().powers).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "Why does my invoice show two charges?",
        "  spaces\n\n and\ttabs,commas;and(brackets)",
        "antidisestablishmentarianism 1234567 words",
        "der Vertrag über größere Mengen",
        "snake_case and CamelCase and http://example.org/a/b",
    ],
)
def test_words_are_those_that_one_reads(text):
    assert hashes(text)[0] == spelled(text)


@given(st.text(alphabet="abcdefghijklmnop ABCDEFG,.\n12", max_size=80))
def test_case_makes_no_difference(text):
    assert hashes(text.upper())[0] == hashes(text.lower())[0] == spelled(text)


@given(st.lists(st.text(max_size=40), max_size=6))
def test_texts_do_not_see_each_other(texts):
    assert hashes(*texts) == [hashes(text)[0] for text in texts]


def test_contractions_leave_the_word_before_them():
    assert hashes("it's the dog's, isn't it")[0] == spelled("it the dog isn it")


def test_a_token_shows_what_its_own_text_does_whatever_its_neighbours():
    shows = {
        "digits": lambda text: any(c.isdigit() for c in text),
        "marks": lambda text: not any(c.isalnum() or c.isspace() for c in text),
        "lines": lambda text: "\n" in text,
        "code": lambda text: bool(set("{};`()_[]") & set(text)),
        "foreign": lambda text: not text.isascii(),
        "negations": lambda text: text.strip().lower() in {"not", "except", "never", "false", "no", "least", "without"},
    }
    found = counted(lexicon().kinds)
    texts = [o200k_base().decode([token]) for token in range(RANKS)]
    for name, show in shows.items():
        expected = np.array([show(text) for text in texts])
        assert 0 < expected.sum() < RANKS
        assert np.array_equal(found[:RANKS, list(SHOWS).index(name)], expected), name
    assert not found[RANKS:].any()
