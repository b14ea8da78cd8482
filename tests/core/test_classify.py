import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.classify import GENERAL, Classification, Classifier, Rule, Seen
from router.core.prompt import MESSAGE_TOKENS, read_body
from router.core.strata import OTHER, GainBands, Strata, TokenBands
from router.core.tokens import count, o200k_base

RULES = [Rule("math", ("integral", "sum")), Rule("code", ("python", "```", "C++"))]
CLASSIFIER = Classifier(RULES)
BANDS = TokenBands([("easy", 200), ("hard", None)])


def class_of(text):
    (found,) = CLASSIFIER.classify([Seen(text, [])])
    return found.task_class


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the INTEGRAL of x?", "math"),
        ("two sums", "math"),
        ("I assume nothing", GENERAL),
        ("assume the sum", "math"),
        ("x```y", "code"),
        ("modern c++ please", "code"),
        ("a sum in python", "math"),
        ("", GENERAL),
    ],
)
def test_the_first_rule_with_a_word_at_the_start_of_a_word_wins(text, expected):
    assert class_of(text) == expected


def test_of_a_long_message_both_ends_are_looked_at():
    filler = "x " * 100_000
    assert class_of("integral " + filler) == class_of(filler + " integral") == "math"
    assert class_of(filler + " integral " + filler) == GENERAL


def test_a_stratum_is_class_and_band():
    strata = Strata(CLASSIFIER.classes, BANDS)
    assert strata.of(Classification("math"), 200) == "math/easy"
    assert strata.of(Classification("math"), 201) == "math/hard"
    assert strata.of(Classification(GENERAL), 10**9) == "general/hard"
    assert strata.of(Classification("unheard"), 1) == OTHER


def test_a_band_of_the_gain_says_how_much_better_the_baseline_would_be():
    strata = Strata(["math"], GainBands("large", "small", [0.05, 0.2]))
    assert strata.names == ("math/easy", "math/medium", "math/hard", OTHER)
    found = [
        strata.of(Classification("math", {"small": small, "large": 0.9}), 10**6) for small in (0.95, 0.86, 0.8, 0.1)
    ]
    assert found == ["math/easy", "math/easy", "math/medium", "math/hard"]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 5))
def test_there_are_never_more_than_128_strata(classes, bands):
    limits = [(f"b{i}", 100 * (i + 1)) for i in range(bands - 1)] + [("last", None)]
    strata = Strata([f"c{i}" for i in range(classes)], TokenBands(limits))
    seen = {strata.of(Classification(f"c{i}"), tokens) for i in range(classes) for tokens in (1, 150, 10_000)}
    assert len(strata.names) <= 128
    assert seen <= set(strata.names)


def test_a_chat_is_read():
    prompt = read_body(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "first"},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]},
            ],
            "tools": [{"type": "function"}],
            "response_format": {"type": "json_schema"},
            "logprobs": True,
            "max_tokens": 50,
            "max_completion_tokens": 40,
            "n": 2,
        }
    )
    assert prompt.last_user_text == "look"
    assert prompt.needs == ("images", "json_schema", "logprobs", "tools")
    assert (prompt.completion_limit, prompt.answers, prompt.images) == (40, 2, 1)
    assert prompt.tokens().estimated


def test_tokens_of_a_chat_are_those_of_its_texts_and_frames():
    body = {"messages": [{"role": "user", "content": "Hello, world"}]}
    assert read_body(body).tokens().tokens == count("Hello, world").tokens + MESSAGE_TOKENS + 3


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"input": "Hello, world"}, 3),
        ({"input": ["Hello, world", "Hello, world"]}, 6),
        ({"input": [1, 2, 3]}, 3),
        ({"input": [[1, 2], [3]]}, 3),
        ({"prompt": "Hello, world"}, 3),
        ({"input": "Hello, world", "instructions": "Hello, world"}, 6),
    ],
)
def test_other_endpoints_are_read(body, tokens):
    assert read_body(body).tokens().tokens == tokens


def test_a_hundred_thousand_messages_are_counted_at_once():
    prompt = read_body({"messages": [{"role": "user", "content": "a"}] * 100_000})
    found = prompt.tokens(exact=True)
    assert found.estimated
    assert found.tokens >= 100_000 * (MESSAGE_TOKENS + 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "messages",
    "input",
    "prompt",
    "tools",
    "response_format",
    "text",
    "n",
    "max_tokens",
    "instructions",
    "role",
    "content",
]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(NAMES), json_values | st.lists(st.dictionaries(st.sampled_from(NAMES), json_values))
    )
)
def test_no_body_is_unreadable(body):
    prompt = read_body({key: value for key, value in body.items() if not _too_long(value)})
    tokens, ids = prompt.read()
    assert tokens.tokens >= 0
    CLASSIFIER.classify([Seen(prompt.last_user_text, ids)])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hello, world"}],
        [{"role": "system", "content": "Be brief. " * 900}, {"role": "user", "content": "Hello, world"}],
        [{"role": "user", "content": "Hello, world"}, {"role": "assistant", "content": "What is it?"}],
        [{"role": "system", "content": "no"}] * 50 + [{"role": "user", "content": "Hello, world"}],
    ],
    ids=["alone", "behind a long one", "before an answer", "behind many"],
)
def test_the_ids_are_those_of_the_last_user_message_whatever_is_around_it(messages):
    prompt = read_body({"messages": messages})
    tokens, ids = prompt.read()
    assert ids.tolist() == o200k_base().encode_ordinary("Hello, world")
    assert tokens.tokens == pytest.approx(prompt.tokens().tokens, rel=0.1)


def test_parts_of_a_message_are_read_in_their_order():
    parts = [{"type": "text", "text": text} for text in ("first", "second")]
    prompt = read_body({"messages": [{"role": "user", "content": parts}]})
    assert prompt.last_user_text == "first\nsecond"
    assert o200k_base().decode(prompt.read()[1].tolist()) == "firstsecond"


def test_of_many_parts_the_ids_are_of_both_ends():
    parts = [{"type": "text", "text": f"part {number}"} for number in range(1000)]
    tokens, ids = read_body({"messages": [{"role": "user", "content": parts}]}).read()
    said = o200k_base().decode(ids.tolist())
    assert said.startswith("part 0")
    assert said.endswith("part 999")
    assert tokens.estimated


def _too_long(value):
    """Whole numbers beyond 64 bits: the codec reads no such record."""
    if isinstance(value, int):
        return abs(value) >= 2**63
    if isinstance(value, list):
        return any(map(_too_long, value))
    return isinstance(value, dict) and any(map(_too_long, value.values()))


@pytest.mark.parametrize(
    "contents",
    [
        ["hello"],
        ["word " * 400],
        ["ä" * 1_700, "word " * 30_000],
        [" " * 50_000],
        ["\ud800" * 5_000],
        [["one ", {"type": "text", "text": "word " * 9_000}, {"type": "text", "text": "end"}]],
        [[{"type": "text", "text": f"part {number} " * 40} for number in range(50)]],
        [],
    ],
)
def test_what_is_looked_at_is_the_same_where_the_count_is_known(contents):
    prompt = read_body({"messages": [{"role": "user", "content": content} for content in contents]})
    assert np.array_equal(prompt.looked_at(), prompt.read()[1])
