"""``explain`` and ``replay``: why a request went where it went, and whether it would again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from router.cli.options import client_of, common

if TYPE_CHECKING:
    from router.config import Config


@click.command
@click.argument("id", metavar="ID")
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Goes with a custom_id.")
@click.option("--json", "as_json", is_flag=True, help="The records themselves.")
@common
def explain(config: Config, id: str, *, tenant: str, as_json: bool) -> int:  # noqa: A002 - the option's name
    """Say why a request went where it went. ID is the request id of its result, or its custom_id."""
    import asyncio

    from router.contract.ids import request_id
    from router.contract.topics import Names
    from router.history import reader
    from router.history.explain import explain as told

    found_id = id if re.fullmatch("[0-9a-f]{32}", id) else request_id(tenant, id)
    account = asyncio.run(reader.account_of(client_of(config), Names(config.kafka.prefix), found_id))
    click.echo(reader.as_json(account).decode() if as_json else "\n".join(told(account)))
    return 0 if account.decisions or account.result else 1


@click.command
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def replay(config: Config, *, as_json: bool) -> int:
    """Make every decision again from the audit log; exit 1 when any comes out differently."""
    import asyncio

    import orjson

    from router.contract.topics import Names
    from router.history.reader import replay_all

    found = asyncio.run(replay_all(client_of(config), Names(config.kafka.prefix)))
    counts = {str(verdict): count for verdict, count in found.counts.items()}
    if as_json:
        click.echo(orjson.dumps({"counts": counts, "different": found.different}, option=orjson.OPT_INDENT_2).decode())
    else:
        total = sum(counts.values())
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "none"
        click.echo(f"{total} decisions: {told}")
        for one in found.different:
            click.echo(f"  {one.request_id} attempt {one.attempt}")
            for difference in one.differences:
                click.echo(f"    {difference}")
    return 1 if found.different else 0
