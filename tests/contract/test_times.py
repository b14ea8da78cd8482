"""RFC 3339 in and out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.times import MAX_MS, from_rfc3339, to_rfc3339


@given(st.integers(0, MAX_MS))
def test_every_millisecond_survives(ms):
    assert from_rfc3339(to_rfc3339(ms)) == ms


@given(st.integers())
def test_any_integer_can_be_written(ms):
    assert 0 <= from_rfc3339(to_rfc3339(ms)) <= MAX_MS


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31t23:59:59.999z", -1),
        ("2023-11-14T22:13:20.1239Z", 1_700_000_000_123),
        ("2023-11-14T23:43:20+01:30", 1_700_000_000_000),
        ("2023-11-14T14:13:20.000000-08:00", 1_700_000_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
    ],
)
def test_other_spellings_are_read(text, ms):
    assert from_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2023-11-14",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20",
        "2023-02-30T00:00:00Z",
        "2023-11-14T24:00:00Z",
        "2023-11-14T22:13:20+01:60",
        "0000-01-01T00:00:00Z",
        "2023-11-14T22:13:20Z\n",
        "\uff12023-11-14T22:13:20Z",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r"RFC 3339|no time"):
        from_rfc3339(text)


@given(st.text())
def test_any_text_is_a_time_or_a_value_error(text):
    try:
        from_rfc3339(text)
    except ValueError:
        return
    assert text
