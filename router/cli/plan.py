"""``plan``: what an installation of a given size needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from router.core.capacity import Plan


@click.command
@click.option("--rate", type=float, required=True, metavar="N", help="Requests a second, at the peak.")
@click.option("--prompt-tokens", type=int, default=300, show_default=True, help="Tokens of a prompt, mean.")
@click.option("--answer-tokens", type=int, default=200, show_default=True, help="Tokens of an answer, mean.")
@click.option("--attempts", type=float, default=1.05, show_default=True, help="Calls a request: retries, fallbacks.")
@click.option("--provider-s", type=float, default=2.0, show_default=True, help="Seconds a call takes, mean.")
@click.option("--models", type=int, default=3, show_default=True, help="Models that share the calls evenly.")
@click.option("--replication", type=int, default=3, show_default=True, help="Copies of each topic.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def plan(*, as_json: bool, **figures: Any) -> None:
    """Say what RATE needs: records, bytes, processes, partitions, brokers, and what gives out first.

    From figures that were measured on one machine and some assumptions: docs/scale.md has both, and what they are worth.
    """
    from router.core import capacity

    try:
        found = capacity.plan(capacity.Workload(**figures))
    except ValueError as error:
        name, _, why = str(error).partition(": ")
        raise ConfigError(f"--{name.replace('_', '-')}: {why}") from None
    click.echo(json_text(asdict(found)) if as_json else page(found))


def page(found: Plan) -> str:
    """A plan for people."""
    from router.core.capacity import MIB, TIB

    load = found.workload
    tokens = f"{load.prompt_tokens:,} tokens in, {load.answer_tokens:,} out"
    lines = [
        f"{load.rate:,.0f} requests/s, {tokens}, {load.attempts:g} calls of {load.provider_s:g} s each",
        f"  {found.records_per_s:,.0f} records/s, {found.bytes_per_s / MIB:,.1f} MiB/s before copies and compression",
        f"  {found.disk_bytes / TIB:,.1f} TiB of disk, {load.replication} copies, retention as `topics create` sets it",
        f"  kafka.partitions = {found.partitions}",
        "",
        "  what         how many    one carries  because of",
    ]
    lines += [f"  {need.name:<9} {need.amount:>11,}  {need.each:>11,.0f}/s  {need.why}" for need in found.needs]
    first = found.needs[0]
    lines += ["", f"  gives out first: {first.name}, at {first.each:,.0f} requests/s each. Then: {first.remedy}."]
    lines += [f"  {note}" for note in found.notes]
    return "\n".join(lines)
