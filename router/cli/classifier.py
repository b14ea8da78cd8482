"""``classifier use|reset|show``: which classifier the routers go by, changed while they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.control import signed
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.core.artefact import Artefact


@click.group
def classifier() -> None:
    """The classifier that routers go by: see it, swap it while everything runs, go back."""


@classifier.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="M.npz")
@click.option("--dry-run", is_flag=True, help="Only say whether it fits.")
@signed
@common
def use(config: Config, file: Path, *, by: str, reason: str, dry_run: bool) -> None:
    """Put a classifier that `pointsman train` made in force on every router."""
    from router.classifier import load, misfits

    artefact = load(file)
    for problem in misfits(config, artefact):
        click.echo(f"warning: {problem}", err=True)
    if not dry_run:
        _send(config, artefact, by=by, reason=reason)
    click.echo(f"{'would put' if dry_run else 'put'} in force: {summary(artefact)}")
    if not dry_run:
        click.echo("on every router within 2 s")
        click.echo(f'undo: pointsman classifier reset --by {by} --reason "..."')


@classifier.command
@signed
@common
def reset(config: Config, *, by: str, reason: str) -> None:
    """Go back to the classifier of the configuration."""
    from router.classifier import configured

    found = configured(config)
    _send(config, None, by=by, reason=reason)
    click.echo(f"in force again: {'the rules alone' if found is None else summary(found)}")


@classifier.command
@common
def show(config: Config) -> None:
    """Say which classifier is in force, and by whose word."""
    import asyncio

    from router.classifier import configured, in_force
    from router.contract.topics import Names

    found = asyncio.run(in_force(client_of(config), Names(config.kafka.prefix).of("classifier")))
    if found is not None and found.artefact is not None:
        click.echo(on_screen(f"{summary(found.artefact)}\nsince {found.at} by {found.by}: {found.reason}"))
        return
    artefact = configured(config)
    click.echo(f"{'rules alone' if artefact is None else summary(artefact)}\nas configured")


def summary(artefact: Artefact) -> str:
    """One line."""
    heads = artefact.heads
    models = ", ".join(heads.models) or "none"
    return f"version {artefact.version}; classes: {', '.join(heads.classes) or 'none'}; p_ok of: {models}"


def _send(config: Config, artefact: Artefact | None, *, by: str, reason: str) -> None:
    import asyncio

    from router.classifier import send
    from router.contract.topics import Names

    topic = Names(config.kafka.prefix).of("classifier")
    now_ms = time.time_ns() // 1_000_000
    asyncio.run(send(client_of(config), topic, artefact, by=by, reason=reason, now_ms=now_ms))
