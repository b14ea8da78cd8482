"""``journal``: what was decided about traffic, by whom, why, and until when."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.core.records import Entry

#: Metrics of a rollout: how a value is shown, and in which unit.
_SHOWN = {
    "quality": (100.0, " points more bad answers"),
    "saving": (100.0, " % less a request"),
    "latency": (1.0, " times the reference's 95th percentile"),
    "errors": (100.0, " points more without an answer"),
}


@click.command
@click.option(
    "--scope", metavar="SCOPE", help="What concerns it only: pool:P, stratum:P/CLASS/BAND, model:M, tenant:T."
)
@click.option("--since", metavar="TIME", help="Not older than 90s, 30m, 2h or 7d.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def journal(config: Config, *, scope: str | None, since: str | None, last: int, as_json: bool) -> None:
    """Show what was decided about traffic: steps of rollouts with what was known, orders of people and of the guard, with their reasons."""
    import asyncio
    from dataclasses import asdict

    from router.cli.control import seconds
    from router.contract.topics import Names
    from router.history.journal import entries

    since_ms = 0 if since is None else time.time_ns() // 1_000_000 - int(seconds(since, "--since") * 1000)
    found = asyncio.run(entries(client_of(config), Names(config.kafka.prefix), scope=scope, since_ms=since_ms))[-last:]
    if as_json:
        click.echo(json_text({"entries": [asdict(one) for one in found]}))
    else:
        click.echo(on_screen("\n\n".join(map(page, found)) or "nothing was decided"))


def page(entry: Entry) -> str:
    """One entry, the newest words last."""
    head = f"{entry.at[:10]} {entry.at[11:16]}  {entry.scope}  {_what(entry)}"
    lines = [head, f"    by {entry.by}: {entry.reason}"]
    if entry.until:
        when = f"{entry.until[:10]} {entry.until[11:16]}"
        lines.append(f"    {'until' if entry.kind == 'order' else 'no step before'} {when}")
    return "\n".join([*lines, *(f"    {line}" for line in map(gate, entry.known))])


def _what(entry: Entry) -> str:
    if entry.action is not None:
        args = " ".join(str(value) for value in entry.args.values())
        return f"{'' if entry.kind == 'order' else 'release '}{entry.action} {args}".rstrip()
    if entry.before_percent is None:
        return entry.kind
    if entry.before_percent == entry.after_percent:
        return f"{entry.kind} at {entry.after_percent:g} %"
    return f"{entry.kind} {entry.before_percent:g} -> {entry.after_percent:g} %"


def gate(found: dict[str, Any]) -> str:
    """A metric as it stood, for people."""
    scale, unit = _SHOWN.get(found["metric"], (1.0, ""))
    bound = f"bound {scale * found['bound']:g}"
    mark = {"clear": "ok", "failed": "NO"}.get(found["state"], "..")
    if found["value"] is None:
        return f"{mark} {found['metric']:8} not known yet: {found['lacks']} ({bound})"
    value, low, high = (_number(found[name], scale) for name in ("value", "low", "high"))
    return f"{mark} {found['metric']:8} {value}{unit} [{low}, {high}], {bound}, of {found['n']:,}"


def _number(value: float | None, scale: float) -> str:
    return "any" if value is None else f"{scale * value:.2f}".rstrip("0").rstrip(".")
