"""Sums out of the archive, by DuckDB: what requests of each pool, stratum and week cost, and the moments that estimates rest on.

What comes from the data is never part of a statement: names are values in rows. The statements are in ``report_sql``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from router.contract.errors import ConfigError
from router.core.saving import Moments
from router.history.archive_folder import ArchiveError, Folder, day_of, pyarrow, schema_of
from router.history.archive_rows import KINDS
from router.history.report_sql import REQUESTS, STEPS, VIEWS

DAY_MS = 86_400_000
#: Days on either side of a span whose files may hold something of its requests: deadlines are a day at most.
AROUND_DAYS = 2
MEMORY = "1GB"

#: Of what a row of the report is about; ``None`` where it is about all of them.
LEVELS = (
    ("pool", "stratum", "week"),
    ("pool", "stratum"),
    ("pool", "week"),
    ("pool",),
    (),
)
#: Kinds of quality, the most telling first.
QUALITIES = ("reviewed", "judged", "rated", "thumbs")


class Key(NamedTuple):
    """A row of the report."""

    pool: str | None = None
    stratum: str | None = None
    week: str | None = None


@dataclass(slots=True)
class Cell:
    """Of a pool, a stratum and a week. Money in nano-dollars, summed exactly.

    ``others``: answers of the pilot that the baseline did not give. ``parts``: all of the cost, by part; ``reference_cost``,
    ``pinned_cost``: of attempts to answer (first, retries, escalations).
    ``prompt``, ``length``: what the pilot's answers would have cost on the baseline by their own tokens: the part for
    the prompt, the part for their length; ``length_own``: of the latter what the baseline itself answered. ``unpriced``: answered,
    and no baseline cost is known.
    """

    requests: int = 0
    answered: int = 0
    pilot: int = 0
    pilot_answered: int = 0
    others: int = 0
    reference_answered: int = 0
    attempts: int = 0
    unknown: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    reference_cost: int = 0
    pinned_cost: int = 0
    prompt: int = 0
    length: int = 0
    length_own: int = 0
    unpriced: int = 0


class Counted(NamedTuple):
    """``n`` observations in units, and their moments."""

    n: int
    moments: Moments


#: By arm (``pilot``, ``reference``).
Arms = dict[str, Counted]


@dataclass(slots=True)
class Sums:
    """Everything that a report is made of. Dictionaries by ``Key`` hold all levels."""

    cells: dict[Key, Cell] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    lengths: dict[Key, Arms] = field(default_factory=dict)
    tokens: dict[Key, Arms] = field(default_factory=dict)
    pairs: dict[Key, Counted] = field(default_factory=dict)
    repeats: dict[Key, Arms] = field(default_factory=dict)
    quality: dict[str, dict[Key, Arms]] = field(default_factory=dict)
    thumbs: dict[Key, int] = field(default_factory=dict)
    compared: dict[Key, int] = field(default_factory=dict)
    """Answered requests of the pilot that have a reference in their stratum and week."""
    first_ms: int | None = None
    last_ms: int | None = None


def read_archive(folder: Folder, *, since_ms: int | None = None, until_ms: int | None = None) -> Sums:
    """Of the requests that were first decided from ``since_ms`` on and before ``until_ms``.

    Raises:
        ConfigError: DuckDB or pyarrow is missing, or there is no archive.
        ArchiveError: a file cannot be read.
    """
    arrow, duckdb = pyarrow(), _duckdb()
    if not any(folder.files(kind.name) for kind in KINDS):
        raise ConfigError(f"{folder.path}: there is no archive: `pointsman archive` makes it")
    with tempfile.TemporaryDirectory(prefix="pointsman-report-") as spill:
        settings = {
            "temp_directory": spill,
            "memory_limit": MEMORY,
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        connection = duckdb.connect(config=settings)
        try:
            for kind in KINDS:
                files = _files(folder, kind.name, since_ms, until_ms)
                connection.register(kind.name, _table(files, schema_of(kind.columns)))
            _prepare(connection, since_ms, until_ms)
            return _summed(connection)
        except (duckdb.Error, arrow.ArrowException, OSError) as error:
            raise ArchiveError(f"{folder.path}: cannot be read: {error}") from None
        finally:
            connection.close()


def _files(folder: Folder, kind: str, since_ms: int | None, until_ms: int | None) -> list[Path]:
    """What was said of an answer comes any time later."""
    least = "" if since_ms is None else day_of(since_ms - AROUND_DAYS * DAY_MS)
    most = "9999" if until_ms is None or kind in {"rewards", "feedback"} else day_of(until_ms + AROUND_DAYS * DAY_MS)
    return [file for day, file in folder.files(kind) if least <= day <= most]


def _table(files: Sequence[Path], schema: Any) -> Any:
    """Columns that a file has not are null, others are not read."""
    if not files:
        return schema.empty_table()
    from pyarrow import dataset  # noqa: PLC0415

    return dataset.dataset([str(file) for file in files], schema=schema, format="parquet")


_FOREVER = 2**62


def _prepare(connection: Any, since_ms: int | None, until_ms: int | None) -> None:
    for step in STEPS:
        connection.execute(step)
    span = {"since": -_FOREVER if since_ms is None else since_ms, "until": _FOREVER if until_ms is None else until_ms}
    connection.execute(REQUESTS, span)
    for view in VIEWS:
        connection.execute(view)


_COSTS = ("first", "retries", "escalations", "judge", "shadow")


def _summed(connection: Any) -> Sums:
    found = Sums()
    found.first_ms, found.last_ms = connection.execute("SELECT min(at_ms), max(at_ms) FROM requests").fetchone()
    _cells(connection, found)
    found.repeats = _arms(connection, "again", ("pool",))
    for level in LEVELS:
        found.lengths |= _arms(connection, "lengths", level)
        found.tokens |= _arms(connection, "tokens", level)
        found.pairs |= _pairs(connection, level)
        found.quality.setdefault("thumbs", {}).update(_arms(connection, "quiet", level))
        for kind in ("reviewed", "judged", "rated"):
            found.quality.setdefault(kind, {}).update(_arms(connection, "said", level, kind))
        names = _columns(level)
        thumbs = f"SELECT {names}, sum(thumbs) FROM requests JOIN events USING (request_id) GROUP BY ALL"  # noqa: S608
        found.thumbs |= {_key(row[:3]): int(row[3] or 0) for row in connection.execute(thumbs).fetchall()}
        compared = f"""SELECT {names}, count(*) FROM requests JOIN mix USING (pool, stratum, week)
            WHERE answered AND arm = 'pilot' GROUP BY ALL"""  # noqa: S608
        found.compared |= {_key(row[:3]): int(row[3]) for row in connection.execute(compared).fetchall()}
    return found


def _cells(connection: Any, found: Sums) -> None:
    rows = connection.execute(
        """SELECT pool, stratum, week, sum(n), count(*) FILTER (answered), count(*) FILTER (arm = 'pilot'),
        count(*) FILTER (arm = 'pilot' AND answered), count(*) FILTER (arm = 'reference' AND answered),
        sum(attempts), sum(unknown), sum(first), sum(retries), sum(escalations), sum(judge), sum(shadow),
        sum(first) FILTER (arm = 'pilot'),
        sum(first + retries + escalations) FILTER (arm = 'reference'),
        sum(first + retries + escalations) FILTER (arm NOT IN ('reference', 'pilot')),
        sum(baseline - length_cost) FILTER (arm = 'pilot'), sum(length_cost) FILTER (arm = 'pilot'),
        sum(length_cost) FILTER (arm = 'pilot' AND own), count(*) FILTER (arm = 'pilot' AND answered AND unpriced),
        sum(first) FILTER (arm = 'reference'), count(*) FILTER (arm = 'pilot' AND answered AND NOT own)
        FROM requests GROUP BY ALL"""
    ).fetchall()
    outside = dict.fromkeys(("requests", "attempts", "cost_nano_usd", "cost_unknown"), 0)
    for pool, stratum, week, *numbers in rows:
        n = [int(number or 0) for number in numbers]
        if pool is None:
            for name, number in zip(outside, (n[0], n[5], sum(n[7:12]), n[6]), strict=True):
                outside[name] += number
            continue
        parts = dict(zip(_COSTS, n[7:12], strict=True))
        first = parts.pop("first")
        parts = {"pilot": n[12], "reference": n[19], "pinned": first - n[12] - n[19], **parts}
        found.cells[Key(pool, stratum, week)] = Cell(
            requests=n[0],
            answered=n[1],
            pilot=n[2],
            pilot_answered=n[3],
            others=n[20],
            reference_answered=n[4],
            attempts=n[5],
            unknown=n[6],
            parts=parts,
            reference_cost=n[13],
            pinned_cost=n[14],
            prompt=n[15],
            length=n[16],
            length_own=n[17],
            unpriced=n[18],
        )
    found.outside = outside


def _arms(connection: Any, view: str, level: Iterable[str], kind: str | None = None) -> dict[Key, Arms]:
    """Moments of a view, the reference weighted to the pilot's mix."""
    names = _columns(level)
    where = "" if kind is None else "AND kind = $kind"
    statement = f"""
        SELECT pool, stratum, week, arm, sum(n), count(*), sum(x), sum(y), sum(x * x), sum(x * y), sum(y * y),
            sum(x * x * x), sum(x * x * y), sum(x * y * y) FROM (
            SELECT {names}, arm, unit, sum(n) AS n, sum(x * weight)::DOUBLE AS x, sum(y * weight)::DOUBLE AS y FROM (
                SELECT {view}.*, CASE arm WHEN 'pilot' THEN 1.0 ELSE times END AS weight
                FROM {view} JOIN mix USING (pool, stratum, week) WHERE arm IN ('pilot', 'reference') {where})
            GROUP BY ALL)
        GROUP BY ALL"""  # noqa: S608 - names of ours alone
    found: dict[Key, Arms] = {}
    for row in connection.execute(statement, {} if kind is None else {"kind": kind}).fetchall():
        found.setdefault(_key(row[:3]), {})[row[3]] = Counted(int(row[4]), Moments(*row[5:]))
    return found


