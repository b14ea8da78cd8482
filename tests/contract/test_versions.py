import pytest

from router.contract.errors import RejectCode
from router.contract.versions import MAJOR, refusal


@pytest.mark.parametrize(
    "headers",
    [[], [("traceparent", b"9")], [("schema", b"1")], [("schema", b"1.7")], [("schema", None)], [("schema", b"")]],
)
def test_records_without_a_version_or_of_this_major_one_are_read(headers):
    assert refusal(headers) is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"2", f"version 2 of the records; this release reads {MAJOR}"),
        (b"2.1", "version 2.1"),
        (b"999999999", "version 999999999"),
        (b"0", "is no version"),
        (b"-1", "is no version"),
        (b"1\n", "is no version"),
        (b"\xff\x00\x1b[31m" * 1000, "is no version"),
        ("\u0661".encode(), "is no version"),
        (b"9" * 10_000, "is no version"),
    ],
)
def test_any_other_is_refused_with_words_that_can_be_shown(said, told):
    error = refusal([("schema", said)])
    assert error.code == RejectCode.UNSUPPORTED_SCHEMA
    assert told in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 300


def test_the_last_of_several_counts():
    assert refusal([("schema", b"2"), ("schema", b"1")]) is None
    assert refusal([("schema", b"1"), ("schema", b"2")]) is not None
