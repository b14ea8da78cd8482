"""Kafka headers that go with a request through every hop. Anyone may write headers: null values, megabytes, any bytes."""

from __future__ import annotations

from collections.abc import Iterable

PASSED_ON = "traceparent"

#: A ``traceparent`` has 55 (W3C Trace Context); a later version may have more.
MAX_PASSED_ON_BYTES = 256


def passed_on(headers: Iterable[tuple[str, bytes | None]]) -> list[tuple[str, bytes]]:
    """Those of a record's headers that go on. ``schema`` does not: each record that leaves has one of its own."""
    return [
        (name, value)
        for name, value in headers
        if name == PASSED_ON and value is not None and len(value) <= MAX_PASSED_ON_BYTES
    ]
