"""Usage is believed only when it can be true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.records import Usage
from router.core.usage import MAX_TOKENS, read_usage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")


def test_reads_all_counts_of_a_full_usage():
    found = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert read_usage(found) == Usage(
        prompt_tokens=100, completion_tokens=50, cached_tokens=60, cache_write_tokens=20, reasoning_tokens=30
    )


@pytest.mark.parametrize("found", [None, [], "12", 3, {}, {"prompt_tokens": "12"}, {"prompt_tokens": True}])
def test_absent_or_odd_usage_is_unknown(found):
    assert read_usage(found) is None


@pytest.mark.parametrize("wrong", [-1, 1.5, 10**30, float("inf"), float("nan"), None, "7", MAX_TOKENS + 1])
def test_a_wrong_count_makes_the_usage_unknown(wrong):
    assert read_usage({"prompt_tokens": 1, "completion_tokens": wrong}) is None


def test_embeddings_have_no_completion_tokens():
    assert read_usage({"prompt_tokens": 7, "total_tokens": 7}) == Usage(prompt_tokens=7)


def test_a_part_never_exceeds_its_whole():
    found = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 99, "cache_write_tokens": 99},
        "completion_tokens_details": {"reasoning_tokens": 99},
    }
    assert read_usage(found) == Usage(
        prompt_tokens=10, completion_tokens=5, cached_tokens=10, cache_write_tokens=0, reasoning_tokens=5
    )


def test_other_dialects_of_caching_are_understood():
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}).cached_tokens == 4
    written = read_usage({"prompt_tokens": 9, "completion_tokens": 1, "cache_creation_input_tokens": 4})
    assert written.cache_write_tokens == 4


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_json_gives_unknown_or_counts_that_can_be_priced(found):
    usage = read_usage(found)
    if usage is not None:
        assert 0 <= usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens <= MAX_TOKENS
        assert 0 <= usage.reasoning_tokens <= usage.completion_tokens <= MAX_TOKENS


def test_reads_the_dialect_of_responses():
    found = {
        "input_tokens": 100,
        "output_tokens": 20,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    assert read_usage(found) == Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=40, reasoning_tokens=5)
