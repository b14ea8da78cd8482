"""Texts as people write them, of any number of tokens: cut out of the demo's prompts.

One sentence over and over would flatter the tokeniser: it finds each of its words whole and in the processor's cache, in less
than half the time that it takes for text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import orjson

from router.core.tokens import o200k_base
from router.demo.play import demo_prompts


@cache
def _tokens() -> list[int]:
    messages = (message for line in demo_prompts() for message in orjson.loads(line)["body"]["messages"])
    return o200k_base().encode_ordinary("\n\n".join(message["content"] for message in messages))


def texts(lengths: Iterable[int]) -> Iterator[str]:
    """One text for each length; they begin anew where the prompts end."""
    tokens, at = _tokens(), 0
    for length in lengths:
        if at + length > len(tokens):
            at = 0
        yield o200k_base().decode(tokens[at : at + length])
        at += length
