"""Token counts out of a provider's ``usage`` object, whatever dialect it speaks and whatever nonsense it holds.

Counts that cannot be true are not guessed at: a wrong ``prompt_tokens`` or ``completion_tokens`` makes the whole usage
``None`` (unknown), a wrong detail counts as zero, and a part never exceeds its whole. So a price times these counts is
never negative and never overflows.
"""

from __future__ import annotations

from typing import Any

from router.contract.records import Usage

#: No call has this many tokens; what claims more is nonsense.
MAX_TOKENS = 1_000_000_000


def read_usage(found: Any) -> Usage | None:
    """The usage of an answer's ``usage`` value, ``None`` when absent or not to be believed."""
    if not isinstance(found, dict):
        return None
    asked, said = ("prompt", "completion") if "prompt_tokens" in found else ("input", "output")  # Responses: the latter
    prompt = _count(found.get(f"{asked}_tokens"))
    completion = _count(found.get(f"{said}_tokens", 0))  # embeddings have none
    if prompt is None or completion is None:
        return None
    of_prompt, of_completion = _part(found, f"{asked}_tokens_details"), _part(found, f"{said}_tokens_details")
    cached = _first(of_prompt.get("cached_tokens"), found.get("prompt_cache_hit_tokens"))
    cache_write = _first(
        of_prompt.get("cache_write_tokens"),
        of_prompt.get("cache_creation_tokens"),
        found.get("cache_creation_input_tokens"),
    )
    cached = min(cached, prompt)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=min(cache_write, prompt - cached),
        reasoning_tokens=min(_first(of_completion.get("reasoning_tokens")), completion),
    )


def _part(found: dict[str, Any], name: str) -> dict[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _first(*candidates: Any) -> int:
    """The first that is a count, else 0."""
    return next((count for count in map(_count, candidates) if count is not None), 0)


def _count(value: Any) -> int | None:
    """A whole number in ``0..MAX_TOKENS``, also when written as ``12.0``; anything else is ``None``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS:
        return None
    return int(value) if value == int(value) else None
