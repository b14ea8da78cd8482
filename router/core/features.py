"""What a classifier sees of a prompt: its words and pairs of words, hashed, and some numbers of its surface.

Made out of the token ids that counting made, for a batch of prompts at once.

- **Bag**: each word and each pair of neighbouring words (``core/words``: whatever their case) is a number below
  2^``BITS``: multiplied, the upper bits taken. Each counts once, however often it is there. Of n such numbers each weighs
  1 / sqrt(n), so long and short prompts are vectors of one length. Two words that meet in one number share a weight.
- **Surface** (``SURFACE``, in this order): what no bag shows, in logarithms and in shares of the words. None of it depends on
  upper and lower case.

Of a long prompt counting makes ids of both ends only: the task is said at an end, and the time is bounded.

Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.lexicon import BREAKS, SHOWS, counted, lexicon
from router.core.tokens import NOTHING, Ids
from router.core.words import Words, words_of

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

BITS = 17
_WORD = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xCF1BBCDCB7A56463)
_SHIFT = np.uint64(64 - BITS)

#: At most so many of a kind a word count.
_MOST_A_WORD = 4.0
#: A long word, in bytes.
_LONG = 8

SURFACE = (
    *(f"{name}_a_word" for name in SHOWS),
    "log_words",
    "log_word_bytes",
    "log_longest_word",
    "long_words_share",
    "log_lines",
    "log_first_line",
    "log_last_line",
    "log_other_lines",
    "spread_of_other_lines",
)


@dataclass(frozen=True, slots=True)
class Features:
    """Of n prompts.

    ``numbers``: of all bags, one after the other; ``starts`` (n + 1,): where each begins, and the end of the last;
    ``surface`` (n, len(SURFACE)).
    """

    numbers: Whole
    starts: Whole
    surface: Array


def features_of(texts: Sequence[Ids]) -> Features:
    """Of prompts given as token ids (``core.tokens.read``): 8 us for 100 tokens in batches of 100."""
    counts = np.fromiter(map(len, texts), np.int64, len(texts))
    ids = np.concatenate([NOTHING, *texts]).astype(np.intp)  # as an index wants it: once, not for every table
    words = words_of(ids, counts)
    numbers, starts = _bags(words, len(texts))
    return Features(numbers, starts, _surface(ids, counts, words))


def _bags(words: Words, n: int) -> tuple[Whole, Whole]:
    """Each text's words and pairs, every one once, in ascending order."""
    follows = words.text[1:] == words.text[:-1]
    first, second = words.hashes[:-1][follows], words.hashes[1:][follows]
    singles = (words.hashes * _WORD) >> _SHIFT
    pairs = ((first * _FIRST ^ second * _SECOND) * _WORD) >> _SHIFT
    found = np.concatenate(
        [words.text << BITS | singles.astype(np.int64), words.text[1:][follows] << BITS | pairs.astype(np.int64)]
    )
    found.sort()
    found = found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found
    starts = np.concatenate([[0], np.cumsum(np.bincount(found >> BITS, minlength=n))])
    return found & (2**BITS - 1), starts


def _surface(ids: NDArray[np.intp], counts: Whole, words: Words) -> Array:
    """(n, len(SURFACE)), as that names them."""
    n = len(counts)
    shown = np.zeros((n, len(SHOWS)))
    some = counts > 0
    if some.any():
        firsts = (np.cumsum(counts) - counts)[some]
        shown[some] = counted([np.add.reduceat(kinds.take(ids), firsts) for kinds in lexicon().kinds])
    breaks = lexicon().shape.take(ids) & BREAKS
    number = np.bincount(words.text, minlength=n)
    at_least_one = np.maximum(number, 1)
    letters = np.bincount(words.text, words.lengths, n)
    longest = np.zeros(n)
    worded = number > 0
    if worded.any():
        longest[worded] = np.maximum.reduceat(words.lengths, (np.cumsum(number) - number)[worded])
    long = np.bincount(words.text[words.lengths >= _LONG], minlength=n)
    return np.column_stack(
        [
            np.minimum(shown / at_least_one[:, None], _MOST_A_WORD),
            np.log1p(number),
            np.log1p(letters / at_least_one),
            np.log1p(longest),
            long / at_least_one,
            _lines(np.cumsum(breaks, dtype=np.int64), words, n),
        ]
    )


def _lines(line_of: Whole, words: Words, n: int) -> Array:
    """(n, 5): lines that have words; words of the first, of the last, of the others (mean; deviation to mean).

    ``line_of``: by token, a number that grows from line to line.
    """
    found = np.zeros((n, 5))
    if len(words.text) == 0:
        return found
    line = line_of[words.token]
    begins = np.flatnonzero(np.concatenate([[True], (line[1:] != line[:-1]) | (words.text[1:] != words.text[:-1])]))
    sizes = np.diff(begins, append=len(line)).astype(np.float64)
    text = words.text[begins]
    number = np.bincount(text, minlength=n)
    firsts = np.cumsum(number) - number
    some = number > 0
    first, last = np.zeros(n), np.zeros(n)
    first[some] = sizes[firsts[some]]
    last[some] = sizes[(firsts + number - 1)[some]]
    alone = number <= 1
    others = np.maximum(number - 1, 1)
    mean = np.where(alone, first, (np.bincount(text, sizes, n) - first) / others)
    square = np.where(alone, first**2, (np.bincount(text, sizes**2, n) - first**2) / others)
    spread = np.sqrt(np.maximum(square - mean**2, 0.0)) / np.maximum(mean, 1.0)
    return np.column_stack([np.log1p(number), np.log1p(first), np.log1p(last), np.log1p(mean), spread])
