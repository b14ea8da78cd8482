"""Lines of past logs: files of any size, plain or gzip, one line in memory; what cannot be used is counted with its first place.

Nothing of a line's text is ever shown: a kind of fault is one of ``Fault``, its detail names a field, a number or a position.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from router.contract.errors import ConfigError
from router.contract.wire import MAX_DEPTH, too_deep

MIB = 1024 * 1024
#: As ``train.rows`` reads them: a row is never longer than the line that it was made of.
MAX_LINE_BYTES = 16 * MIB
#: Bytes between two reports of progress.
_TOLD_EVERY = 4 * MIB
_BOM = b"\xef\xbb\xbf"

Told = Callable[[int], None]


class Sort(StrEnum):
    """What became of a line with a fault. ``NOTED``: it is used, though something is missing."""

    REFUSED = "refused"
    LEFT_OUT = "left out"
    NOTED = "noted"


class Fault(StrEnum):
    """Why a line, or a part of it, is not used."""

    NOT_JSON = "no JSON"
    TOO_LONG = "line longer than 16 MiB"
    NO_OBJECT = "no JSON object"
    TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
    UNKNOWN = "neither a LiteLLM log nor an OpenAI batch line"
    BAD_ID = "id that is no text of 1 to 256 characters"
    BAD_MODEL = "no name of a model"
    BAD_TOKENS = "token counts that cannot be"
    BAD_COST = "cost that cannot be"
    TWICE = "id that was there before"
    BROKEN_FILE = "file that cannot be read to its end"
    FAILED = "call that failed"
    CACHED = "answer out of LiteLLM's cache: no model was asked"
    OTHER_CALL = "call that is no chat or completion"
    NO_PROMPT = "no text of a prompt: counted and priced, but in no stratum"
    CUT_PROMPT = "prompt that LiteLLM cut when it wrote the log: class and tokens are those of what is left"
    NO_USAGE = "no token counts: in a stratum, but not priced"
    NO_ANSWER = "batch request without an answer: in a stratum, but not priced"
    NO_REQUEST = "batch answer without its request: priced, but in no stratum"
    BAD_QUALITY = "score that is no quality: not used as one"

    @property
    def sort(self) -> Sort:
        if self in _LEFT_OUT:
            return Sort.LEFT_OUT
        return Sort.NOTED if self in _NOTED else Sort.REFUSED


_LEFT_OUT = frozenset({Fault.FAILED, Fault.CACHED, Fault.OTHER_CALL})
_NOTED = frozenset(
    {
        Fault.NO_PROMPT,
        Fault.CUT_PROMPT,
        Fault.NO_USAGE,
        Fault.NO_ANSWER,
        Fault.NO_REQUEST,
        Fault.BAD_QUALITY,
    }
)


class Place(NamedTuple):
    """Where a line is: number of the file among those given, and of the line in it, from 1."""

    file: int
    line: int


class Unusable(Exception):  # noqa: N818 - says what it is
    """A line that is refused or left out."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(fault)
        self.fault, self.detail = fault, detail


@dataclass(slots=True)
class Count:
    """How often a fault was met; place and detail of the first."""

    first: Place
    detail: str
    count: int = 0


class Faults(dict[Fault, Count]):
    """All that were met."""

    def add(self, fault: Fault, place: Place, detail: str = "") -> None:
        self.setdefault(fault, Count(place, detail)).count += 1

    def of(self, sort: Sort) -> int:
        return sum(count.count for fault, count in self.items() if fault.sort is sort)


def check_files(files: list[Path]) -> None:
    """Raises ``ConfigError``: a file that is not there, no file, or named twice."""
    seen: set[Path] = set()
    for file in files:
        if not file.exists() or file.is_dir():
            raise ConfigError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}")
        if (real := file.resolve()) in seen:
            raise ConfigError(f"{file}: is named twice")
        seen.add(real)


def lines(file: Path, number: int, faults: Faults, told: Told) -> Iterator[tuple[Place, bytes]]:
    """Lines that are not empty; those that are too long are refused, and so is the rest of a file that breaks off.

    ``told`` gets the bytes taken from the disk since it was called last.
    """
    place = Place(number, 0)
    try:
        with file.open("rb") as raw, _opened(file, raw) as text:
            seen = 0
            while line := text.readline(MAX_LINE_BYTES + 1):
                place = Place(number, place.line + 1)
                if (at := _position(raw)) - seen >= _TOLD_EVERY:
                    told(at - seen)
                    seen = at
                if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                    faults.add(Fault.TOO_LONG, place)
                    _skip(text)
                    continue
                if place.line == 1:
                    line = line.removeprefix(_BOM)
                if line := line.strip():
                    yield place, line
            told(max(0, _position(raw) - seen))
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or "the gzip stream is damaged or cut off"
        faults.add(Fault.BROKEN_FILE, Place(number, place.line + 1), why)


def parse(line: bytes) -> dict[str, Any]:
    """The object in a line. Raises ``Unusable``."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Unusable(Fault.NOT_JSON, f"at character {error.pos + 1}") from None
    if type(found) is not dict:
        hint = "a list: `jq -c '.[]'` makes lines of it" if type(found) is list else ""
        raise Unusable(Fault.NO_OBJECT, hint)
    if too_deep(line, found):
        raise Unusable(Fault.TOO_DEEP)
    return found


def unpacked(value: Any) -> Any:
    """JSON that was written as text into JSON, as tables are exported; anything else, and what is too deep, as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return None if too_deep(value.encode(), found) else found


def _opened(file: Path, raw: BinaryIO) -> Any:
    return gzip.open(raw, "rb") if file.suffix == ".gz" else raw


def _position(raw: BinaryIO) -> int:
    try:
        return raw.tell()
    except OSError:  # a pipe has none
        return 0


def _skip(text: BinaryIO) -> None:
    """To the end of a line, a piece at a time."""
    while (piece := text.readline(MIB)) and not piece.endswith(b"\n"):
        pass
