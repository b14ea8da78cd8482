"""What each token of the tokeniser shows, looked up once: its part of a word, and kinds of signs. 200,000 rows.

``core/words`` puts words together from it, ``core/features`` counts the kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from router.core.tokens import RANKS, o200k_base

U64 = NDArray[np.uint64]

#: Odd, so that no power of it is 0.
_P = 0x9E3779B97F4A7C15
#: Powers that are kept, two to the something; of what lies so far before the end of a word they are used again, which only makes another hash.
POWERS = 1024

_SIZE = RANKS + 2
#: Bits of ``Lexicon.shape``.
OPENS, CLOSES, BREAKS, LENGTH = 1, 2, 4, 3
#: Of each kind in ``Lexicon.kinds``: a text that is looked at has at most 3 Ki tokens, one a byte. Five of them a word.
KIND_BITS, _A_WORD = 12, 5

#: What of a token's text is word: its letters and digits up to an apostrophe. What stands before and behind parts it.
_WORD = re.compile(r"([^\w]*)((?:[^\W_]|_)*)(.*)", re.DOTALL)
_ENDINGS = frozenset({"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})

_NEGATIONS = frozenset({"not", "except", "never", "false", "no", "least", "without"})

#: What a token's text may show.
SHOWS: dict[str, Callable[[str], bool]] = {
    "digits": lambda text: any(c.isdigit() for c in text),
    "marks": lambda text: not any(c.isalnum() or c.isspace() for c in text),
    "lines": lambda text: "\n" in text,
    "questions": lambda text: "?" in text or "\uff1f" in text,
    "maths": lambda text: any(c in "=+*/^<>\\$%|~\u2211\u221a\u00d7\u00f7\u2264\u2265" for c in text),
    "code": lambda text: any(c in "{};`()_[]" for c in text),
    "foreign": lambda text: not text.isascii(),
    "quotes": lambda text: '"' in text or "\u201c" in text,
    "negations": lambda text: text.strip().lower() in _NEGATIONS,
}


@dataclass(frozen=True, slots=True)
class Lexicon:
    """By token id; packed, since a row that is not in the processor's cache costs as much as all that is done with it.

    ``hashes``: of what is word in it, in lower case (``polynomials``). ``shape``: ``OPENS`` and ``CLOSES`` where it is parted
    from the token before and from the next, ``BREAKS`` where it has a line break; from bit ``LENGTH`` on the bytes of its word.
    ``kinds`` (2, tokens): one in each field of ``KIND_BITS`` whose kind its text shows (``counted`` unpacks sums of them).
    ``powers`` (POWERS,): of the hash's base.
    """

    hashes: U64
    shape: NDArray[np.uint16]
    kinds: U64
    powers: U64


@cache
def lexicon() -> Lexicon:
    """Made at first use, in a second."""
    shape, kinds = np.full(_SIZE, OPENS | CLOSES, np.uint16), np.zeros((2, _SIZE), np.uint64)
    encoding, words = o200k_base(), [b""] * _SIZE
    places = [
        (show, number // _A_WORD, 1 << (number % _A_WORD * KIND_BITS)) for number, show in enumerate(SHOWS.values())
    ]
    for token in range(RANKS):
        raw = encoding.decode_single_token_bytes(token)
        before, word, behind = _parts(raw)
        words[token] = word
        shape[token] = (
            OPENS * (before or not word) | CLOSES * (behind or not word) | BREAKS * (b"\n" in raw) | len(word) << LENGTH
        )
        text = raw.decode("utf-8", "replace")
        packed = [0, 0]
        for show, field, one in places:
            if show(text):
                packed[field] += one
        kinds[:, token] = packed
    powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(POWERS - 1, _P, np.uint64)]), dtype=np.uint64)
    return Lexicon(polynomials(words, powers), shape, kinds, powers)


def counted(sums: Sequence[U64]) -> NDArray[np.float64]:
    """(n, len(SHOWS)) of sums (2, n) of ``kinds``, each over fewer than 2^``KIND_BITS`` tokens."""
    mask = np.uint64(2**KIND_BITS - 1)
    fields = [sums[n // _A_WORD] >> np.uint64(n % _A_WORD * KIND_BITS) & mask for n in range(len(SHOWS))]
    return np.stack(fields, axis=1).astype(np.float64)


def polynomials(words: Sequence[bytes], powers: U64) -> U64:
    """The hash of each word's bytes: sum of (byte + 1) P^(bytes behind it), mod 2^64; 0 of an empty one."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    values = np.frombuffer(b"".join(words), np.uint8).astype(np.uint64) + np.uint64(1)
    ends = np.cumsum(lengths)
    behind = np.repeat(ends, lengths) - np.arange(len(values)) - 1
    found = np.zeros(len(words), np.uint64)
    some = lengths > 0
    found[some] = np.add.reduceat(values * powers[behind % POWERS], (ends - lengths)[some])
    return found


def _parts(token: bytes) -> tuple[bool, bytes, bool]:
    """Whether something stands before the word in a token, the word in lower case, whether something stands behind it."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return False, token, False  # a part of a character
    if text in _ENDINGS:
        return True, b"", True
    found = _WORD.fullmatch(text)
    assert found is not None
    before, word, behind = found.groups()
    return bool(before), word.lower().encode(), bool(behind)
