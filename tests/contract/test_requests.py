"""A request is valid, or answerable with ``invalid_request``, or fit for the dead letter alone."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.codec import BadRequest, ParsedRequest, decode_request
from router.contract.errors import Code
from router.contract.ids import request_id
from router.contract.topics import MAX_REQUEST_BYTES

MESSAGES = [{"role": "user", "content": "Why?"}]
CHAT = {"custom_id": "r-1", "body": {"messages": MESSAGES}, "router": {"tenant": "acme", "metadata": {"any": "thing"}}}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=12,
)


def dumps(value) -> bytes:
    return json.dumps(value).encode()


def attempt(value: bytes | None) -> ParsedRequest | BadRequest:
    """The request, or the one error that may come instead."""
    try:
        return decode_request(value)
    except BadRequest as error:
        return error


def refusal(value) -> BadRequest:
    error = attempt(value if isinstance(value, bytes | None) else dumps(value))
    assert isinstance(error, BadRequest)
    assert error.code == Code.INVALID_REQUEST
    return error


def chat(**body):
    return CHAT | {"body": {"messages": MESSAGES} | body}


def routed(**options):
    return CHAT | {"router": CHAT["router"] | options}


def padded(size: int) -> bytes:
    empty = dumps(chat(padding=""))
    return dumps(chat(padding="x" * (size - len(empty))))


def test_a_valid_request_has_its_id_and_the_pool_auto():
    parsed = decode_request(dumps(CHAT))
    assert parsed.request_id == request_id("acme", "r-1")
    assert parsed.model == "auto"
    assert parsed.request.body == {"messages": MESSAGES}
    assert parsed.request.router.metadata == {"any": "thing"}


def test_what_a_client_sends_by_hand_is_enough():
    parsed = decode_request(b'{"custom_id": "a", "body": {"model": "small", "messages": [{"role": "user"}]}}')
    assert parsed.model == "small"
    assert parsed.request_id == request_id("default", "a")
    assert parsed.request.router.deadline_ms is None


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1, "n": 3, "stream": False, "temperature": 0.5}),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_completion_tokens": None, "stream": None}),
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
        ("/v1/responses", {"input": "Hello", "max_output_tokens": 9}),
    ],
)
def test_each_kind_of_call_is_read(url, body):
    assert decode_request(dumps(CHAT | {"url": url, "body": body})).request.url == url


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (chat(model=5), "body.model: must be text of at most 256 characters, not 5"),
        (chat(model=None), "body.model: must be text"),
        (chat(messages=[]), "body.messages: must be a list that is not empty, not an empty one"),
        (chat(messages="hi"), "body.messages: must be a list that is not empty, not text"),
        (chat(messages=[1]), "body.messages.0: must be an object, not 1"),
        (chat(messages=[*MESSAGES, {"content": "x"}]), "body.messages.1.role: must be text, not null"),
        (chat(max_tokens=0), "body.max_tokens: must be an integer of at least 1, not 0"),
        (chat(max_tokens=True), "body.max_tokens: must be an integer of at least 1, not true"),
        (chat(max_completion_tokens="9"), "body.max_completion_tokens: must be an integer of at least 1, not text"),
        (chat(n=0), "body.n: must be an integer from 1 to 128, not 0"),
        (chat(stream=True), "body.stream: must be false: a result is one record"),
        (chat(stream=[]), "body.stream: must be false"),
        (CHAT | {"body": {}}, "body.messages: is missing"),
        (CHAT | {"body": None}, "body: must be an object, not null"),
        ({"custom_id": "r-1", "router": CHAT["router"]}, "body: is missing"),
        (CHAT | {"method": "GET"}, "method: must be 'POST', not \"GET\""),
        (CHAT | {"url": "/v1/images"}, "url: must be one of /v1/chat/completions, "),
        (CHAT | {"url": "https://x"}, "url: must match"),
        (CHAT | {"url": "/v1/embeddings"}, "body.input: is missing"),
        (routed(deadline_ms=0), "router.deadline_ms: must be at least 1, not 0"),
        (routed(deadline_ms=10**12), "router.deadline_ms: must be at most 86400000, not 1000000000000"),
        (routed(max_cost_nano_usd=-1), "router.max_cost_nano_usd: must be at least 0, not -1"),
        (routed(session=7), "router.session: must be text, not 7"),
        (routed(priority="high"), 'router.priority: must be an integer, not "high"'),
    ],
)
def test_readable_but_invalid_carries_what_its_result_needs(request_, message):
    error = refusal(request_)
    assert message in str(error)
    assert (error.custom_id, error.tenant, error.metadata) == ("r-1", "acme", {"any": "thing"})
    assert error.request_id == request_id("acme", "r-1")


@pytest.mark.parametrize(
    "request_",
    [
        CHAT | {"body": "my prompt"},
        chat(messages="my prompt"),
        chat(messages=["my prompt"]),
        chat(messages=[{"role": ["my prompt"]}]),
        chat(max_tokens="my prompt"),
        chat(model="my prompt" * 99),
        chat(n="my prompt"),
        "my prompt",
    ],
)
def test_no_text_of_a_body_is_in_a_message(request_):
    assert "prompt" not in str(refusal(request_))


@pytest.mark.parametrize("tenant", [None, 5, ["acme"], "x" * 129, "\ud800"])
def test_an_unusable_tenant_is_invalid_and_answered_as_default(tenant):
    error = refusal(routed(tenant=tenant))
    assert (error.tenant, error.custom_id) == ("default", "r-1")
    assert error.request_id == request_id("default", "r-1")
    assert error.metadata == {"any": "thing"}


@pytest.mark.parametrize("tenant", ["", "x" * 128, "é 🚂 /"])
def test_any_text_of_up_to_128_characters_is_a_tenant(tenant):
    assert decode_request(dumps(routed(tenant=tenant))).request.router.tenant == tenant


def test_a_router_object_that_is_none_is_invalid_and_answered():
    assert refusal(CHAT | {"router": None}).custom_id == "r-1"
    assert refusal(CHAT | {"router": [1]}).tenant == "default"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"not json",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"custom_id": "r-1", "body": NaN}',
        dumps({"body": {"messages": MESSAGES}}),
        dumps(CHAT | {"custom_id": None}),
        dumps(CHAT | {"custom_id": 5}),
        dumps(CHAT | {"custom_id": ""}),
        dumps(CHAT | {"custom_id": "x" * 257}),
        dumps(CHAT | {"custom_id": "\ud800"}),
        b"[" * 900_000,
        b'{"a":' * 100_000,
    ],
)
def test_without_json_or_a_usable_custom_id_there_is_only_a_dead_letter(value):
    error = refusal(value)
    assert error.custom_id is None
    assert error.request_id is None
    assert len(str(error)) < 300


@pytest.mark.parametrize("content", ["\ud800", 1e999])
def test_json_that_utf8_or_a_double_cannot_hold_is_answered(content):
    value = json.dumps(chat(content=content)).replace("Infinity", "1e999").encode()
    error = refusal(value)
    assert error.custom_id == "r-1"
    assert "no valid JSON" in str(error)


def test_a_body_too_deep_to_be_written_again_is_answered():
    deep = json.loads("[" * 250 + "]" * 250)
    assert "nested deeper" in str(error := refusal(chat(x=deep)))
    assert error.metadata == {"any": "thing"}
    assert refusal(routed(metadata=deep)).metadata is None


def test_the_size_limit_is_inclusive():
    assert decode_request(padded(MAX_REQUEST_BYTES)).request.custom_id == "r-1"
    error = refusal(padded(MAX_REQUEST_BYTES + 1))
    assert str(error) == f"has {MAX_REQUEST_BYTES + 1} bytes, more than {MAX_REQUEST_BYTES}"
    assert error.custom_id == "r-1"


def test_a_hundred_thousand_messages_are_too_many_bytes():
    assert "more than" in str(refusal(chat(messages=[{"role": "u"}] * 100_000)))


def test_a_million_spaces_are_too_many_bytes_and_half_of_them_are_text():
    assert "more than" in str(refusal(chat(messages=[{"role": "user", "content": " " * 1_000_000}])))
    assert decode_request(dumps(chat(messages=[{"role": "user", "content": " " * 500_000}])))


@given(json_values | st.dictionaries(st.sampled_from(["custom_id", "body", "router", "method", "url"]), json_values))
def test_anything_is_a_request_or_a_bad_request(value):
    answer = attempt(dumps(value))
    assert type(answer) in {BadRequest, ParsedRequest}


@given(
    st.dictionaries(st.sampled_from(["model", "messages", "max_tokens", "n", "stream", "input"]), json_values),
    json_values,
)
def test_whatever_is_refused_can_be_answered(body, options):
    answer = attempt(dumps({"custom_id": "r", "body": body, "router": options}))
    if type(answer) is BadRequest:
        assert answer.custom_id == "r"
        assert orjson.dumps([answer.tenant, answer.metadata, str(answer)])
