"""``report``: what was saved, at which quality, from the archive."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.archive import FOLDER
from router.cli.json_text import json_text
from router.cli.options import common

if TYPE_CHECKING:
    from datetime import datetime

    from router.config import Config

_FILE = click.Path(path_type=Path, dir_okay=False)
_DAY = click.DateTime(["%Y-%m-%d"])


@click.command
@click.option(
    "--archive",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="[default: archive, in the data folder]",
)
@click.option("--since", type=_DAY, metavar="DATE", help="Requests of this day (UTC) and later.")
@click.option("--until", type=_DAY, metavar="DATE", help="Requests before this day.")
@click.option("--benchmark", type=_FILE, metavar="FILE", help="Targets (TOML); exit 1 when one is missed.")
@click.option("--html", type=_FILE, metavar="FILE", help="Write the page with plots.")
@click.option("--markdown", type=_FILE, metavar="FILE", help="Write what is else printed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def report(
    config: Config,
    *,
    archive: Path | None,
    since: datetime | None,
    until: datetime | None,
    benchmark: Path | None,
    html: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> int:
    """Say what was saved, net of everything, and at which quality, with intervals, by stratum and week.

    It reads what `pointsman archive` wrote. docs/history.md says what the figures rest on, and what targets look like.
    """
    from router.history import report_text
    from router.history.archive_folder import Folder
    from router.history.report import report as estimated
    from router.history.report_data import read_archive
    from router.history.report_targets import assess, targets_of

    targets = None if benchmark is None else targets_of(benchmark)
    folder = Folder(archive or config.kafka.data_dir / FOLDER)
    found = estimated(read_archive(folder, since_ms=_ms(since), until_ms=_ms(until)))
    verdicts = None if targets is None else assess(found, targets, time.time_ns() // 1_000_000)
    if html is not None:
        from router.history.report_page import page

        html.write_text(page(found, verdicts), "utf-8")
    text = report_text.markdown(found, verdicts)
    if markdown is not None:
        markdown.write_text(text, "utf-8")
    if as_json:
        click.echo(json_text(report_text.document(found, verdicts)))
    elif verdicts is not None:
        click.echo("\n".join(map(report_text.verdict_line, verdicts)))
    elif html is None and markdown is None:
        click.echo(text, nl=False)
    return 0 if verdicts is None or all(one.met for one in verdicts) else 1


def _ms(day: datetime | None) -> int | None:
    from datetime import UTC

    return None if day is None else int(day.replace(tzinfo=UTC).timestamp() * 1000)