def _pairs(connection: Any, level: Iterable[str]) -> dict[Key, Counted]:
    """Answers of another model than the baseline to the same requests that the baseline answered as a shadow, weighted to all such answers."""
    statement = f"""
        SELECT pool, stratum, week, sum(n), count(*), sum(x), sum(y), sum(x * x), sum(x * y), sum(y * y),
            sum(x * x * x), sum(x * x * y), sum(x * y * y) FROM (
            SELECT {_columns(level)}, unit, count(*) AS n, sum(length_cost * times)::DOUBLE AS x, sum(shadow_cost * times)::DOUBLE AS y
            FROM paired JOIN paired_mix USING (pool, stratum, week) WHERE shadow_cost IS NOT NULL GROUP BY ALL)
        GROUP BY ALL"""  # noqa: S608 - names of ours alone
    return {_key(row[:3]): Counted(int(row[3]), Moments(*row[4:])) for row in connection.execute(statement).fetchall()}


def _columns(level: Iterable[str]) -> str:
    names = tuple(level)
    return ", ".join(name if name in names else f"NULL::VARCHAR AS {name}" for name in Key._fields)


def _key(values: Iterable[Any]) -> Key:
    return Key(*values)


def _duckdb() -> Any:
    try:
        import duckdb  # noqa: PLC0415 - only reports pay for it
    except ImportError:
        raise ConfigError("reports need duckdb: pip install 'pointsman[history]'") from None
    return duckdb
