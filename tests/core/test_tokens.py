import base64
import hashlib
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.core import tokens
from router.core.tokens import CHUNK_CHARS, END_CHARS, END_TOKENS, EXACT_BYTES, count, count_all, o200k_base, read

#: What tiktoken expects of the file that it downloads.
ORIGINAL_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"

PROSE = (
    "The quick brown fox, aged 42, jumps over 1,337 lazy dogs; they'd rather sleep.\n\nNon-ASCII: naïve café, 東京。"
)


def test_the_packed_ranks_are_the_original_file():
    ranks = tokens.unpack_ranks(tokens.packed_ranks())
    original = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    assert hashlib.sha256(original).hexdigest() == ORIGINAL_SHA256


def test_counts_what_is_known_of_o200k_base():
    assert o200k_base().encode_ordinary("Hello, world") == [13225, 11, 2375]
    assert count("Hello, world").tokens == 3
    assert count("").tokens == 0


def test_special_tokens_in_a_text_are_text():
    assert count("<|endoftext|>").tokens > 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(max_size=40) | st.sampled_from(["don't ", "1234567 ", "\r\n", "  ", "、", "HTTPServer."]), max_size=60
    )
)
@example([PROSE])
def test_cutting_changes_no_count_unless_flagged(parts):
    text = (" ".join(parts) + " ") * (1 + 4000 // (1 + sum(map(len, parts))))
    found = count(text, exact=True)
    if not found.estimated:
        assert found.tokens == len(o200k_base().encode_ordinary(text))


def test_ordinary_text_is_exact_up_to_the_limit():
    text = (PROSE * 1000).encode()[:EXACT_BYTES].decode(errors="ignore")
    assert count(text) == tokens.TokenCount(len(o200k_base().encode_ordinary(text)), estimated=False)


def test_reading_gives_the_ids_that_were_counted_as_far_as_they_are_looked_at():
    for size in (10, 2 * END_TOKENS, 2 * END_TOKENS + 1, EXACT_BYTES):
        text = (PROSE * 1000).encode()[:size].decode(errors="ignore")
        all_ids = o200k_base().encode_ordinary(text)
        found, ids = read(text)
        assert found == tokens.TokenCount(len(all_ids))
        looked_at = all_ids if len(all_ids) <= 2 * END_TOKENS else all_ids[:END_TOKENS] + all_ids[-END_TOKENS:]
        assert ids.tolist() == looked_at


def test_of_a_long_text_both_ends_are_read():
    text = "begin here " + "and so on, " * 10_000 + "end here"
    found, ids = read(text)
    said = o200k_base().decode(ids.tolist())
    assert found.estimated
    assert said.startswith("begin here")
    assert said.endswith("end here")
    assert abs(len(said) - 2 * END_CHARS) < 100


def test_long_text_is_sampled_and_flagged():
    text = "".join(random.Random(1).choice(PROSE.split()) + " " for _ in range(100_000))
    found, exact = count(text), count(text, exact=True)
    assert found.estimated
    assert not exact.estimated
    assert abs(found.tokens / exact.tokens - 1) < 0.08


HOSTILE = {
    "a million spaces": " " * 1_000_000,
    "a million spaces and a letter": " " * 1_000_000 + "x",
    "a million newlines": "\n" * 1_000_000,
    "one character": "a" * 1_000_000,
    "slashes and newlines": "/\n" * 500_000,
    "ideographs": "中" * 300_000,
    "combining marks": "a" + "\u0301" * 500_000,
    "zero bytes": "\0" * 1_000_000,
    "lone surrogates": "\ud800" * 300_000,
    "apostrophes": "'s" * 500_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("exact", [False, True], ids=["sampled", "whole"])
def test_no_text_makes_the_tokeniser_panic(text, exact):
    found = count(text, exact=exact)
    assert 0 < found.tokens <= len(text.encode("utf-8", "surrogatepass"))
    assert found.estimated


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_piece_given_to_the_tokeniser_is_long(text):
    assert max(len(chunk) for chunk, _ in tokens._chunks(text)) <= 2 * CHUNK_CHARS


def test_a_sum_over_texts_counts_each_apart():
    assert count_all(["New", " York"]).tokens == count("New").tokens + count(" York").tokens
    assert count_all(["a" * 10_000, "b"]).estimated
    assert count_all([]).tokens == 0
