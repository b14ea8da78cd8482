"""The dead letter of any record can be written."""

import base64

import pytest
from aiokafka import ConsumerRecord

from router.contract.codec import decode
from router.contract.errors import PointsmanError
from router.contract.letters import MAX_KEY_BYTES, MAX_VALUE_BYTES, dead_letter
from router.contract.records import DeadLetter


def written(key, value, message="why"):
    record = ConsumerRecord("llm.outcomes", 1, 7, 0, 1, key, value, None, 0, 0, ())
    found_key, letter = dead_letter(record, PointsmanError(message), stage="settle", at_ms=0)
    return found_key, letter, decode(DeadLetter, letter)


@pytest.mark.parametrize("key", [None, b"", b"k", b"\xff" * MAX_KEY_BYTES])
@pytest.mark.parametrize("value", [None, b"", b"\x00v", b"v" * MAX_VALUE_BYTES])
def test_a_record_that_fits_is_in_its_letter_whole(key, value):
    found_key, _, letter = written(key, value)
    assert found_key == key
    assert letter.key_base64 == (None if key is None else base64.b64encode(key).decode())
    assert letter.value_base64 == (None if value is None else base64.b64encode(value).decode())
    assert (letter.value_bytes, letter.truncated) == (len(value or b""), False)


@pytest.mark.parametrize(("key", "value"), [(b"k", b"v" * 4_000_000), (b"k" * 4_000_000, b"v"), (b"k" * 65_537, None)])
def test_a_record_that_does_not_fit_is_cut(key, value):
    found_key, bytes_, letter = written(key, value, "m" * 100_000)
    assert found_key == (key if len(key) <= MAX_KEY_BYTES else None)
    assert letter.truncated
    assert letter.value_bytes == len(value or b"")
    assert len(found_key or b"") + len(bytes_) < 1.6 * 2**20
