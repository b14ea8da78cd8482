"""One past call, whatever log it stands in, and what all logs have in common: quality, cost, prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.contract.records import Usage
from router.core.prompt import Prompt, read_body
from router.core.usage import MAX_TOKENS, read_usage
from router.history.import_lines import Fault, Place, Unusable, unpacked

MAX_ID_CHARACTERS = 256
MAX_MODEL_CHARACTERS = 256
#: A call that cost more is a slip of the pen.
MAX_COST_USD = 100_000
NANO = 1_000_000_000

#: Where a score is looked for unless a path is given.
QUALITY_FIELDS = (
    "metadata.score",
    "metadata.quality",
    "metadata.spend_logs_metadata.score",
    "metadata.spend_logs_metadata.quality",
    "metadata.requester_metadata.score",
    "metadata.requester_metadata.quality",
    "body.metadata.score",
    "body.metadata.quality",
    "router.metadata.score",
    "router.metadata.quality",
)

#: Of a body, what says what is asked and what it needs.
PROMPTS = ("messages", "input", "prompt")
_KEPT = (
    *PROMPTS,
    "instructions",
    "tools",
    "functions",
    "response_format",
    "text",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
)
#: What LiteLLM writes in place of a text that it was told not to log, and into one that it cut.
REDACTED, CUT = "redacted-by-litellm", "litellm_truncated"


@dataclass(frozen=True, slots=True)
class Call:
    """``model`` as the log calls it, empty where nothing was answered, ``served_as``: another name of it there; ``body``: what is needed of the request's.

    ``usage`` and ``cost_nano_usd`` are ``None`` where the log has none; so is ``quality``, 0..1. ``faults``: what is missing.
    """

    id: str
    place: Place
    source: str
    model: str
    body: Mapping[str, Any] | None
    usage: Usage | None
    cost_nano_usd: int | None = None
    quality: float | None = None
    at_ms: int | None = None
    faults: tuple[tuple[Fault, str], ...] = ()
    served_as: str = ""


@dataclass(frozen=True, slots=True)
class Scores:
    """Where quality stands: ``paths`` are tried in turn; ``low`` and ``high``: of the scale, which becomes 0..1."""

    paths: tuple[tuple[str, ...], ...] = field(
        default_factory=lambda: tuple(tuple(path.split(".")) for path in QUALITY_FIELDS)
    )
    low: float = 0.0
    high: float = 1.0

    def of(self, found: Mapping[str, Any]) -> tuple[float | None, tuple[tuple[Fault, str], ...]]:
        """Quality, and what is wrong with the score that is there. A score may be written as text; true is 1."""
        tops = {path[0]: unpacked(found[path[0]]) for path in self.paths if path[0] in found}
        for path in self.paths:
            if path[0] not in tops or (value := _at(tops[path[0]], path[1:])) is None:
                continue
            number = _number(value)
            if number is None or not self.low <= number <= self.high:
                return None, ((Fault.BAD_QUALITY, f"{'.'.join(path)} is not within {self.low:g}..{self.high:g}"),)
            return (number - self.low) / (self.high - self.low), ()
        return None, ()


def body_of(found: Mapping[str, Any], *more: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is kept of a request's body; ``None`` where no prompt is in it. ``more``: parameters that lie elsewhere."""
    body = {
        name: value for each in (*more, found) for name in _KEPT if (value := each.get(name)) not in (None, [], "", {})
    }
    return body if any(name in body for name in PROMPTS) else None


def prompt_of(body: Mapping[str, Any] | None) -> Prompt | None:
    """The prompt; ``None`` where no text and no image is left in it."""
    if body is None:
        return None
    prompt = read_body(dict(body))
    text = prompt.last_user_text.strip()
    said = text not in ("", REDACTED) or (not text and any(each.strip() for each in prompt.texts))
    return prompt if said or prompt.images else None


def usage_of(found: Mapping[str, Any], detail: str) -> Usage | None:
    """Token counts; ``None`` where there are none. Raises ``Unusable`` where they cannot be."""
    if not any(found.get(name) for name in ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")):
        return None
    usage = read_usage(dict(found))
    if usage is None:
        raise Unusable(Fault.BAD_TOKENS, f"{detail} are no whole numbers of 0 to {MAX_TOKENS:,}")
    return usage


def cost_of(value: Any, name: str) -> int | None:
    """Dollars of a log in nano-dollars. Raises ``Unusable``."""
    if value is None:
        return None
    usd = None if isinstance(value, bool) else _number(value)
    if usd is None or not 0.0 <= usd <= MAX_COST_USD:
        raise Unusable(Fault.BAD_COST, f"{name} is no number of 0 to {MAX_COST_USD:,} dollars")
    return round(usd * NANO)


def text_of(value: Any, fault: Fault, detail: str, most: int) -> str:
    """A name or id. Raises ``Unusable``."""
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise Unusable(fault, detail)
    return value


def section(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in an object, also one that was written as text; empty where there is none."""
    value = unpacked(found.get(name))
    return value if isinstance(value, dict) else {}


def _at(found: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        found = unpacked(found)
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _number(value: Any) -> float | None:
    if not isinstance(value, bool | int | float | str) or (isinstance(value, str) and len(value) > 40):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
