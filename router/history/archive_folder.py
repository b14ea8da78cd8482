"""The archive's folder: which records are in it, and how a file gets there whole or not at all.

    FOLDER/archive.json                     {"format": 1, "prefix": "llm"}
    FOLDER/decisions/day=2026-11-28/llm.decisions-0-00000000000000000012-00000000000000000345.parquet

A file's name says topic, partition, first and last offset: what comes after the highest last offset of a partition is new. A file is written below ``.tmp``, synced, renamed into its day, and the day
is synced before the next one of the partition may follow. So whatever is killed, and whenever: what has a name is whole, what has
none is read again. ``read_to.json`` tells, after all of a kind is there, up to where each partition was read: behind its last record lie
transaction markers, which must not seem lost when the topic forgets them. It is never ahead of the files, and a run may do without it.

Days are UTC, of the records' timestamps. Within a partition they never go back: a record that says it is older than one
before it lies in that one's day.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from router.contract.errors import ConfigError, PointsmanError
from router.history.archive_rows import Kind, Type

FORMAT = 1
#: Rows that are in memory at once, and of a file: a partition that is far behind gets several.
ROWS_A_GROUP, ROWS_A_FILE = 16_384, 1_000_000

_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)", re.ASCII)
_FILE = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]+)-(?P<partition>\d+)-(?P<first>\d{20})-(?P<last>\d{20})\.parquet", re.ASCII
)
_READ_TO = "read_to.json"
_LAST_DAY = "9999-12-31"


class ArchiveError(PointsmanError):
    """The folder and the topics do not belong together, or another process writes into the folder."""


class Position(NamedTuple):
    """Of a partition: ``offset`` of the first record that is not in the archive, and the ``day`` of the last that is."""

    offset: int
    day: str


class Folder:
    """An archive of one installation. ``open`` locks it, to write; reading needs no lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path / ".tmp"

    @contextmanager
    def open(self, prefix: str) -> Iterator[Folder]:
        """One process at a time. Removes what an earlier one left unfinished.

        Raises:
            ArchiveError: another process writes, or the folder holds another installation's archive.
        """
        if not self.path.exists():
            self.path.mkdir(parents=True, mode=0o700)
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ArchiveError(f"{self.path}: another process is writing into this archive") from None
            self._checked(prefix)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir()
            yield self
            self._temporary.rmdir()

    def _checked(self, prefix: str) -> None:
        told = self.path / "archive.json"
        if not told.exists():
            whole = self.path / "archive.json.new"
            whole.write_text(json.dumps({"format": FORMAT, "prefix": prefix}) + "\n")
            _synced(whole)
            whole.replace(told)
            return
        try:
            found = json.loads(told.read_text("utf-8"))
            form, theirs = found["format"], found["prefix"]
        except (ValueError, LookupError, TypeError) as error:
            raise ArchiveError(f"{told}: {error!r}") from None
        if form != FORMAT:
            raise ArchiveError(f"{told}: written by another release (format {form})")
        if theirs != prefix:
            raise ArchiveError(
                f"{self.path}: holds the archive of prefix {theirs!r}, not of {prefix!r}: give each its own"
            )

    def files(self, kind: str) -> list[tuple[str, Path]]:
        """(day, file) of all files of a kind, in the order of days and names. What has another name is nobody's."""
        found = []
        for folder in sorted((self.path / kind).glob("day=*")):
            day = _DAY.fullmatch(folder.name)
            if day is not None:
                found += [(day[1], file) for file in sorted(folder.iterdir()) if _FILE.fullmatch(file.name)]
        return found

    def positions(self, kind: str) -> dict[tuple[str, int], Position]:
        """By topic and partition, as the files say."""
        found: dict[tuple[str, int], Position] = {}
        for day, file in self.files(kind):
            name = _FILE.fullmatch(file.name)
            assert name is not None
            part, after = (name["topic"], int(name["partition"])), int(name["last"]) + 1
            if part not in found or found[part].offset < after:
                found[part] = Position(after, day)
        return found

    def read_to(self) -> dict[str, int]:
        """By ``topic-partition``: the offset up to which it was read. Empty where that cannot be told."""
        try:
            found = json.loads((self.path / _READ_TO).read_text("utf-8"))
            return {str(part): int(offset) for part, offset in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def note(self, read_to: Mapping[str, int]) -> None:
        """Remember more of them; all files before these offsets have been published."""
        written = self.temporary(_READ_TO)
        written.write_text(json.dumps(self.read_to() | dict(read_to), indent=0, sort_keys=True) + "\n")
        _synced(written)
        written.replace(self.path / _READ_TO)
        _synced(self.path)

    def temporary(self, name: str) -> Path:
        return self._temporary / name

    def publish(self, written: Path, kind: str, day: str, name: str) -> Path:
        """Give a whole file its name: from here on its records are in the archive."""
        folder = self.path / kind / f"day={day}"
        above = [each for each in (folder, folder.parent, self.path) if not folder.exists() or each == folder]
        folder.mkdir(parents=True, exist_ok=True)
        _synced(written)
        file = folder / name
        written.replace(file)
        for each in above:
            _synced(each)
        return file


class Part:
    """Writes one partition of a kind: rows in the order of their offsets, into one file a day or several."""

    def __init__(self, folder: Folder, kind: Kind, topic: str, partition: int, day: str = "") -> None:
        self._folder, self._kind, self._topic, self._partition = folder, kind, topic, partition
        self._arrow = pyarrow()
        self._schema = schema_of(kind.columns)
        self._day = day
        self._rows: list[tuple[Any, ...]] = []
        self._writer: Any = None
        self._first: int | None = None
        self._last = -1
        self._in_file = 0
        self.files: list[Path] = []

    def add(self, offset: int, timestamp_ms: int, row: tuple[Any, ...] | None) -> None:
        """A record that was read; ``row`` ``None`` of one that makes none, but is not to be read again."""
        day = max(self._day, day_of(timestamp_ms))
        if day != self._day or self._in_file >= ROWS_A_FILE:
            self.close()
            self._day = day
        if self._first is None:
            self._first = offset
        self._last = offset
        if row is not None:
            self._rows.append(row)
            self._in_file += 1
            if len(self._rows) >= ROWS_A_GROUP:
                self._flush()

    def close(self) -> None:
        """Publish what there is; a stretch that made no row has no file, and is read again."""
        self._flush()
        if self._writer is None:
            return
        self._writer.close()
        name = f"{self._topic}-{self._partition}-{self._first:020}-{self._last:020}.parquet"
        self.files.append(self._folder.publish(self._path, self._kind.name, self._day, name))
        self._writer, self._first, self._in_file = None, None, 0

    @property
    def _path(self) -> Path:
        return self._folder.temporary(f"{self._topic}-{self._partition}")

    def _flush(self) -> None:
        if not self._rows:
            return
        arrow, columns = self._arrow, zip(*self._rows, strict=True)
        arrays = [arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        if self._writer is None:
            self._writer = arrow.parquet.ParquetWriter(self._path, self._schema, compression="zstd")
        self._writer.write_table(arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


def day_of(timestamp_ms: int) -> str:
    """UTC; a time outside of what a date can say is the nearest that it can.

    >>> day_of(1_700_000_000_000), day_of(-1), day_of(10**18)
    ('2023-11-14', '1970-01-01', '9999-12-31')
    """
    try:
        return datetime.fromtimestamp(max(timestamp_ms, 0) / 1000, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return _LAST_DAY


def schema_of(columns: Mapping[str, Type]) -> Any:
    """As pyarrow has it."""
    arrow = pyarrow()
    types = {"string": arrow.string(), "int64": arrow.int64(), "float64": arrow.float64(), "bool": arrow.bool_()}
    return arrow.schema([arrow.field(name, types[of]) for name, of in columns.items()])


def pyarrow() -> Any:
    """Only the archive pays for it."""
    try:
        import pyarrow  # noqa: ICN001, PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise ConfigError("the archive needs pyarrow: pip install 'pointsman[history]'") from None
    return pyarrow


def _synced(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
