"""Lines of past logs as their writers make them, small and made up."""

import gzip
import json

TEXT = "What is seven times eight?"


def payload(number=0, **changed):
    """LiteLLM's StandardLoggingPayload."""
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40}}
    return {
        "id": f"chatcmpl-{number}",
        "call_type": "acompletion",
        "response_cost": 0.00045,
        "status": "success",
        "model": "openai/gpt-4o-2024-08-06",
        "model_group": None,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "startTime": 1_756_700_000.5,
        "messages": [{"role": "user", "content": TEXT}],
        "response": {"choices": [], "usage": usage},
        "metadata": {"usage_object": usage},
        "model_parameters": {},
        "cache_hit": None,
    } | changed


def spend_row(number=0, **changed):
    """A row of LiteLLM_SpendLogs: objects are text, prompts lie in the request."""
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": TEXT}]}
    return {
        "request_id": f"row-{number}",
        "call_type": "acompletion",
        "spend": 0.00045,
        "status": "success",
        "model": "gpt-4o-2024-08-06",
        "model_group": "gpt-4o",
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "startTime": "2025-09-01T04:13:20.500000",
        "messages": "{}",
        "response": "{}",
        "metadata": json.dumps({"additional_usage_values": {"prompt_tokens_details": {"cached_tokens": 40}}}),
        "proxy_server_request": json.dumps(asked),
        "cache_hit": "False",
    } | changed


def request(number=0, **changed):
    """A line of an OpenAI batch input file."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": TEXT}]}
    return {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body} | changed


def answer(number=0, usage=None, **changed):
    """A line of an OpenAI batch output file."""
    body = {
        "object": "chat.completion",
        "created": 1_756_700_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"message": {"role": "assistant", "content": "56"}}],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 20},
    }
    response = {"status_code": 200, "request_id": "x", "body": body}
    return {"id": f"batch_req_{number}", "custom_id": f"r{number}", "response": response, "error": None} | changed


def result(number=0, **changed):
    """A line of pointsman's own results."""
    return answer(number, id="0" * 32) | {
        "router": {"tenant": "default", "model": "mini", "cost_nano_usd": 27_000} | changed
    }


def write(path, *lines):
    """Objects, or bytes as they are."""
    text = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
