"""``config check|example|show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.options import common

if TYPE_CHECKING:
    from router.config import Config


@click.group
def config() -> None:
    """The configuration: check it, see it whole, get an example."""


@config.command
@common
def check(config: Config) -> None:
    """Say what is wrong with the configuration; exit 2 when anything is."""
    from router.classifier import configured, misfits
    from router.config import check as warnings_of

    artefact = configured(config)
    for warning in [*warnings_of(config), *([] if artefact is None else misfits(config, artefact))]:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"ok: {_count(len(config.models), 'model')}, {_count(len(config.pools), 'pool')}")


@config.command
def example() -> None:
    """Print a configuration that works, with comments."""
    from router.config import example as text

    click.echo(text(), nl=False)


@config.command
@common
def show(config: Config) -> None:
    """Print every key with its value and where that came from; secrets are never shown."""
    from router.config import show as text

    click.echo(text(config), nl=False)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
