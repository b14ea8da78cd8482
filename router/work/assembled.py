"""The answer that a stream's chunks make: the body that the same call would have had without ``stream``. Pure.

- Text, of whatever field of a ``delta`` (``content``, ``refusal``, ``reasoning_content``), is joined; so are the arguments of tool calls,
  which are told apart by ``index``. Names and ids of tool calls are said once; servers that repeat them change nothing.
- Lists (``logprobs``, annotations) are joined, ``null`` changes nothing, of everything else the last word counts; of what all
  chunks repeat (``id``, ``created``, ``model``) the first.
- Choices are told apart by ``index``. A chunk without choices may bring ``usage``; the last one counts.

Hostile input: what is kept is counted, and more than the limit raises ``TooLarge``; what is no chunk raises ``BadChunk``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import orjson

from router.work.inflate import TooLarge

#: More answers, or calls in one, no request of OpenAI's API can ask for.
MOST_PARTS: Final = 128
#: What a new choice, call or field takes, beside its text.
_PART_BYTES: Final = 32
_ONCE = frozenset({"id", "created", "model"})
#: Read on their own; ``obfuscation`` is padding.
_APART = frozenset({"choices", "usage", "object", "obfuscation"})
_CALLED = frozenset({"function", "custom"})
_JOINED = ("arguments", "input")

Json = dict[str, Any]


class BadChunk(Exception):  # noqa: N818 - an outcome of reading, not a fault of the program
    """Not a chunk of a completion."""


class Assembly:
    """Collects the chunks of one stream.

    Args:
        chat: chat completions, which have messages; else completions, which have ``text``.
        limit_bytes: of text and lists together, about.
    """

    def __init__(self, *, chat: bool, limit_bytes: int) -> None:
        self._chat = chat
        self._left = limit_bytes
        self._head: Json = {}
        self._choices: dict[int, _Choice] = {}
        self.usage: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one chunk; true when it brought something of an answer: text, a call, a reason to finish."""
        if not isinstance(chunk, dict) or not isinstance(choices := chunk.get("choices", []), list | None):
            raise BadChunk
        for name, value in chunk.items():
            if name in _APART or (name in _ONCE and name in self._head):
                continue
            self.keep(self._head, name, value)
        if chunk.get("usage") is not None:
            self.usage = chunk["usage"]
        fresh = False
        for one in choices or ():
            fresh |= self._add_choice(one)
        return fresh

    def finished(self, choices: int) -> bool:
        """Whether there are so many choices, and each has said why it ended."""
        return len(self._choices) >= choices and all(one.fields.get("finish_reason") for one in self._choices.values())

    @property
    def text(self) -> str:
        """All that the provider wrote, for counting."""
        return "".join(one.written() for one in self._choices.values())

    def body(self) -> Json:
        """What there is so far, as the answer's body."""
        kind = "chat.completion" if self._chat else "text_completion"
        body = {**self._head, "object": kind, "choices": [one.whole(n) for n, one in sorted(self._choices.items())]}
        return body if self.usage is None else {**body, "usage": self.usage}

    def _add_choice(self, found: Any) -> bool:
        index = found.get("index", 0) if isinstance(found, dict) else None
        if not _is_index(index):
            raise BadChunk
        choice = self._choices.get(index)
        if choice is None:
            self.count("")
            choice = self._choices[index] = _Choice(self, chat=self._chat)
        return choice.add(found)

    def count(self, value: Any) -> None:
        """Take the room of one more value; ``TooLarge`` when there is none."""
        try:
            size = len(value) if isinstance(value, str) else len(orjson.dumps(value))
        except TypeError as error:  # nested deeper than JSON is written
            raise BadChunk from error
        self.count_text(size + _PART_BYTES)

    def count_text(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge

    def keep(self, fields: Json, name: str, value: Any) -> bool:
        """Set a field to the last word on it; false when that is nothing new."""
        if value is None or (name in fields and fields[name] == value):
            return False
        self.count(value)
        fields[name] = value
        return True


class _Choice:
    """One choice: ``texts`` that are joined, ``calls`` to tools, and its other fields."""

    def __init__(self, owner: Assembly, *, chat: bool) -> None:
        self._owner, self._chat = owner, chat
        self._texts: dict[str, list[str]] = {}
        self._message: Json = {}
        self._calls: dict[int, Json] = {}
        self._function: Json = {}
        self.fields: Json = {}

    def add(self, found: Json) -> bool:
        fresh = False
        for name, value in found.items():
            if name == "index" or value is None:
                continue
            if name in {"delta", "message"}:  # the latter: servers that send a whole answer as one event
                fresh |= self._add_delta(value)
            elif name == "text" and isinstance(value, str):
                fresh |= self._join("text", value)
            elif name == "logprobs" and isinstance(value, dict):
                self.fields["logprobs"] = self._joined(self.fields.get("logprobs"), value)
            else:
                fresh |= self._owner.keep(self.fields, name, value) and name == "finish_reason"
        return fresh

    def written(self) -> str:
        calls = [part for call in [*self._calls.values(), self._function] for part in _texts_of(call)]
        return "".join([*("".join(text) for text in self._texts.values()), *calls])

    def whole(self, index: int) -> Json:
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        base = {"index": index, "logprobs": None, "finish_reason": None, **self.fields}
        if not self._chat:
            return {**base, "text": texts.get("text", "")}
        message = {"role": "assistant", "content": None, **self._message, **texts}
        if self._function:
            message["function_call"] = _whole(self._function)
        if self._calls:
            message["tool_calls"] = [_call(self._calls[at]) for at in sorted(self._calls)]
        return {**base, "message": message}

    def _add_delta(self, delta: Any) -> bool:
        if not isinstance(delta, dict):
            raise BadChunk
        fresh = False
        for name, value in delta.items():
            if value is None:
                continue
            if name == "tool_calls" and isinstance(value, list):
                for call in value:
                    self._add_call(call)
                fresh |= bool(value)
            elif isinstance(value, str) and name != "role":
                fresh |= self._join(name, value)
            elif isinstance(value, list):
                self._extend(self._message, name, value)
                fresh |= bool(value)
            elif name == "function_call" and isinstance(value, dict):
                self._merge_call(self._function, value)
                fresh = True
            else:
                self._owner.keep(self._message, name, value)
        return fresh

    def _join(self, name: str, text: str) -> bool:
        if name not in self._texts:
            self._owner.count(name)
            self._texts[name] = []
        self._owner.count_text(len(text))
        self._texts[name].append(text)
        return bool(text)

    def _add_call(self, found: Any) -> None:
        if not isinstance(found, dict):
            raise BadChunk
        index = found.get("index")
        if index is None:  # not said: an id that is new begins the next call
            index = max(self._calls, default=-1)
            if index < 0 or (found.get("id") and found["id"] != self._calls[index].get("id")):
                index += 1
        if not _is_index(index):
            raise BadChunk
        self._merge_call(self._calls.setdefault(index, {}), {k: v for k, v in found.items() if k != "index"})

    def _merge_call(self, call: Json, found: Mapping[str, Any]) -> None:
        for name, value in found.items():
            if name in _CALLED and isinstance(value, dict):
                self._merge_call(call.setdefault(name, {}), {k: v for k, v in value.items() if k not in _CALLED})
            elif name in _JOINED and isinstance(value, str):
                self._owner.count_text(len(value))
                call.setdefault(name, []).append(value)
            elif name not in _CALLED | {*_JOINED} and not call.get(name):
                self._owner.keep(call, name, value)

    def _joined(self, kept: Any, found: Json) -> Json:
        joined: Json = kept if isinstance(kept, dict) else {}
        for name, value in found.items():
            if isinstance(value, list):
                self._extend(joined, name, value)
            else:
                self._owner.keep(joined, name, value)
        return joined

    def _extend(self, kept: Json, name: str, value: list[Any]) -> None:
        self._owner.count(value)
        if not isinstance(kept.get(name), list):
            kept[name] = []
        kept[name].extend(value)


def _call(parts: Json) -> Json:
    """A tool call with its joined texts; OpenAI's ``type`` where a server left it out."""
    whole = _whole(parts)
    if "function" in whole:
        whole.setdefault("type", "function")
    return whole


def _whole(parts: Json) -> Json:
    whole: Json = {}
    for name, value in parts.items():
        whole[name] = _whole(value) if name in _CALLED else "".join(value) if name in _JOINED else value
    return whole


def _texts_of(parts: Json) -> list[str]:
    found: list[str] = []
    for name, value in parts.items():
        if name in _CALLED:
            found += _texts_of(value)
        elif name in _JOINED:
            found += value
        elif name == "name" and isinstance(value, str):
            found.append(value)
    return found


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_PARTS
