"""How sure a worker is of an answer, for a cascade: ``confidence`` 0..1 of an outcome whose work has ``checks``.

    confidence = 0 where a check fails, else exp(mean log-probability of the answer's tokens) where those are asked for, else 1

Of several choices the least sure one counts. The log-probabilities are asked for here if the request did not, and then
taken out of the answer again: the caller gets what it asked for. Where the server tells none although it was asked, nothing is
known: ``None``, which no cascade lets through.

Hostile input: patterns and those in schemas take linear time, a schema fetches nothing, and is read only up to a size;
what cannot be checked does not fail.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any, Final, TypeGuard

import orjson

from router.contract.patterns import compiled
from router.contract.records import Checks, Work
from router.contract.urls import CHAT
from router.work.provider import Answer

#: A refusal says so at once.
_OPENING: Final = 240
MAX_SCHEMA_BYTES: Final = 64 * 1024
_REFUSALS = re.compile(
    r"\b(i|we)('m| am|'re| are)? (sorry|unable to|not able to|cannot|can't|can not|won't be able)\b.{0,80}"
    r"\b(help|assist|comply|answer|provide|fulfil|fulfill|do that|with that|discuss)"
    r"|\bas an ai( language)? model,? i (cannot|can't|am not able|am unable)"
    r"|\b(i cannot|i can't|i won't) (help|assist|comply|answer|provide|fulfil|fulfill|discuss)\b"
    r"|\b(das|dabei|hierbei) kann ich (leider )?nicht (helfen|beantworten)|\bich kann (ihnen |dir )?(dabei |damit )?(leider )?nicht helfen"
    r"|\bje (suis désolé|ne peux pas|ne suis pas en mesure).{0,60}(aider|répondre|fournir)"
    r"|\b(lo siento|no puedo).{0,60}(ayudar|responder|proporcionar)",
    re.IGNORECASE | re.DOTALL,
)


def asked_with(work: Work, body: dict[str, Any]) -> dict[str, Any]:
    """The body to send to a provider: with log-probabilities, where those are needed and the request does not ask itself."""
    if work.checks is None or not work.checks.logprobs or body.get("logprobs"):
        return body
    return {**body, "logprobs": True if work.url == CHAT else 1}


def judged(work: Work, answer: Answer) -> Answer:
    """The answer with the worker's confidence in it, and without what only that was asked for."""
    checks, body = work.checks, answer.body
    if checks is None or answer.status != "ok" or body is None:
        return answer
    choices = [one for one in body.get("choices") or () if isinstance(one, dict)]
    sure = [_confidence(work, checks, one) for one in choices]
    found = None if not sure or any(one is None for one in sure) else min(one for one in sure if one is not None)
    if checks.logprobs and not work.body.get("logprobs"):
        bare = [{**one, "logprobs": None} if "logprobs" in one else one for one in choices]
        body = {**body, "choices": bare}
    return replace(answer, body=body, confidence=found)


def _confidence(work: Work, checks: Checks, choice: Mapping[str, Any]) -> float | None:
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text = choice.get("text") if isinstance(choice.get("text"), str) else message.get("content")
    text = text if isinstance(text, str) else ""
    if _fails(work, checks, choice, message, text):
        return 0.0
    return _certainty(choice.get("logprobs")) if checks.logprobs else 1.0


def _fails(work: Work, checks: Checks, choice: Mapping[str, Any], message: Mapping[str, Any], text: str) -> bool:
    if checks.length and choice.get("finish_reason") == "length":
        return True
    if checks.refusal and (message.get("refusal") or _REFUSALS.search(text, 0, _OPENING)):
        return True
    if message.get("tool_calls"):
        return False  # the answer is a call: it has no text to look at
    if checks.json and not _is_wanted_json(work.body.get("response_format"), text):
        return True
    return checks.pattern is not None and not _matches(checks.pattern, text)


def _certainty(logprobs: Any) -> float | None:
    """The geometric mean of the tokens' probabilities, in both dialects of OpenAI's API; ``None`` where they are not told."""
    if not isinstance(logprobs, dict):
        return None
    listed = logprobs.get("content")
    if isinstance(listed, list):
        numbers = [one.get("logprob") if isinstance(one, dict) else None for one in listed]
    else:
        told = logprobs.get("token_logprobs")
        numbers = [one for one in told if one is not None] if isinstance(told, list) else []
    known = [float(one) for one in numbers if _is_logprob(one)]
    if not known or len(known) < len(numbers):
        return None
    return min(1.0, math.exp(sum(known) / len(known)))


def _is_logprob(value: Any) -> TypeGuard[float]:
    """Servers write -9999 for what is all but impossible; no probability is above 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 1e-6


def _is_wanted_json(wanted: Any, text: str) -> bool:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in {"json_object", "json_schema"}:
        return True
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    if kind == "json_object":
        return isinstance(found, dict)
    asked = wanted.get("json_schema")
    schema = asked.get("schema") if isinstance(asked, dict) else None
    if not isinstance(schema, dict):
        return True
    written = orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    validator = _validator(written) if len(written) <= MAX_SCHEMA_BYTES else None
    return validator is None or bool(validator.is_valid(found))


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    """``None`` for what is no schema, and without the extra ``checks``: the text is JSON, and more cannot be said."""
    try:
        jsonschema: Any = import_module("jsonschema_rs")
    except ImportError:
        return None
    try:
        return jsonschema.validator_for(
            orjson.loads(schema), retriever=_nothing, pattern_options=jsonschema.RegexOptions()
        )
    except (jsonschema.ValidationError, jsonschema.ReferencingError, ValueError):
        return None


def _nothing(uri: str) -> Any:
    """A schema of a request makes us fetch nothing."""
    raise ValueError(f"not fetched: {uri[:80]}")


def _matches(pattern: str, text: str) -> bool:
    try:
        return _compiled(pattern).search(text) is not None
    except ValueError:
        return True


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    return compiled(pattern)
