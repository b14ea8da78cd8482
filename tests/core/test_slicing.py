"""The slices of a request: a few names, whatever it says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.slicing import FAR, LANGUAGES, LOOKED_AT_CHARS, VOCABULARY, known, language_of, slices_of

TEXTS = {
    "How do I sort a list?": "latin",
    "¿Dónde está mi pedido?": "latin",
    "Thời tiết hôm nay thế nào": "latin",
    "Где мой заказ?": "cyrillic",
    "Πού είναι η παραγγελία μου;": "greek",
    "היכן ההזמנה שלי?": "hebrew",
    "أين طلبي؟": "arabic",
    "मेरा ऑर्डर कहाँ है?": "devanagari",
    "คำสั่งซื้อของฉันอยู่ที่ไหน": "thai",
    "今天北京的天气怎么样": "cjk",
    "東京の天気はどうですか。": "kana",
    "오늘 날씨가 어때요?": "hangul",
    "სად არის ჩემი შეკვეთა": "other",
    "আজ আবহাওয়া কেমন": "other",
    "1 + 1 = ?": "none",
    "😀 🎉 → 。「」": "none",
    "": "none",
    "\ud800\udfff": "none",
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_language_is_the_script_of_most_letters(text):
    assert language_of(text) == TEXTS[text]
    assert language_of(text * 500) == TEXTS[text]


def test_some_words_of_another_script_change_nothing():
    assert language_of("Напиши функцию на Python, которая сортирует список") == "cyrillic"
    assert language_of("What does the word привет mean, and when do people say it?") == "latin"
    assert language_of("请用 Python 写一个排序函数。并解释它的复杂度") == "cjk"


@pytest.mark.parametrize(
    ("tokens", "length"),
    [(0, "short"), (200, "short"), (201, "medium"), (1000, "medium"), (1001, "long"), (8000, "long"), (8001, "huge")],
)
def test_the_length_goes_by_fixed_edges(tokens, length):
    assert slices_of("a", tokens) == ("language=latin", f"length={length}")


@given(st.text(st.characters(codec=None), max_size=2 * LOOKED_AT_CHARS), st.integers(0, 10**9))
@example("\u3000" * 1000 + "\ud800", 1)
@example("\U0010ffff" * 5000, 0)
def test_whatever_is_said_the_names_are_of_the_vocabulary(text, tokens):
    found = slices_of(text, tokens)
    assert set(found) <= VOCABULARY
    assert found == slices_of(text, tokens)
    assert language_of(text) in LANGUAGES


def test_what_a_record_tells_is_taken_as_far_as_it_is_known():
    assert known(["length=short", "length=short", "tenant=evil", 7, None, FAR]) == ("length=short", FAR)
    assert known(None) == known("far=yes") == known({"far=yes": 1}) == ()
    assert len(VOCABULARY) < 20
