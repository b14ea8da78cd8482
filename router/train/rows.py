"""The rows that a classifier is fitted to and judged by: one prompt each, and how good each model's answer was.

One JSON object a line, plain or gzip (a name ending in ``.gz``):

| field | |
|---|---|
| ``id`` | any string, once |
| ``prompt`` | text of the user's message; or ``messages``, as a request has them |
| ``arms`` | ``{model: {"quality": 0..1, "cost_usd"?: dollars, "prompt_tokens"?, "completion_tokens"?}}``; to score only, it may be absent; ``{}``: nobody judged an answer |
| ``class`` | the task class, if one is known: to be learned |
| ``domain``, ``source`` | labels of a benchmark, for reports alone: no request carries them |

A row may have arms of some models only, as logs do: what one model answered nobody asked the others. Other fields are ignored. Whatever is wrong is said with file, line and field.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import orjson

from router.contract.errors import ConfigError
from router.core.prompt import Prompt, read_body
from router.core.slicing import KIND

MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Arm:
    """What one model made of a prompt: ``quality`` 0..1; ``cost_usd`` of the call, ``None`` where nobody wrote it down."""

    quality: float
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line. ``task_class`` and ``domain`` are empty where the line has none."""

    id: str
    prompt: Prompt
    arms: Mapping[str, Arm] = field(default_factory=dict)
    task_class: str = ""
    domain: str = ""


def read_rows(files: Iterable[Path], *, scored: bool = True) -> list[Row]:
    """All rows of some files, in their order.

    Args:
        files: JSONL, ``.gz`` or not.
        scored: Whether each row must say which arms it has, be it ``{}``.

    Raises:
        ConfigError: a file cannot be read, a line is no such row, or an id is there twice; the first of them.
    """
    found: list[Row] = []
    seen: dict[str, str] = {}
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            where = f"{file}, line {number}"
            if not line.strip():
                continue
            row = _row(line, where, scored=scored)
            if row.id in seen:
                raise ConfigError(f"{where}: id {row.id[:80]!r} is also in {seen[row.id]}")
            seen[row.id] = where
            found.append(row)
    if not found:
        raise ConfigError("no rows: the files are empty")
    return found


def enough(rows: Iterable[Row], least: int) -> tuple[list[Row], dict[str, int]]:
    """Rows with arms of models that have at least ``least`` of them, and the other models with how many they have."""
    judged = [row for row in rows if row.arms]
    counts = Counter(model for row in judged for model in row.arms)
    rare = {model: count for model, count in sorted(counts.items()) if count < least}
    if not rare:
        return judged, rare
    kept = [replace(row, arms={name: arm for name, arm in row.arms.items() if name not in rare}) for row in judged]
    return [row for row in kept if row.arms], rare


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or error}") from None


def _row(line: bytes, where: str, *, scored: bool) -> Row:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{where}: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: a JSON object is wanted")
    if not isinstance(row_id := found.get("id"), str) or not row_id:
        raise ConfigError(f"{where}: id: a string is wanted")
    arms = found.get("arms")
    if arms is None and not scored:
        arms = {}
    if not isinstance(arms, dict):
        raise ConfigError(f"{where}: arms: an object of models is wanted")
    return Row(
        id=row_id,
        prompt=_prompt(found, where),
        arms={model: _arm(value, f"{where}: arms.{model}") for model, value in arms.items()},
        task_class=_label(found, "class", where),
        domain=_label(found, "domain", where),
    )


def _prompt(found: dict[str, Any], where: str) -> Prompt:
    prompt, messages = found.get("prompt"), found.get("messages")
    if (prompt is None) == (messages is None):
        raise ConfigError(f"{where}: prompt or messages: one of them is wanted")
    if prompt is not None and not isinstance(prompt, str):
        raise ConfigError(f"{where}: prompt: a string is wanted")
    if messages is not None and not isinstance(messages, list):
        raise ConfigError(f"{where}: messages: a list is wanted")
    return read_body({"messages": [{"role": "user", "content": prompt}] if prompt is not None else messages})


def _arm(value: Any, where: str) -> Arm:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: an object is wanted")
    quality, cost = value.get("quality"), value.get("cost_usd")
    if not _is_number(quality) or not 0.0 <= quality <= 1.0:
        raise ConfigError(f"{where}.quality: a number 0..1 is wanted, not {quality!r}")
    if cost is not None and (not _is_number(cost) or cost < 0.0):
        raise ConfigError(f"{where}.cost_usd: dollars are wanted, not {cost!r}")
    return Arm(float(quality), None if cost is None else float(cost))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _label(found: dict[str, Any], name: str, where: str) -> str:
    label = found.get(name)
    if label is not None and not isinstance(label, str):
        raise ConfigError(f"{where}: {name}: a string is wanted")
    if name == "class" and label == KIND:
        raise ConfigError(f"{where}: class: none may be called {KIND!r}, as alerts and orders call slices of traffic")
    return label or ""
