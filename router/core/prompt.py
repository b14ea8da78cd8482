"""What a request's body says that matters for routing: its texts, the last user message, what it needs, its limits.

Total: any body that ``contract.requests`` let through is read without an error; what does not look as expected counts as
text or not at all. Nothing of the text leaves this stage but counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from router.core.tokens import EXACT_BYTES, NOTHING, Ids, TokenCount, count, count_all, looked_at, read

#: Capabilities that a request can need; models declare theirs by these names.
TOOLS, IMAGES, JSON_SCHEMA, LOGPROBS = "tools", "images", "json_schema", "logprobs"

#: What a chat message costs beside its text (its frame and role), and the frame of the answer that follows.
MESSAGE_TOKENS = 4
ANSWER_FRAME_TOKENS = 3
#: An image counts as one of 512 x 512 in four tiles, whatever it is.
IMAGE_TOKENS = 765

#: More texts than this, or more text than is counted whole, are counted as one: each call of the tokeniser has a price.
_APART = 32

_IMAGE_PARTS = frozenset({"image_url", "input_image", "image"})
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(slots=True)
class Prompt:
    """``user``: which of the texts are the last user message, from and to. ``frame_tokens``: tokens that are no text.

    ``completion_limit``: the longest answer asked for, ``None`` if unlimited.
    """

    texts: list[str] = field(default_factory=list)
    user: tuple[int, int] = (0, 0)
    frame_tokens: int = 0
    images: int = 0
    needs: tuple[str, ...] = ()
    completion_limit: int | None = None
    answers: int = 1

    @property
    def last_user_text(self) -> str:
        """What the last user message says; empty where there is none."""
        first, end = self.user
        return self.texts[first] if end - first == 1 else "\n".join(self.texts[first:end])

    @property
    def chars(self) -> int:
        """Characters of all texts."""
        return sum(map(len, self.texts))

    def read(self) -> tuple[TokenCount, Ids]:
        """Prompt tokens of the whole, and the ids of what is looked at of the last user message (``tokens.read``).

        Estimated where images, very long or very many texts are in it.
        """
        first, end = self.user
        if end - first > _APART:
            return self.tokens(), read(self.last_user_text)[1]
        parts = [read(text) for text in self.texts[first:end]]
        found = sum((tokens for tokens, _ in parts), TokenCount(0))
        ids = _together([seen for _, seen in parts])
        if len(self.texts) > end - first:
            found += _tokens(self.texts[:first] + self.texts[end:], exact=False)
        return self._with_frame(found), ids

    def looked_at(self) -> Ids:
        """The ids that ``read`` gives, for where the tokens are known: in no time, however long the prompt is."""
        first, end = self.user
        if end - first > _APART:
            return looked_at(self.last_user_text)
        return _together([looked_at(text) for text in self.texts[first:end]])

    def tokens(self, *, exact: bool = False) -> TokenCount:
        """Prompt tokens of the whole; ``exact``: as many texts as are not too many are counted whole."""
        return self._with_frame(_tokens(self.texts, exact=exact))

    def _with_frame(self, found: TokenCount) -> TokenCount:
        extra = self.frame_tokens + self.images * IMAGE_TOKENS
        return TokenCount(found.tokens + extra, found.estimated or self.images > 0)


def _together(parts: list[Ids]) -> Ids:
    return parts[0] if len(parts) == 1 else np.concatenate([NOTHING, *parts])


def _tokens(texts: list[str], *, exact: bool) -> TokenCount:
    """Of all of them together: each apart, or, where they are many or long, as one."""
    apart = len(texts) <= _APART and (exact or sum(map(len, texts)) <= EXACT_BYTES)
    if apart or len(texts) == 1:
        return count_all(texts, exact=exact)
    return TokenCount(count("\n".join(texts), exact=exact).tokens, estimated=True)


def read_body(body: dict[str, Any]) -> Prompt:
    """The prompt in a body of any of the endpoints. Takes 2 us for a short chat."""
    prompt = Prompt()
    needs = set()
    for name in ("messages", "input", "prompt"):
        if (given := body.get(name)) is not None:
            _read(prompt, given)
    if isinstance(instructions := body.get("instructions"), str):
        prompt.texts.append(instructions)
    if tools := body.get("tools") or body.get("functions"):
        needs.add(TOOLS)
        prompt.texts.append(orjson.dumps(tools).decode())
    if _asks_for_schema(body):
        needs.add(JSON_SCHEMA)
    if body.get("logprobs") or body.get("top_logprobs"):
        needs.add(LOGPROBS)
    if prompt.images:
        needs.add(IMAGES)
    limits = [limit for name in _LIMITS if type(limit := body.get(name)) is int and limit > 0]
    prompt.completion_limit = min(limits) if limits else None
    if type(answers := body.get("n")) is int and answers > 0:
        prompt.answers = answers
    prompt.needs = tuple(sorted(needs))
    return prompt


def _read(prompt: Prompt, given: Any) -> None:
    """``given``: text, messages, or texts, or token ids, or lists of those."""
    if isinstance(given, str):
        prompt.texts.append(given)
        prompt.user = len(prompt.texts) - 1, len(prompt.texts)
        return
    if not isinstance(given, list):
        return
    for item in given:
        if isinstance(item, dict):
            _read_message(prompt, item)
        elif isinstance(item, str):
            prompt.texts.append(item)
            prompt.user = len(prompt.texts) - 1, len(prompt.texts)
        elif isinstance(item, int):
            prompt.frame_tokens += 1
        elif isinstance(item, list):
            prompt.frame_tokens += len(item)
    if prompt.texts and given and isinstance(given[0], dict):
        prompt.frame_tokens += ANSWER_FRAME_TOKENS


def _read_message(prompt: Prompt, message: dict[str, Any]) -> None:
    prompt.frame_tokens += MESSAGE_TOKENS
    before = len(prompt.texts)
    content = message.get("content")
    if isinstance(content, str):
        prompt.texts.append(content)
    elif isinstance(content, list):
        for part in content:
            _read_part(prompt, part)
    if message.get("role") == "user":
        prompt.user = before, len(prompt.texts)
    if isinstance(name := message.get("name"), str):
        prompt.texts.append(name)
    if calls := message.get("tool_calls"):
        prompt.texts.append(orjson.dumps(calls).decode())


def _read_part(prompt: Prompt, part: Any) -> None:
    if isinstance(part, str):
        prompt.texts.append(part)
    elif isinstance(part, dict):
        if isinstance(text := part.get("text"), str):
            prompt.texts.append(text)
        elif part.get("type") in _IMAGE_PARTS:
            prompt.images += 1


def _asks_for_schema(body: dict[str, Any]) -> bool:
    asked = body.get("response_format")
    if asked is None and isinstance(text := body.get("text"), dict):
        asked = text.get("format")
    return isinstance(asked, dict) and asked.get("type") == "json_schema"
