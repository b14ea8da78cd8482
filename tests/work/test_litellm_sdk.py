"""What goes to the LiteLLM SDK. Its answers go the way of all others (``test_answers``)."""

import sys

import pytest

from router.contract.errors import ConfigError
from router.work.litellm_sdk import LiteLlm, arguments_of


def test_a_request_cannot_set_what_is_the_operators(new_work):
    body = {"messages": [], "seed": 4, "api_base": "http://evil", "api_key": "x", "mock_response": "hi", "stream": True}
    arguments = arguments_of(new_work(body=body, provider_model="anthropic/x"), {"traceparent": "00-1"})
    assert arguments == {
        "messages": [],
        "seed": 4,
        "model": "anthropic/x",
        "num_retries": 0,
        "extra_headers": {"traceparent": "00-1", "Idempotency-Key": f"{1:032x}-1"},
    }


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ConfigError, match=r"pointsman\[litellm\]"):
        LiteLlm([])
