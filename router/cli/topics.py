"""``topics create``: every topic of the configuration, once; ``topics acls``: who needs what of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
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


@topics.command
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option("--user", metavar="NAME", help="Kafka's name of the user that runs it [default: PREFIX-PART].")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="With part worker: only this model's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def acls(config: Config, parts: tuple[str, ...], user: str | None, models: tuple[str, ...], *, as_json: bool) -> None:
    """Print the ACLs that a user needs to run a PART and nothing else, as lines of kafka-acls.sh.

    PART is a stage, worker, web, users (services that ask) or people (who overrule the machine); without one, all of
    them. Nothing is changed: an administrator runs the lines. Brokers need an authorizer, or ACLs mean nothing.
    """
    from router.access import PARTS, needed
    from router.kafka.acls import commands

    found = {part: sorted(needed(config, part, models)) for part in parts or PARTS}
    who = {part: user or f"{config.kafka.prefix}-{part}" for part in found}
    if as_json:
        rows = [
            {
                "part": part,
                "principal": f"User:{who[part]}",
                "resource_type": acl.kind,
                "name": acl.name,
                "pattern_type": "prefixed" if acl.prefixed else "literal",
                "operation": acl.operation,
            }
            for part, acls in found.items()
            for acl in acls
        ]
        click.echo(json_text({"acls": rows}))
        return
    for part, acls in found.items():
        click.echo("\n".join([f"# {part}", *commands(who[part], acls, config.kafka.broker or "HOST:PORT")]))
