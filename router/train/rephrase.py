"""The same question in other words: changes to a prompt that should not change where it goes. Deterministic.

| name | does |
|---|---|
| ``case`` | all in upper case, or all in lower case |
| ``typos`` | in one word of twelve two neighbouring letters are swapped |
| ``filler`` | words that say nothing, at the beginning and in the middle |
| ``politeness`` | a greeting before, thanks behind |
| ``order`` | the sentences of the first paragraph in another order; what follows them (options, data) stays |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[A-Za-z]{5,}")
_FILLERS = ("Well,", "So,", "Okay, so", "Basically,", "Just wondering:", "Hm,")
_MIDDLE = (" basically", " actually", " you know,", " sort of", " kind of", " I guess")
_BEFORE = (
    "Hello! Could you please help me with this? ",
    "Hi there, ",
    "Please answer this: ",
    "Good morning. Please: ",
)
_BEHIND = (" Thank you very much!", " Thanks a lot.", " Thanks in advance!", " I would be grateful.")


def case(text: str, dice: Random) -> str:
    return text.upper() if dice.random() < 0.5 else text.lower()


def typos(text: str, dice: Random) -> str:
    def swapped(found: re.Match[str]) -> str:
        word = found[0]
        if dice.random() >= 1 / 12:
            return word
        at = dice.randrange(1, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _WORD.sub(swapped, text)


def filler(text: str, dice: Random) -> str:
    first, behind = text.partition(" ")[::2]
    words = behind.split(" ")
    if len(words) > 6:
        at = dice.randrange(2, min(len(words), 20) - 1)
        words[at] += dice.choice(_MIDDLE)
    return f"{dice.choice(_FILLERS)} {first} {' '.join(words)}"


def politeness(text: str, dice: Random) -> str:
    return dice.choice(_BEFORE) + text + dice.choice(_BEHIND)


def order(text: str, dice: Random) -> str:
    paragraph, line, rest = text.partition("\n")
    sentences = _SENTENCE.split(paragraph)
    if len(sentences) < 2:
        return text
    dice.shuffle(sentences)
    return " ".join(sentences) + line + rest


REPHRASINGS: Mapping[str, Callable[[str, Random], str]] = {
    "case": case,
    "typos": typos,
    "filler": filler,
    "politeness": politeness,
    "order": order,
}


def rephrased(text: str, name: str, seed: int = 0) -> str:
    """The text after one rephrasing; the same for the same text and seed."""
    return REPHRASINGS[name](text, Random(f"{seed} {name} {text}"))  # noqa: S311 - nobody is to be surprised
