"""``topics create``: every topic of the configuration, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.options import client_of, common

if TYPE_CHECKING:
    from router.config import Config


@click.group
def topics() -> None:
    """Topics of this installation."""


@topics.command
@common
def create(config: Config) -> None:
    """Create the topics that are missing; refuse when one has another number of partitions."""
    import asyncio

    from router.cluster import create_topics

    click.echo(asyncio.run(create_topics(client_of(config), config)))
