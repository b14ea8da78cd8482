"""Rephrasings change words, not questions; and always in the same way."""

import re

import pytest

from router.train.rephrase import REPHRASINGS, rephrased

TEXT = "A train leaves at noon. It is late. Which city does it reach first, and when?\nA. Paris\nB. Rome"


@pytest.mark.parametrize("name", REPHRASINGS)
def test_the_same_text_is_always_rephrased_alike(name):
    assert rephrased(TEXT, name) == rephrased(TEXT, name)


@pytest.mark.parametrize("name", REPHRASINGS)
@pytest.mark.parametrize("text", ["", " ", "x", "?", "\n\n", "a" * 5000, "Ω" * 50])
def test_no_text_is_an_error(name, text):
    assert isinstance(rephrased(text, name), str)


@pytest.mark.parametrize("name", ["filler", "politeness", "order"])
def test_all_words_of_the_question_are_still_there(name):
    said = set(re.findall(r"\w+", rephrased(TEXT, name)))
    assert set(re.findall(r"\w+", TEXT)) <= said


def test_options_below_the_question_stay_where_they_are():
    for seed in range(10):
        assert rephrased(TEXT, "order", seed).endswith("\nA. Paris\nB. Rome")


def test_case_alone_changes_case():
    assert rephrased(TEXT, "case").lower() == TEXT.lower()


def test_typos_keep_all_letters():
    long = "Considering everything carefully, whether interesting observations matter. " * 20
    changed = rephrased(long, "typos")
    assert changed != long
    assert sorted(changed) == sorted(long)
