"""How long a 429 asks to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.work.retry_after import MAX_WAIT_MS, retry_after_ms

NOW_MS = 1_794_000_000_000  # 2026-11-06T21:20:00Z


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after": " 3 "}, 3000),
        ({"retry-after-ms": "40", "retry-after": "2"}, 40),
        ({"retry-after": "Fri, 06 Nov 2026 21:20:05 GMT"}, 5000),
        ({"retry-after": "Fri, 06 Nov 2026 21:19:00 GMT"}, 0),
        ({"x-ratelimit-reset-requests": "20ms"}, 20),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360_000),
        (
            {"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "6m"},
            1000,
        ),
        ({"retry-after": "99999999999"}, MAX_WAIT_MS),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"x-ratelimit-reset-requests": "soon"}, None),
    ],
)
def test_reads_every_dialect(headers, wait_ms):
    assert retry_after_ms(headers, NOW_MS) == wait_ms


@given(st.text(max_size=30), st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]))
def test_no_text_raises_or_gives_a_wait_out_of_range(text, name):
    wait_ms = retry_after_ms({name: text}, NOW_MS)
    assert wait_ms is None or 0 <= wait_ms <= MAX_WAIT_MS
