"""Decompression ends at its limit."""

import gzip
import zlib

import pytest

from router.work.inflate import Inflater, TooLarge


def inflated(encoding: str, *chunks: bytes, limit: int = 1000) -> bytes:
    inflater = Inflater(encoding, limit)
    for chunk in chunks:
        inflater.feed(chunk)
    return inflater.finish()


def test_plain_bytes_pass_through():
    assert inflated("", b"ab", b"cd") == b"abcd"
    assert inflated("identity", b"ab") == b"ab"


def test_gzip_and_deflate_are_read_byte_by_byte():
    for encoding, packed in (("gzip", gzip.compress(b"hello" * 20)), ("Deflate", zlib.compress(b"hello" * 20))):
        assert inflated(encoding, *(packed[i : i + 1] for i in range(len(packed)))) == b"hello" * 20


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(encoding):
    pack = gzip.compress if encoding else bytes
    assert len(inflated(encoding, pack(b"x" * 1000))) == 1000
    with pytest.raises(TooLarge):
        inflated(encoding, pack(b"x" * 1001))


def test_a_bomb_is_never_expanded_beyond_the_limit():
    inflater = Inflater("gzip", 1000)
    with pytest.raises(TooLarge):
        inflater.feed(gzip.compress(bytes(50_000_000)))
    assert len(inflater._out) == 1001


def test_damage_an_early_end_bytes_after_the_end_and_unknown_encodings_are_errors():
    packed = gzip.compress(b"hello")
    for chunks in ([packed[:-3]], [b"no gzip"], [packed, b"more"]):
        with pytest.raises(zlib.error):
            inflated("gzip", *chunks)
    with pytest.raises(zlib.error):
        inflated("br", b"x")
