"""``explain`` and ``replay``: why a request went where it went, and whether it would again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.history.policy_value import Found


@click.command
@click.argument("id", metavar="ID|FILE")
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="Goes with a custom_id.")
@click.option("--json", "as_json", is_flag=True, help="The records themselves.")
@common
def explain(config: Config, id: str, *, tenant: str, as_json: bool) -> int:  # noqa: A002 - the option's name
    """Say why a request went where it went.

    ID is the request id of its result, or its custom_id; FILE holds decision records, one a line, and is explained without Kafka.
    """
    import asyncio

    from router.contract.ids import request_id
    from router.contract.topics import Names
    from router.history import reader
    from router.history.explain import accounts_in
    from router.history.explain import explain as told

    if (file := Path(id)).is_file():
        accounts = accounts_in(file)
        for account in accounts:
            click.echo(json_text(account) if as_json else on_screen("\n".join(told(account))))
        return 0 if accounts else 1
    found_id = id if re.fullmatch("[0-9a-f]{32}", id) else request_id(tenant, id)
    account = asyncio.run(reader.account_of(client_of(config), Names(config.kafka.prefix), found_id))
    click.echo(json_text(account) if as_json else on_screen("\n".join(told(account))))
    return 0 if account.decisions or account.result else 1


@click.command
@click.option(
    "--policy", metavar="CANDIDATE", help="A model, or a TOML file of weights: what would that have been worth?"
)
@click.option("--pool", metavar="POOL", default="auto", show_default=True, help="Goes with --policy.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def replay(config: Config, *, policy: str | None, pool: str, as_json: bool) -> int:
    """Make every decision again from the audit log; exit 1 when any comes out differently.

    With --policy: estimate instead what another policy would have been worth and have cost.
    """
    if policy is not None:
        return _evaluated(config, policy, pool, as_json=as_json)
    import asyncio

    from router.contract.topics import Names
    from router.history.reader import replay_all

    found = asyncio.run(replay_all(client_of(config), Names(config.kafka.prefix)))
    counts = {str(verdict): count for verdict, count in found.counts.items()}
    if as_json:
        click.echo(json_text({"counts": counts, "different": found.different}))
    else:
        total = sum(counts.values())
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) or "none"
        click.echo(f"{total} decisions: {told}")
        for one in found.different:
            click.echo(on_screen(f"  {one.request_id} attempt {one.attempt}"))
            for difference in one.differences:
                click.echo(on_screen(f"    {difference}"))
    return 1 if found.different else 0


def _evaluated(config: Config, policy: str, pool: str, *, as_json: bool) -> int:
    """What a candidate would have been worth, told."""
    import asyncio

    from router.contract.errors import ConfigError
    from router.contract.topics import Names
    from router.history.policy_value import candidate_of, value_of

    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    candidate = candidate_of(policy, config.models, config.pools[pool].baseline)
    found = asyncio.run(value_of(client_of(config), Names(config.kafka.prefix), pool, candidate))
    click.echo(json_text(found.document()) if as_json else on_screen(page(found, pool)))
    return 0


def page(found: Found, pool: str) -> str:
    """An evaluation for people."""
    from router.core.ope import GAMMA

    logged, asked = found.logged_nano_usd, found.candidate_nano_usd
    change = f"{asked / logged - 1.0:+.0%}" if logged else "unknown"
    lines = [
        f"pool {pool}: {found.decisions:,} decisions of its pilot; {found.unsupported:.2%} of the candidate's choices unsupported",
        f"expected cost of a request: {logged / 1e9:.6f} USD as it was, {asked / 1e9:.6f} of the candidate ({change})",
    ]
    if not found.kinds:
        lines.append("nobody judged any of them: of quality nothing can be said")
    for kind, one in found.kinds.items():
        if isinstance(one, str):
            lines.append(f"{kind}: no estimate: {one}")
            continue
        low, high = one.if_judged_unevenly
        lines += [
            f"{kind}: {one.judged:,} judgements that count as {one.effective:.0f} sessions; 95 % intervals",
            f"  as it was    {one.logged}",
            f"  candidate    {one.dr}   (by inverse propensity alone {one.snips})",
            f"  difference   {one.gain}",
            f"  were good answers judged up to {GAMMA:g} times as often as bad ones, or as seldom: {low:.3f} to {high:.3f}",
        ]
    return "\n".join(lines)
