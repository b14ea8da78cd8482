"""What an HTTP answer means. ``ok`` only for what is complete."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from router.work.answers import read_answer

CHAT = "/v1/chat/completions"
SECRET = "sk-live-1234567890"
PROMPT = "my grandmother's recipe"


def read(body, status=200, url=CHAT, *, content_type="application/json", **headers):
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(url, status, CIMultiDict({"Content-Type": content_type} | named), raw, now_ms=0)


def chat(reason="stop", **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": reason}
    return {"model": "m-1", "choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}} | more


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "function_call", "eos"])
def test_a_finished_completion_is_ok_and_keeps_its_body(reason):
    answer = read(chat(reason))
    assert (answer.status, answer.body, answer.served_model, answer.error) == ("ok", chat(reason), "m-1", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)


@pytest.mark.parametrize("reason", [None, "", 0, {}])
def test_a_completion_without_a_finish_reason_is_truncated_and_keeps_its_body(reason):
    answer = read(chat(reason))
    assert (answer.status, answer.error.code, answer.body) == ("truncated", "truncated", chat(reason))


def test_one_unfinished_choice_of_several_makes_the_answer_truncated():
    found = chat()
    found["choices"].append({"message": {}, "index": 1})
    assert read(found).status == "truncated"


def test_a_filtered_answer_is_refused_and_still_costs():
    answer = read(chat("content_filter"))
    assert (answer.status, answer.body, answer.error.code, answer.usage.prompt_tokens) == (
        "refused", None, "content_filter", 3,
    )  # fmt: skip


def test_a_filter_that_answers_400_is_a_refusal_too():
    assert read({"error": {"code": "content_filter"}}, 400).status == "refused"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"ok"', b"{}", b'{"choices": []}', b'{"choices": {}}', b'{"choices": [null]}', b'{"choices": [{}]}',
     b'{"choices": [{"message": "hi", "finish_reason": "stop"}]}', b'{"choices": [{"message": {}, "finish_reason": "stop"}', b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_completion_is_malformed(body):
    answer = read(body)
    assert (answer.status, answer.error.code, answer.body) == ("error", "malformed_answer", None)


@pytest.mark.parametrize("media", ["text/html", "text/event-stream", "", "application/octet-stream"])
def test_another_content_type_is_never_ok(media):
    assert read(chat(), content_type=media).error.code == "malformed_answer"


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON", "application/problem+json"])
def test_json_by_any_of_its_names_is_read(media):
    assert read(chat(), content_type=media).status == "ok"


def test_an_error_inside_a_200_is_an_error():
    assert read({"error": {"message": "no capacity"}}).error.code == "provider_error"
    assert read(chat("error")).error.code == "provider_error"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 404, 405, 408, 409, 425, 302, 307, 100, 418])
def test_other_statuses_are_errors_that_name_the_status(status):
    answer = read(chat(), status)
    assert (answer.status, answer.error.code, answer.body) == ("error", f"http_{status}", None)


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_request"), (413, "request_too_large"), (415, "invalid_request"), (422, "invalid_request"),
     (401, "unauthorized"), (403, "unauthorized"), (402, "insufficient_quota")],
)  # fmt: skip
def test_statuses_that_asking_again_cannot_help_have_codes_of_their_own(status, code):
    assert read(b"whatever", status).error.code == code


@pytest.mark.parametrize(
    "error",
    [{"code": "context_length_exceeded"}, {"message": "This model's maximum context length is 8192 tokens."},
     {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"}],
)  # fmt: skip
def test_a_prompt_that_is_too_long_is_told_apart(error):
    assert read({"error": error}, 400).error.code == "context_length_exceeded"


def test_a_429_carries_its_wait():
    answer = read(b"", 429, retry_after="3")
    assert (answer.status, answer.error.code, answer.error.retry_after_ms) == ("rate_limited", "rate_limited", 3000)
    assert read(b"", 429).error.retry_after_ms is None


@pytest.mark.parametrize("status", [429, 402, 403])
def test_where_nobody_has_paid_it_is_of_no_use_to_wait(status):
    answer = read({"error": {"code": "insufficient_quota"}}, status, retry_after="3")
    assert (answer.status, answer.error.code) == ("error", "unauthorized" if status == 403 else "insufficient_quota")


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_content_filter_is_a_refusal_whatever_the_status(status):
    answer = read({"error": {"code": "content_policy_violation"}}, status)
    assert (answer.status, answer.error.code) == ("refused", "content_filter")


def test_messages_never_repeat_what_the_server_wrote():
    for status in (400, 401, 429, 500, 200):
        for error in ({"message": f"bad key {SECRET} in {PROMPT}", "code": SECRET, "type": PROMPT}, PROMPT, [SECRET]):
            message = read({"error": error}, status).error.message
            assert SECRET not in message
            assert PROMPT not in message
            assert len(message) <= 200


def test_a_plain_code_of_the_server_is_told():
    assert read({"error": {"code": "server_overloaded"}}, 503).error.message == "HTTP 503 (server_overloaded)"


def test_embeddings_have_no_choices():
    found = {"model": "e", "data": [{"embedding": [0.5], "index": 0}], "usage": {"prompt_tokens": 4}}
    answer = read(found, url="/v1/embeddings")
    assert (answer.status, answer.body, answer.usage.prompt_tokens) == ("ok", found, 4)
    for wrong in ({"data": []}, {"data": [{}]}, {"data": "x"}, chat()):
        assert read(wrong, url="/v1/embeddings").error.code == "malformed_answer"


@given(
    st.binary(max_size=60) | st.sampled_from([b'{"choices":[{"message":{},"finish_reason":"stop"}]}']),
    st.integers(100, 599),
)
def test_no_bytes_raise_and_only_a_2xx_completion_is_ok(body, status):
    answer = read(body, status)
    assert (answer.status == "ok") == (200 <= status < 300 and b"choices" in body and b"stop" in body)
