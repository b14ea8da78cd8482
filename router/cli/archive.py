"""``archive``: decisions, attempts, results and feedback out of the topics into Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common

if TYPE_CHECKING:
    from datetime import datetime

    from router.config import Config
    from router.history.archive import Archived

#: In the data folder, where no other is named.
FOLDER = "archive"


@click.command
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="[default: archive, in the data folder]",
)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), metavar="DATE", help="The first time: nothing older (UTC).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def archive(config: Config, *, out: Path | None, since: datetime | None, as_json: bool) -> int:
    """Copy what is new in the topics to Parquet files by day; exit 1 when something was gone before it was copied.

    Run it more often than the topics forget (7 days). However it is stopped, the next run goes on without loss or repeats.
    """
    import asyncio
    from datetime import UTC

    from router.contract.topics import Names
    from router.history.archive import archive as archived
    from router.history.archive_folder import Folder

    folder = Folder(out or config.kafka.data_dir / FOLDER)
    since_ms = None if since is None else int(since.replace(tzinfo=UTC).timestamp() * 1000)
    done = asyncio.run(archived(client_of(config), Names(config.kafka.prefix), folder, since_ms=since_ms))
    if as_json:
        lost = [{"topic": topic, "partition": number, "offsets": count} for (topic, number), count in done.lost.items()]
        found = {
            "folder": str(folder.path),
            "rows": done.rows,
            "files": done.files,
            "unreadable": done.unreadable,
            "lost": lost,
        }
        click.echo(json_text(found))
    else:
        _told(done, folder.path)
    return 1 if done.lost else 0


def _told(done: Archived, path: Path) -> None:
    for kind, rows in done.rows.items():
        click.echo(f"{kind:10} {rows:>12,} rows in {done.files.get(kind, 0)} files")
    if done.unreadable:
        click.echo(f"{done.unreadable:,} records are no JSON objects and were left out")
    click.echo(f"{path}: {'nothing new' if not any(done.rows.values()) else 'up to date'}")
    for (topic, partition), offsets in done.lost.items():
        click.echo(
            f"LOST: {topic} partition {partition}: up to {offsets:,} records were gone before this run", err=True
        )
