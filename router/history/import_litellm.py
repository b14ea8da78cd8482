"""A line of LiteLLM: the payload that its logging callbacks get (StandardLoggingPayload), or a row of its spend table.

| | payload | row of LiteLLM_SpendLogs |
|---|---|---|
| id, cost | ``id``, ``response_cost`` | ``request_id``, ``spend`` |
| prompt | ``messages`` | ``proxy_server_request``, where prompts are stored at all |
| model | ``model_group`` or ``model`` | the same |
| cached tokens | ``metadata.usage_object``, ``response.usage`` | ``metadata.usage_object``, ``metadata.additional_usage_values`` |

Objects may also be written as text (``metadata`` of a row always is).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from router.contract.faults import shown
from router.contract.times import MAX_MS
from router.history.import_calls import (
    CUT,
    MAX_ID_CHARACTERS,
    MAX_MODEL_CHARACTERS,
    PROMPTS,
    Call,
    Scores,
    body_of,
    cost_of,
    section,
    text_of,
    usage_of,
)
from router.history.import_lines import Fault, Place, Unusable, unpacked

SOURCE = "litellm"
_MARKS = ("response_cost", "spend", "call_type", "startTime", "model_group", "litellm_call_id", "prompt_tokens")
#: Calls that answer a prompt with text.
_TEXT_CALLS = frozenset(
    f"{how}{kind}" for kind in ("completion", "text_completion", "responses", "generate_content") for how in ("", "a")
) | {"anthropic_messages"}


def is_litellm(found: Mapping[str, Any]) -> bool:
    """Whether a line looks like one."""
    return "model" in found and any(name in found for name in _MARKS)


def call_of(found: Mapping[str, Any], place: Place, row_id: str, scores: Scores, *, cut: bool) -> Call:
    """The call that a line tells of; ``row_id`` where the line has no id, ``cut``: its text may be cut. Raises ``Unusable``."""
    _check_kind(found)
    model = text_of(found.get("model_group") or found.get("model"), Fault.BAD_MODEL, "model", MAX_MODEL_CHARACTERS)
    given = found.get("request_id") or found.get("id") or found.get("litellm_call_id")
    metadata = section(found, "metadata")
    quality, faults = scores.of(found)
    body = _body(found)
    if cut and any(CUT in str(body.get(name)) for name in PROMPTS if body):
        faults = (*faults, (Fault.CUT_PROMPT, ""))
    cost_name = "response_cost" if "response_cost" in found else "spend"
    return Call(
        id=text_of(row_id if given is None else given, Fault.BAD_ID, "request_id", MAX_ID_CHARACTERS),
        place=place,
        source=SOURCE,
        model=model,
        body=body,
        usage=usage_of(_counts(found, metadata), "prompt_tokens and completion_tokens"),
        cost_nano_usd=cost_of(found.get(cost_name), cost_name),
        quality=quality,
        at_ms=_time(found.get("startTime")),
        faults=faults,
        served_as=served_as if isinstance(served_as := found.get("model"), str) else "",
    )


def _check_kind(found: Mapping[str, Any]) -> None:
    kind = found.get("call_type")
    if kind and (not isinstance(kind, str) or kind not in _TEXT_CALLS):
        raise Unusable(Fault.OTHER_CALL, f"call_type {shown(kind)}")
    status = found.get("status") or section(found, "metadata").get("status") or "success"
    if status != "success":
        raise Unusable(Fault.FAILED, f"status {shown(status)}")
    if found.get("cache_hit") in (True, "True", "true"):
        raise Unusable(Fault.CACHED)


def _counts(found: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As a provider's usage: the details from wherever they are, the counts from the line itself."""
    details: dict[str, Any] = {}
    for each in (
        section(metadata, "additional_usage_values"),
        section(section(found, "response"), "usage"),
        section(metadata, "usage_object"),
    ):
        details |= {name: value for name, value in each.items() if value is not None}
    own = {name: found[name] for name in ("prompt_tokens", "completion_tokens") if found.get(name) is not None}
    return details | own


def _body(found: Mapping[str, Any]) -> dict[str, Any] | None:
    parameters = section(found, "model_parameters")
    messages = unpacked(found.get("messages"))
    if isinstance(messages, dict):
        if (body := body_of(messages, parameters)) is not None:
            return body
    elif messages:
        return body_of({"messages" if isinstance(messages, list) else "prompt": messages}, parameters)
    asked = section(found, "proxy_server_request")
    if not any(name in asked for name in PROMPTS):
        asked = section(asked, "body")
    return body_of({name: unpacked(value) if name in PROMPTS else value for name, value in asked.items()}, parameters)


def _time(value: Any) -> int | None:
    """Seconds since 1970, or a date and time as databases write them (UTC where no zone is told); ``None`` for nonsense."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        ms = int(value * 1000)
    elif isinstance(value, str) and len(value) <= 40:
        try:
            found = datetime.fromisoformat(value)
            ms = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    else:
        return None
    return ms if 0 < ms <= MAX_MS else None
