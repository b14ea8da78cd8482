"""Which kind of task a request is, and, where that was learned, how probably each model's answer is good enough.

The operator's rules come first: the first one of which the last user message has a word says the class. Where none fits, the
class is what a fitted classifier (``core/learned``) says; without one, ``general``. ``p_ok`` is the classifier's in any case.

Pure: of the same prompt and the same version it says the same, alone or in any batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from router.contract.values import value
from router.core.learned import Heads
from router.core.tokens import Ids
from router.core.usual import Centroids, Usual

GENERAL = "general"

#: A rule looks at the first and the last half of this of a longer message: the task is said at an end.
LOOKED_AT_CHARS = 16 * 1024


class Seen(NamedTuple):
    """What is looked at of a prompt: ``text`` of the last user message, and ``ids`` of its tokens (``core.prompt.Prompt.read``)."""

    text: str
    ids: Ids


@value(frozen=True, slots=True)
class Classification:
    """``p_ok``: model -> calibrated probability that its answer is good enough; empty where nothing was learned.

    ``learned``: the class by the heads alone, whatever the rules say; ``far``: its surface is far from that class's centroid.
    """

    task_class: str
    p_ok: Mapping[str, float] = field(default_factory=dict)
    learned: str = GENERAL
    far: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A class and the words that show it; a word counts where it begins a word, whatever its case."""

    task_class: str
    words: tuple[str, ...]


class Rules:
    """The first rule that fits. Takes 0.3 us a rule for a short message."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [(rule.task_class, tuple(word.lower() for word in rule.words)) for rule in rules]
        self.classes = tuple(dict.fromkeys(rule.task_class for rule in rules))

    def class_of(self, text: str) -> str | None:
        """Its class, or ``None``."""
        if not self._rules:
            return None
        if len(text) > LOOKED_AT_CHARS:
            text = text[: LOOKED_AT_CHARS // 2] + "\n" + text[-LOOKED_AT_CHARS // 2 :]
        text = text.lower()
        for name, words in self._rules:
            for word in words:
                if word in text and _begins_a_word(word, text):
                    return name
        return None


class Classifier:
    """Rules, and what was learned (``heads``); ``usual``: what the heads' rows were like, by class."""

    def __init__(
        self, rules: Sequence[Rule], heads: Heads | None = None, usual: Mapping[str, Usual] | None = None
    ) -> None:
        self._rules = Rules(rules)
        self._heads = heads
        self._centroids = Centroids(usual) if usual else None
        learned = heads.classes if heads is not None and heads.classes else (GENERAL,)
        self.classes = tuple(dict.fromkeys([*self._rules.classes, *learned]))
        self._ruled = {name: Classification(name) for name in self.classes}

    def classify(self, prompts: Sequence[Seen]) -> list[Classification]:
        """Of each prompt; never raises, whatever they say."""
        ruled = [self._rules.class_of(prompt.text) for prompt in prompts]
        if self._heads is None:
            return [self._ruled[name or GENERAL] for name in ruled]
        found = self._heads.read([prompt.ids for prompt in prompts])
        classes = [learned or GENERAL for learned in found.classes]
        far = [False] * len(prompts) if self._centroids is None else self._centroids.far(classes, found.surface)
        return [
            Classification(name or learned, probabilities, learned, is_far)
            for name, learned, probabilities, is_far in zip(ruled, classes, found.p_ok, far, strict=True)
        ]


def _begins_a_word(word: str, text: str) -> bool:
    """Whether ``word`` stands somewhere in ``text`` with no letter or digit before it: "sum" is in "sums", not in "assume"."""
    if not word[:1].isalnum():
        return True
    at = text.find(word)
    while at > 0 and text[at - 1].isalnum():
        at = text.find(word, at + 1)
    return at >= 0
