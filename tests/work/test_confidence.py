"""How sure a worker is of an answer."""

import math
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.records import Checks, Work
from router.work.confidence import MAX_SCHEMA_BYTES, asked_with, judged
from router.work.provider import Answer

CHECKS = Checks(logprobs=True, refusal=True, length=True, json=True)
WORK = Work(
    request_id="1462af60e975e034dad89dbdd8b130e1",
    attempt=1,
    model="small",
    provider_model="small-1",
    url="/v1/chat/completions",
    body={"messages": []},
    deadline_at_ms=1,
    reason="routed",
    outcome_partition=0,
    slip="s",
    checks=CHECKS,
)


def answer(text="Paris.", *, logprobs=(-0.1, -0.3), finish="stop", **message):
    told = None if logprobs is None else {"content": [{"token": "x", "logprob": one} for one in logprobs]}
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish, "logprobs": told}
    return Answer(status="ok", body={"choices": [choice]})


def sure(found, *, checks=CHECKS, **body):
    return judged(replace(WORK, checks=checks, body=WORK.body | body), found).confidence


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities():
    assert sure(answer()) == pytest.approx(math.exp(-0.2))
    assert sure(answer(logprobs=[0.0])) == 1.0


def test_what_was_asked_for_the_check_alone_is_taken_out_again():
    assert asked_with(WORK, {"a": 1}) == {"a": 1, "logprobs": True}
    assert judged(WORK, answer()).body["choices"][0]["logprobs"] is None
    asks = replace(WORK, body={"logprobs": True})
    assert asked_with(asks, asks.body) is asks.body
    assert judged(asks, answer()).body["choices"][0]["logprobs"]["content"]
    assert asked_with(replace(WORK, checks=None), {}) == {}
    assert asked_with(replace(WORK, checks=replace(CHECKS, logprobs=False)), {}) == {}


def test_the_old_endpoint_tells_them_in_another_way():
    old = replace(WORK, url="/v1/completions")
    assert asked_with(old, {}) == {"logprobs": 1}
    body = {"choices": [{"text": "x", "finish_reason": "stop", "logprobs": {"token_logprobs": [None, -0.5]}}]}
    assert judged(old, Answer(status="ok", body=body)).confidence == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize("told", [None, (), ("x",), (0.5,), (float("nan"),), (True,), (-0.1, None)])
def test_where_nothing_is_told_nothing_is_known(told):
    assert sure(answer(logprobs=told)) is None


def test_without_checks_nothing_is_said():
    assert judged(replace(WORK, checks=None), answer()) == answer()
    assert sure(answer(logprobs=None), checks=Checks()) == 1.0
    failed = Answer(status="error")
    assert judged(WORK, failed) is failed


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I am unable to provide this information.",
        "As an AI language model, I cannot have opinions.",
        "Dabei kann ich leider nicht helfen.",
        "Je suis désolé, je ne peux pas vous aider.",
        "Lo siento, no puedo ayudar con eso.",
    ],
)
def test_a_refusal_is_no_answer(text):
    assert sure(answer(text)) == 0.0
    assert sure(answer(text), checks=replace(CHECKS, refusal=False)) > 0.5


@pytest.mark.parametrize("text", ["I'm sorry to hear that! Try a cold pack.", "You cannot divide by zero.", ""])
def test_what_only_sounds_like_one_is(text):
    assert sure(answer(text)) > 0.5


def test_the_api_may_say_that_it_refuses():
    assert sure(answer(None, refusal="I can't do this.")) == 0.0


def test_an_answer_cut_at_its_limit_fails_where_that_is_checked():
    assert sure(answer(finish="length")) == 0.0
    assert sure(answer(finish="length"), checks=replace(CHECKS, length=False)) > 0.5


SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}}}
WANTED = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("text", "wanted", "good"),
    [
        ('{"city": "Paris"}', WANTED, True),
        ('{"city": "paris"}', WANTED, False),
        ('{"town": "Paris"}', WANTED, False),
        ("Paris", WANTED, False),
        ('{"a": 1}', {"type": "json_object"}, True),
        ("[1]", {"type": "json_object"}, False),
        ("Paris", {"type": "text"}, True),
        ("Paris", None, True),
        ("Paris", "nonsense", True),
        ('{"a": 1}', {"type": "json_schema"}, True),
        ('{"a": 1}', {"type": "json_schema", "json_schema": {"schema": {"type": "nothing that is one"}}}, True),
    ],
)
def test_json_that_was_asked_for(text, wanted, good):
    assert (sure(answer(text), response_format=wanted) > 0.0) is good


def test_a_hostile_schema_fetches_nothing_takes_no_time_and_fails_nobody():
    away = {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:1/schema.json"}}}
    assert sure(answer("{}"), response_format=away) > 0.0
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    slow = {"type": "json_schema", "json_schema": {"schema": slow}}
    assert sure(answer(orjson.dumps({"a": "a" * 50_000 + "!"}).decode()), response_format=slow) == 0.0
    huge = {"type": "json_schema", "json_schema": {"schema": {"enum": ["x" * MAX_SCHEMA_BYTES]}}}
    assert sure(answer("{}"), response_format=huge) > 0.0


def test_a_pattern():
    checks = replace(CHECKS, pattern=r"\bParis\b")
    assert sure(answer(), checks=checks) > 0.0
    assert sure(answer("Rome."), checks=checks) == 0.0
    assert sure(answer("a" * 100_000 + "!"), checks=replace(CHECKS, pattern="^(a+)+$")) == 0.0
    assert sure(answer(), checks=replace(CHECKS, pattern="(")) > 0.0


def test_a_tool_call_has_no_text_to_look_at():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert sure(answer(None, tool_calls=calls), checks=replace(CHECKS, pattern="x"), response_format=WANTED) > 0.0


def test_of_several_choices_the_least_sure_counts():
    one, other = answer(), answer(logprobs=[-2.0])
    both = Answer(status="ok", body={"choices": [*one.body["choices"], *other.body["choices"]]})
    assert sure(both) == pytest.approx(math.exp(-2.0))
    half = Answer(status="ok", body={"choices": [*one.body["choices"], *answer(logprobs=None).body["choices"]]})
    assert sure(half) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "logprobs",
                    "content",
                    "text",
                    "finish_reason",
                    "logprob",
                    "tool_calls",
                    "token_logprobs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values)
def test_no_answer_breaks_it(body, wanted):
    found = judged(
        replace(WORK, body={"response_format": wanted}, checks=replace(CHECKS, pattern="x")),
        Answer(status="ok", body=body if isinstance(body, dict) else {"choices": [{"message": body}]}),
    )
    assert found.confidence is None or 0.0 <= found.confidence <= 1.0
