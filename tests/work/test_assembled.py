"""Chunks of a stream make the body that would have come whole."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.work.assembled import MOST_PARTS, Assembly, BadChunk
from router.work.inflate import TooLarge


def assembled(*chunks, chat=True, limit=100_000):
    assembly = Assembly(chat=chat, limit_bytes=limit)
    for chunk in chunks:
        assembly.add(chunk)
    return assembly


def delta(index=0, reason=None, **fields):
    return {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1",
            "choices": [{"index": index, "delta": fields, "finish_reason": reason, "logprobs": None}], "usage": None}  # fmt: skip


def test_text_usage_and_head_become_one_body():
    body = assembled(
        delta(role="assistant", content=""),
        delta(content="Hel"),
        delta(content="lo"),
        delta(reason="stop"),
        {"id": "c1", "model": "m-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    ).body()
    assert body == {
        "id": "c1", "object": "chat.completion", "created": 5, "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }  # fmt: skip


def test_tool_calls_are_told_apart_by_index_and_their_arguments_joined():
    assembly = assembled(
        delta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "now", "arguments": ""}}]),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "add", "arguments": '{"x"'}}]),
        delta(
            tool_calls=[{"index": 0, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": ": 1}"}}]
        ),
        delta(tool_calls=[{"index": 1, "id": "b", "function": {"name": "add", "arguments": ""}}]),  # said again
        delta(reason="tool_calls"),
    )
    message = assembly.body()["choices"][0]["message"]
    assert message == {
        "role": "assistant", "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
        ],
    }  # fmt: skip
    assert assembly.text == 'now{}add{"x": 1}'


def test_tool_calls_without_an_index_go_by_their_id():
    body = assembled(
        delta(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": "1"}}]),
        delta(tool_calls=[{"function": {"arguments": "2"}}]),
        delta(tool_calls=[{"id": "b", "function": {"name": "g", "arguments": "3"}}]),
    ).body()
    calls = body["choices"][0]["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ["12", "3"]


def test_several_choices_and_their_log_probabilities():
    def token(index, text, reason=None):
        chunk = delta(index, reason, content=text)
        chunk["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": -0.1}], "refusal": None}
        return chunk

    assembly = assembled(token(1, "x"), token(0, "a"), token(1, "y", "stop"), token(0, "b"))
    assert not assembly.finished(2)
    assembly.add(delta(0, "length"))
    assert assembly.finished(2)
    assert not assembly.finished(3)
    first, second = assembly.body()["choices"]
    assert (first["message"]["content"], first["finish_reason"]) == ("ab", "length")
    assert [one["token"] for one in second["logprobs"]["content"]] == ["x", "y"]


def test_reasoning_refusals_and_old_function_calls_are_kept():
    body = assembled(
        delta(reasoning_content="be"), delta(reasoning_content="cause"), delta(refusal="No"),
        delta(function_call={"name": "f", "arguments": "{"}), delta(function_call={"arguments": "}"}),
    ).body()  # fmt: skip
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["refusal"]) == ("because", "No")
    assert message["function_call"] == {"name": "f", "arguments": "{}"}


def test_completions_have_text():
    chunks = [
        {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}
        for text, reason in [("a", None), ("b", "stop")]
    ]
    body = assembled(*chunks, chat=False).body()
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "ab", "logprobs": None, "finish_reason": "stop"}]


@pytest.mark.parametrize(
    ("chunk", "fresh"),
    [
        (delta(role="assistant", content=""), False),
        (delta(content=None), False),
        ({"choices": [], "usage": {"prompt_tokens": 1}}, False),
        ({"model": "m"}, False),
        (delta(content="a"), True),
        (delta(reasoning="a"), True),
        (delta(reason="stop"), True),
        (delta(tool_calls=[{"index": 0, "id": "a"}]), True),
    ],
)
def test_what_counts_as_a_token(chunk, fresh):
    assert Assembly(chat=True, limit_bytes=1000).add(chunk) is fresh


def deep(levels):
    found = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    "chunk",
    [
        [], 3, None, "x", {"choices": 3}, {"choices": [3]}, {"choices": [None]}, {"choices": [{"index": -1}]},
        {"choices": [{"index": True}]}, {"choices": [{"index": MOST_PARTS}]}, {"choices": [{"index": 10**30}]},
        {"choices": [{"index": "0"}]}, delta(tool_calls=[3]), delta(tool_calls=[{"index": 1e9}]), {"choices": [{"delta": 3}]},
        delta(x=deep(500)), {"x": deep(500)},
    ],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(chunk):
    with pytest.raises(BadChunk):
        assembled(chunk)


@pytest.mark.parametrize(
    "new",
    [
        lambda n: delta(content="x" * 10),
        lambda n: delta(**{f"f{n}": "x"}),
        lambda n: delta(tool_calls=[{"index": 0, "function": {"arguments": "x" * 10}}]),
        lambda n: delta(tool_calls=[{"index": 0, f"f{n}": 1}]),
        lambda n: {"choices": [{"index": 0, "logprobs": {"content": [{"token": "x"}]}}]},
        lambda n: {"choices": [{"index": 0, f"f{n}": 1}]},
        lambda n: {f"f{n}": 1},
        lambda n: delta(list=[n]),
    ],
)
def test_what_is_kept_is_bounded(new):
    with pytest.raises(TooLarge):
        assembled(*map(new, range(1000)), limit=1000)


def test_what_each_chunk_repeats_takes_no_room():
    same = {
        "choices": [{"index": 0, "delta": {"content": "x"}, "content_filter_results": {"hate": {"filtered": False}}}]
    }
    padded = [{**same, "service_tier": "default", "obfuscation": "y" * n} for n in range(500)]
    assert len(assembled(*padded, limit=2000).text) == 500


NAMES = ["index", "id", "function", "custom", "arguments", "name", "delta", "tool_calls", "function_call", "content"]
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*NAMES, "logprobs", "finish_reason", "text", "role"]), inner, max_size=4)
    ),
)


@settings(max_examples=60)
@given(st.lists(st.fixed_dictionaries({"choices": st.lists(JSON, max_size=2)}), max_size=6), st.booleans())
def test_whatever_comes_is_a_body_or_refused(chunks, chat):
    try:
        assembly = assembled(*chunks, chat=chat)
    except BadChunk:
        return
    assert isinstance(assembly.body()["choices"], list)
    assert isinstance(assembly.text, str)


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20))
def test_pieces_joined_are_the_text(pieces):
    assert assembled(*(delta(content=piece) for piece in pieces)).body()["choices"][0]["message"]["content"] == "".join(
        pieces
    )
