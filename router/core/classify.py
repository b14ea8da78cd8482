"""Which kind of task a request is. Here: by configured words. A learned classifier takes the same place.

``Classifier`` is that place: it reads a prompt, says the task class, and may say per model how probable a good enough
answer is. ``RuleClassifier`` knows only classes. Text is looked at up to ``LOOKED_AT_CHARS``, so the time is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from router.contract.values import value
from router.core.prompt import Prompt

GENERAL = "general"

#: Of a longer message, the first and the last half of this are looked at: the task is said at an end.
LOOKED_AT_CHARS = 16 * 1024


@value(frozen=True, slots=True)
class Classification:
    """``p_ok``: model -> calibrated probability that its answer is good enough; empty where nothing was learned."""

    task_class: str
    p_ok: Mapping[str, float] = field(default_factory=dict)


class Classifier(Protocol):
    """Pure: the same prompt is always of the same class."""

    @property
    def classes(self) -> Sequence[str]:
        """Every class that it can say, in a fixed order."""
        ...

    def classify(self, prompt: Prompt, prompt_tokens: int) -> Classification:
        """Never raises, whatever the prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """A class and the words that show it; a word counts where it begins a word, whatever its case."""

    task_class: str
    words: tuple[str, ...]


class RuleClassifier:
    """The first rule of which the last user message has a word; else ``general``. Takes 0.3 us a rule for a short message."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule.task_class, tuple(word.lower() for word in rule.words)) for rule in rules]
        self._classes = tuple(dict.fromkeys([rule.task_class for rule in rules] + [GENERAL]))
        self._made = {name: Classification(name) for name in self._classes}

    @property
    def classes(self) -> Sequence[str]:
        return self._classes

    def classify(self, prompt: Prompt, prompt_tokens: int) -> Classification:  # noqa: ARG002 - the protocol's
        text = prompt.last_user_text
        if len(text) > LOOKED_AT_CHARS:
            text = text[: LOOKED_AT_CHARS // 2] + "\n" + text[-LOOKED_AT_CHARS // 2 :]
        text = text.lower()
        for name, words in self._rules:
            for word in words:
                if word in text and _begins_a_word(word, text):
                    return self._made[name]
        return self._made[GENERAL]


def _begins_a_word(word: str, text: str) -> bool:
    """Whether ``word`` stands somewhere in ``text`` with no letter or digit before it: "sum" is in "sums", not in "assume"."""
    if not word[:1].isalnum():
        return True
    at = text.find(word)
    while at > 0 and text[at - 1].isalnum():
        at = text.find(word, at + 1)
    return at >= 0
