"""How long a 429 asks us to wait, in the dialects that providers speak.

In order: ``retry-after-ms``; ``retry-after`` in seconds or as an HTTP date (RFC 9110, 10.2.3); the longer of
``x-ratelimit-reset-requests`` and ``-tokens`` (``20ms``, ``1.5s``, ``6m0s``), of those whose ``-remaining-`` is zero or
not given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

#: A daily quota resets within a day. What asks for more is cut to this.
MAX_WAIT_MS = 86_400_000

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PIECE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h|d)")


def retry_after_ms(headers: Mapping[str, str], now_ms: int) -> int | None:
    """Milliseconds to wait, ``0..MAX_WAIT_MS``; ``None`` when the headers (any case) say nothing readable."""
    for found in (
        _number(headers.get("retry-after-ms"), 1),
        _number(headers.get("retry-after"), 1000),
        _date(headers.get("retry-after"), now_ms),
        _reset(headers),
    ):
        if found is not None:
            return max(0, min(math.ceil(found), MAX_WAIT_MS))
    return None


def _number(text: str | None, unit_ms: int) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value * unit_ms if math.isfinite(value) and value >= 0 else None


def _date(text: str | None, now_ms: int) -> float | None:
    try:
        when = parsedate_to_datetime(text or "")
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() * 1000 - now_ms)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _reset(headers: Mapping[str, str]) -> float | None:
    waits = [
        wait
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}", "0").strip() == "0"
        and (wait := _duration(headers.get(f"x-ratelimit-reset-{what}"))) is not None
    ]
    return max(waits, default=None)


def _duration(text: str | None) -> float | None:
    """``1m30s`` -> 90,000; a bare number is seconds.

    >>> _duration("6m0s"), _duration("20ms"), _duration("2"), _duration("soon")
    (360000.0, 20.0, 2000.0, None)
    """
    text = (text or "").strip()
    if not text or _PIECE.sub("", text):
        return _number(text, 1000)
    return sum(float(number) * _UNITS_MS[unit] for number, unit in _PIECE.findall(text))
