"""``forget``: a tenant's rows out of the archive, and when the topics will have forgotten the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.archive import FOLDER
from router.cli.json_text import json_text
from router.cli.options import common

if TYPE_CHECKING:
    from router.config import Config


@click.command
@click.option("--tenant", metavar="T", help="Whose rows are removed.")
@click.option("--user", metavar="U", help="Of a user there are no rows: says where the name lies, and until when.")
@click.option(
    "--archive",
    "place",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="[default: archive, in the data folder]",
)
@click.option("--dry-run", is_flag=True, help="Count, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def forget(
    config: Config, *, tenant: str | None, user: str | None, place: Path | None, dry_run: bool, as_json: bool
) -> None:
    """Remove what can be removed of a tenant, and say what cannot.

    Kafka removes no single record of a topic: what lies there goes with the topic's retention, and the dates are printed.
    First end the traffic, and run `pointsman archive` no more for that tenant, or what the topics still hold is copied
    again: forget once more after the last date.
    """
    import time

    from router.cluster import kept_ms
    from router.contract.times import to_rfc3339
    from router.contract.topics import Names
    from router.history.archive_folder import Folder
    from router.history.forget import forget_rows, what_remains

    if (tenant is None) == (user is None):
        raise click.UsageError("give --tenant or --user, one of them")
    names, now_ms = Names(config.kafka.prefix), time.time_ns() // 1_000_000
    where = place or config.kafka.data_dir / FOLDER
    removed = {}
    if tenant is not None and where.is_dir():
        removed = forget_rows(Folder(where), names.prefix, tenant, dry_run=dry_run)
    remaining = what_remains(names, kept_ms(config), user=user is not None, now_ms=now_ms)
    if as_json:
        topics = [{"topic": one.topic, "gone_by": to_rfc3339(one.gone_ms)} for one in remaining]
        click.echo(json_text({"archive": removed, "dry_run": dry_run, "remaining": topics}, indent=False))
        return
    if tenant is None:
        click.echo("archive: names no users, so there is nothing to remove")
    elif not where.is_dir():
        click.echo(f"archive: there is none at {where}")
    else:
        did = "would be removed" if dry_run else "removed"
        click.echo(
            f"archive: {sum(removed.values())} rows {did}"
            + "".join(f", {n} of {kind}" for kind, n in removed.items() if n)
        )
    click.echo("Kafka removes no single record. What was written until now is gone, with everybody's, by")
    for one in remaining:
        click.echo(f"  {to_rfc3339(one.gone_ms)[:16]}  {one.topic}")
    click.echo(
        "or when the segment it lies in is full and as old. Not removed: sums over everybody (weights, metric windows, reports)."
    )
