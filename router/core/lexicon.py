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

#: Holds the texts of all tokens apart when they are looked at as one: a character that is in none, and no part of a word.
_BETWEEN = "\U0010ffff"
#: What of a token's text is word: its letters and digits up to an apostrophe. What stands before and behind parts it.
_WORD = re.compile(rf"([^\w{_BETWEEN}]*)(\w*)([^{_BETWEEN}]*){_BETWEEN}")
_ENDINGS = frozenset({"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})

_NEGATIONS = frozenset({"not", "except", "never", "false", "no", "least", "without"})

#: What a token's text may show: asked of each of its characters, one that does is enough. But for marks, which all must be, and negations.
SHOWS: dict[str, Callable[[str], bool]] = {
    "digits": str.isdigit,
    "marks": lambda c: not (c.isalnum() or c.isspace()),
    "lines": lambda c: c == "\n",
    "questions": lambda c: c in "?\uff1f",
    "maths": lambda c: c in "=+*/^<>\\$%|~\u2211\u221a\u00d7\u00f7\u2264\u2265",
    "code": lambda c: c in "{};`()_[]",
    "foreign": lambda c: not c.isascii(),
    "quotes": lambda c: c in '"\u201c',
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
    """Made at first use, in a third of a second: all texts are looked at as one, since asking each takes two."""
    encoding = o200k_base()
    raw = [encoding.decode_single_token_bytes(token) for token in range(RANKS)]
    texts = [token.decode("utf-8", "replace") for token in raw]
    joined = "".join(text + _BETWEEN for text in texts)
    parts = _WORD.findall(joined)
    if len(parts) != RANKS:
        raise ValueError(f"{len(parts) - RANKS} tokens hold U+10FFFF, which holds their texts apart here")
    words = _BETWEEN.join(word for _, word, _ in parts).lower().encode().split(_BETWEEN.encode())
    before, behind = [bool(part) for part, _, _ in parts], [bool(part) for _, _, part in parts]
    for token, text in enumerate(texts):
        if text in _ENDINGS:
            words[token] = b""
        elif "\ufffd" in text and text.encode() != raw[token]:
            before[token], words[token], behind[token] = False, raw[token], False  # a part of a character
    words += [b""] * (_SIZE - RANKS)
    lengths = np.fromiter(map(len, words), np.int64, _SIZE)
    none = lengths[:RANKS] == 0
    shape = np.full(_SIZE, OPENS | CLOSES, np.uint16)
    breaks = np.fromiter(("\n" in text for text in texts), bool, RANKS)
    shape[:RANKS] = OPENS * (before | none) | CLOSES * (behind | none) | BREAKS * breaks | lengths[:RANKS] << LENGTH
    powers = np.cumprod(np.concatenate([[np.uint64(1)], np.full(POWERS - 1, _P, np.uint64)]), dtype=np.uint64)
    return Lexicon(polynomials(words, powers), shape, _kinds(texts, joined), powers)


def _kinds(texts: Sequence[str], joined: str) -> U64:
    """What each text shows, packed. ``joined``: all of them, each with ``_BETWEEN`` behind it."""
    codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    answers = np.zeros(ord(_BETWEEN) + 1, bool)
    answers[codes] = True
    there = np.flatnonzero(answers)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    starts = np.cumsum(lengths) - lengths
    kinds = np.zeros((2, _SIZE), np.uint64)
    for number, (name, show) in enumerate(SHOWS.items()):
        if name == "negations":
            shown = np.fromiter(map(show, texts), bool, len(texts))
        else:
            every = name == "marks"
            answers[there] = [show(chr(c)) for c in there.tolist()]
            answers[-1] = every  # _BETWEEN, the last of all characters, which decides nothing
            shown = (np.logical_and if every else np.logical_or).reduceat(answers[codes], starts)
        kinds[number // _A_WORD, : len(texts)] |= shown.astype(np.uint64) << np.uint64(number % _A_WORD * KIND_BITS)
    return kinds


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
