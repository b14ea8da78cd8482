"""``strata suggest``: where strata should be finer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.core.ope import Estimate
    from router.core.split import Split


@click.group
def strata() -> None:
    """The slices of traffic that weights are learned in."""


@strata.command
@click.option("--pool", metavar="POOL", default="auto", show_default=True, help="Whose strata.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def suggest(config: Config, *, pool: str, as_json: bool) -> int:
    """Say where a stratum holds two kinds of requests: a model is as good as the baseline on one side and not on the other."""
    import asyncio

    from router.contract.errors import ConfigError
    from router.contract.topics import Names
    from router.history.policy_value import log_of
    from router.history.splits import suggestions

    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    log = asyncio.run(log_of(client_of(config), Names(config.kafka.prefix), pool))
    found = suggestions(log, config.pools[pool].baseline)
    if as_json:
        document = {"pool": pool, "judgements": len(log.judged), "splits": found}
        click.echo(json_text(document))
    else:
        click.echo(on_screen(page(found, pool, len(log.judged))))
    return 0


def page(found: list[Split], pool: str, judgements: int) -> str:
    """Suggestions for people."""
    from router.history.splits import remedy

    if not found:
        return f"pool {pool}: {judgements:,} judgements, and no split that they are certain of"
    lines = [f"pool {pool}: {judgements:,} judgements; how much better the baseline is, 95 % intervals"]
    for split in found:
        edge = f"{split.edge:.3f}".rstrip("0").rstrip(".")
        lines += [
            "",
            f"{split.stratum}, {split.model} ({split.judged:,} judgements)",
            f"  {split.feature} <= {edge}:  {_interval(split.left)}",
            f"  {split.feature} >  {edge}:  {_interval(split.right)}",
            f"  difference {_interval(split.difference)}",
            f"  -> {remedy(split)}",
        ]
    return "\n".join(lines)


def _interval(one: Estimate) -> str:
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
