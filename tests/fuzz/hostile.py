"""What a hostile caller would try first, and how a valid input is damaged. Values are small enough for every example of a run."""

from __future__ import annotations

import functools

from hypothesis import strategies as st

#: Texts that mean something to a terminal, a browser, a reader or a name that is compared by eye.
TRICKS = {
    "terminal": "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f",
    "turned": "\u202eevil\u202c\u2066x\u2069",
    "invisible": "sm\u200ball\ufeff\u00ad",
    "confusable": "\u0455mall",  # Cyrillic
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>'\"--><svg/onload=alert(1)>",
    "path": "../../../etc/passwd\0.toml",
    "format": "%s%n{0.__class__}${jndi:ldap://x}",
    "newline": "a\nINFO  forged line\u2028b",
    "combining": "z" + "\u0301" * 200,
}

#: Pieces of JSON, TOML and of what is neither, put into valid inputs.
TOKENS = (
    *(one.encode() for one in TRICKS.values()),
    b"null", b"true", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0", b"1e400", b"0x1f", b"1_000",
    b"9" * 20, b"9" * 5000, b"-" + b"9" * 400, b"1e-999", b"0." + b"1" * 400,
    b'"\\ud800"', b'"\\udc00\\ud800"', b"\xff\xfe", b"\xed\xa0\x80", b"\x00", b"\xef\xbb\xbf",
    b"[" * 300, b'{"a":' * 300, b"[" * 2000, b"[]", b"{}", b'""', b",", b":", b'"', b"\\", b"\n", b"=", b"'''", b'"""',
    b'"custom_id": "twice", ', b'"__proto__": {}, ', b"[[pools.auto]]\n", b"[a.b.c]\n", b"inf", b"nan", b"1979-05-27",
)  # fmt: skip

#: Too large for every example; each target gets them once.
LARGE = {
    "a megabyte without a space": b'"' + b"x" * 1_000_000 + b'"',
    "a million spaces": b'"' + b" " * 1_000_000 + b'"',
    "deep lists": b"[" * 100_000,
    "deep and closed": b"[" * 50_000 + b"]" * 50_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep tables": b"a = " + b"[" * 20_000,
    "deep keys": b".".join([b"a"] * 3_000) + b" = 1",
    "huge integer": b"a = " + b"9" * 100_000,
    "many keys twice": b"{" + b'"a": 1, ' * 50_000 + b'"a": 2}',
    "not utf-8": b"\xff\xfe\x00" * 1_000,
}


@functools.cache
def damaged(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """A valid input with up to four cuts, each with a piece of something else put in its place; or any bytes."""
    cut = st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from((b"", *TOKENS)) | st.binary(max_size=8))
    cuts = st.builds(hurt, st.sampled_from(seeds), st.lists(cut, max_size=4))
    return cuts | st.binary(max_size=64) if seeds else st.binary(max_size=256)


def hurt(seed: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, put in cuts:
        place = at % (len(seed) + 1)
        seed = seed[:place] + put + seed[place + length :]
    return seed
