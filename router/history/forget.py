"""What can be forgotten of a tenant or a user, and what only time removes.

Rows of the archive are removed: a tenant's, in every kind, and what belongs to its requests. A file keeps its name, which says up to where its
partition was read, also when no row is left in it: what was removed is not copied again.

Kafka removes no single record of a topic, only all that is older than something: what lies in a topic goes with the topic's retention,
with everybody's. ``what_remains`` says of each topic that holds text or names when that will be.

The archive knows no users, so of a user there is nothing to remove in it. Weights and counts are sums over everybody, and are not taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.contract.topics import Names
from router.history.archive_folder import Folder, pyarrow
from router.history.archive_rows import KINDS

#: Topics (without prefix; ``work``: those of all models) where a tenant's or a user's texts or names are.
OF_TENANTS = (
    *("requests", "requests.batch", "work", "outcomes", "results", "decisions", "usage", "dead-letter"),
    *("feedback", "feedback.verified", "feedback.counted", "rewards", "reviews", "reviews.wanted", "pairs", "metrics"),
)
OF_USERS = ("requests", "requests.batch", "work", "surveys", "feedback", "dead-letter")


@dataclass(frozen=True, slots=True)
class Remaining:
    """A topic where something may lie: what was written by now is gone at ``gone_ms``, or a segment of the topic later."""

    topic: str
    gone_ms: int


def forget_rows(folder: Folder, prefix: str, tenant: str, *, dry_run: bool = False) -> dict[str, int]:
    """How many rows of each kind are a tenant's, and were removed unless ``dry_run``.

    However it is stopped, a file is as it was or without them: run it again.

    Raises:
        ArchiveError: another process writes into the folder, or it is another installation's.
    """
    found: dict[str, int] = {}
    with folder.open(prefix):
        ids = _ids(folder, tenant)
        # Those that only name the request first: what tells whose it is goes last.
        for kind in sorted(KINDS, key=lambda one: "tenant" in one.columns):
            files = folder.files(kind.name)
            found[kind.name] = sum(_without(folder, kind.name, one, tenant, ids, dry_run=dry_run) for one in files)
    return found


def _ids(folder: Folder, tenant: str) -> set[str]:
    """Of the tenant's requests: rows of some kinds name the request alone."""
    arrow = pyarrow()
    found: set[str] = set()
    for kind in KINDS:
        if not {"tenant", "request_id"} <= kind.columns.keys():
            continue
        for _, file in folder.files(kind.name):
            table = arrow.parquet.ParquetFile(file).read(columns=["tenant", "request_id"]).to_pydict()
            pairs = zip(table["tenant"], table["request_id"], strict=True)
            found |= {id_ for whose, id_ in pairs if whose == tenant and id_ is not None}
    return found


def _without(folder: Folder, kind: str, of_day: tuple[str, Path], tenant: str, ids: set[str], *, dry_run: bool) -> int:
    """Rows of one file that are the tenant's; the file is written anew when there are any."""
    arrow, (day, file) = pyarrow(), of_day
    table = arrow.parquet.ParquetFile(file).read()
    keep = [not _is_of(row, tenant, ids) for row in _named(table)]
    removed = keep.count(False)
    if removed and not dry_run:
        written = folder.temporary(file.name)
        arrow.parquet.write_table(table.filter(arrow.array(keep, arrow.bool_())), written, compression="zstd")
        folder.publish(written, kind, day, file.name)
    return removed


def _named(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.select(
        [one for one in ("tenant", "request_id") if one in table.column_names]
    ).to_pylist()
    return rows


def _is_of(row: Mapping[str, Any], tenant: str, ids: set[str]) -> bool:
    return row.get("tenant") == tenant or row.get("request_id") in ids


def what_remains(names: Names, kept_ms: Mapping[str, int], *, user: bool, now_ms: int) -> list[Remaining]:
    """Of a tenant, or of a ``user``, the last to go last. ``kept_ms``: retention of the installation's topics, by full name."""
    short = OF_USERS if user else OF_TENANTS
    topics = [topic for topic in kept_ms if _short(topic, names.prefix) in short]
    return sorted(
        (Remaining(topic, now_ms + kept_ms[topic]) for topic in topics), key=lambda one: (one.gone_ms, one.topic)
    )


def _short(topic: str, prefix: str) -> str:
    name = topic.removeprefix(f"{prefix}.")
    return "work" if name.startswith("work.") else name
