"""Times of the contract: milliseconds since 1970 inside, RFC 3339 in UTC in records."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
#: 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write.
MAX_MS = 253_402_300_799_999
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,32}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def to_rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC. Total: a time outside the years 1970..9999 becomes the nearest in it.

    >>> to_rfc3339(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    second, millisecond = divmod(min(max(ms, 0), MAX_MS), 1000)
    return f"{_second(second)}.{millisecond:03}Z"


@lru_cache(maxsize=4096)
def _second(since_1970: int) -> str:
    """Records of one second share all but their milliseconds."""
    return (_EPOCH + timedelta(seconds=since_1970)).isoformat()[:-6]


def from_rfc3339(text: str) -> int:
    """Milliseconds since 1970, rounded down, may be negative. A leap second counts as the last second of its minute.

    ``ValueError`` if ``text`` is not RFC 3339: a date alone, or a time without a zone, is not.

    >>> from_rfc3339("2023-11-14T23:13:20.123+01:00")
    1700000000123
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("must be an RFC 3339 time, like 2026-11-01T12:00:00Z")
    *parts, fraction, sign, zone_hours, zone_minutes = found.groups()
    year, month, day, hour, minute, second = map(int, parts)
    zone = UTC
    try:
        if sign:
            ahead = timedelta(hours=int(zone_hours), minutes=_below(60, int(zone_minutes)))
            zone = timezone(ahead if sign == "+" else -ahead)
        at = datetime(year, month, day, hour, minute, 59 if second == 60 else second, tzinfo=zone)
        return (at - _EPOCH) // _MILLISECOND + int(((fraction or "") + "000")[:3])
    except ValueError as error:
        raise ValueError(f"is no time that exists: {error}") from None


def _below(limit: int, value: int) -> int:
    if value >= limit:
        raise ValueError(f"{value} minutes")
    return value
