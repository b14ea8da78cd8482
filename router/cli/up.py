"""``up``: everything on one machine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.options import common

if TYPE_CHECKING:
    from router.config import Config


@click.command
@click.option("--sim-behaviour", type=click.Path(dir_okay=False, exists=True), help="How the simulated models behave.")
@click.option("--apart", is_flag=True, help="Every stage and every worker in a process of its own.")
@common
def up(config: Config, sim_behaviour: str | None, *, apart: bool) -> None:
    """Run everything on this machine: Kafka (unless a broker is named), all stages, workers, the web stage.

    Data stays in kafka.data_dir; Ctrl-C ends all of it in order.
    """
    from router.up import Machine

    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: asked.append(received))
    behaviour = Path(sim_behaviour) if sim_behaviour else None
    with Machine(config, _say, sim_behaviour=behaviour, apart=apart) as machine:
        machine.wait_ready(lambda: bool(asked))
        if not asked:
            click.echo(f"ready: {machine.status_url()}, or `pointsman status`")
            click.echo("send requests: pointsman submit FILE --out RESULTS    Ctrl-C ends everything")
        machine.run(lambda: bool(asked))
        click.echo("stopping")
    click.echo("stopped")


def _say(text: str) -> None:
    click.echo(text)
