"""``audit``: whether the topics agree with each other, to the nano-dollar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.history.ledger import ListPrice


@click.command
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def audit(config: Config, *, as_json: bool) -> int:
    """Check everything that is in the topics: results, costs, windows, decisions; exit 1 when anything is wrong.

    It reads topics alone. For a whole answer let traffic stop and the last windows close first.
    """
    import asyncio

    from router.contract.topics import Names
    from router.history.audit import Ledger, judge, read_topics

    ledger = Ledger(Names(config.kafka.prefix), _prices(config))
    asyncio.run(read_topics(ledger, client_of(config)))
    window_ms = config.settle.dedupe_window_s * 1000
    report = judge(ledger, now_ms=time.time_ns() // 1_000_000, window_ms=window_ms)
    if as_json:
        click.echo(json_text(report))
        return 0 if report.ok else 1
    for name, value in report.figures.items():
        if name != "models":
            click.echo(f"{name.replace('_', ' '):24} {value}")
    for line in report.unchecked:
        click.echo(on_screen(f"not checked: {line}"))
    for line in report.problems:
        click.echo(on_screen(f"WRONG: {line}"))
    click.echo("all of it agrees" if report.ok else f"{len(report.problems)} problems")
    return 0 if report.ok else 1


def _prices(config: Config) -> dict[str, ListPrice]:
    from router.history.ledger import ListPrice

    return {
        name: ListPrice(
            prompt=model.price.input_nano_usd_per_token,
            completion=model.price.output_nano_usd_per_token,
            cached=model.price.cached_input_nano_usd_per_token,
            written=model.price.cache_write_nano_usd_per_token,
        )
        for name, model in config.models.items()
        if not model.price.unpriced
    }
