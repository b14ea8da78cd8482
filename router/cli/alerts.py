"""``alerts``: what is open, said in full; acknowledge it or close it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from router.cli.control import signed
from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from router.config import Config
    from router.contract.records import Alert


@click.group(invoke_without_command=True)
@click.option("--all", "all_", is_flag=True, help="Also those that are closed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_context
@common
def alerts(context: click.Context, config: Config, *, all_: bool, as_json: bool) -> None:
    """Show open alerts: what was seen, what is at stake, what to do and how to undo it."""
    if context.invoked_subcommand is not None:
        return
    import asyncio
    from dataclasses import asdict

    from router.alerts import known

    found = asyncio.run(known(client_of(config), config.kafka.prefix))
    shown = [alert for alert in found if all_ or alert.state != "closed"]
    if as_json:
        document = {"alerts": [asdict(alert) for alert in shown]}
        click.echo(json_text(document))
    else:
        click.echo(on_screen("\n\n".join(map(page, shown)) or "no alert is open"))


@alerts.command
@click.argument("id_", metavar="ID")
@signed
@common
def ack(config: Config, id_: str, **who: str) -> None:
    """Say that somebody looks after an alert; ID may be cut short."""
    _act(config, id_, "acknowledge", **who)


@alerts.command
@click.argument("id_", metavar="ID")
@signed
@common
def close(config: Config, id_: str, **who: str) -> None:
    """Close an alert: its tests begin anew. What was given back stays with the baseline until it is released."""
    _act(config, id_, "close", **who)


def _act(config: Config, id_: str, act: str, *, by: str, reason: str) -> None:
    import asyncio

    from router.alerts import act as do

    alert = asyncio.run(do(client_of(config), config.kafka.prefix, id_, act, by=by, reason=reason, now_ms=_now_ms()))
    click.echo(
        f"{'acknowledged' if act == 'acknowledge' else 'closed'}: {alert.pool}/{alert.stratum} {alert.signal} ({alert.id[:8]})"
    )


def page(alert: Alert) -> str:
    """One alert, for the person on call."""
    where = "/".join(part for part in (alert.pool, alert.stratum, alert.model) if part) or "all"
    lines = [
        f"{alert.severity}: {where}, {alert.signal}  [{alert.state}, id {alert.id[:8]}]",
        f"  since      {alert.since}",
    ]
    if summary := alert.evidence.get("summary") or alert.evidence.get("reason"):
        lines.append(f"  seen       {summary}")
    lines += [f"             {text}" for text in _signals(alert.evidence.get("signals") or {})]
    if cause := alert.evidence.get("cause"):
        lines.append(f"  cause      {cause}")
    if alert.reference is not None:
        lines.append(f"  reference  {alert.reference.kind}, {alert.reference.n:,} observations")
    if alert.traffic_share is not None:
        lines.append(f"  traffic    {alert.traffic_share:.0%} of the pool")
    if alert.money is not None:
        risk, saving = (
            value / 1e9 for value in (alert.money.at_risk_nano_usd_per_day, alert.money.saving_nano_usd_per_day)
        )
        lines.append(
            f"  at stake   ${risk:,.2f} a day of bad answers, against ${saving:,.2f} a day that the stratum saves"
        )
    action = alert.action
    for name, text in (
        ("done", action.taken),
        ("proposed", action.proposed),
        ("do", action.command),
        ("undo", action.undo),
    ):
        if text and not (name == "do" and action.taken):
            lines.append(f"  {name:10} {text}")
    return "\n".join(lines)


def _signals(found: dict[str, Any]) -> list[str]:
    lines = []
    for signal, one in found.items():
        if "pairs" in one:
            lines.append(f"{signal}: {one['pairs']:,} pairs, {one['worse_less_better']:+,.0f} worse less better")
        elif "pilot_judged" in one:
            lines.append(
                f"{signal}: {one['pilot_bad']:,.0f} of {one['pilot_judged']:,} bad, "
                f"baseline {one['reference_bad']:,.0f} of {one['reference_judged']:,}"
            )
        else:
            lines.append(f"{signal}: {one['pilot']:,.0f} of the pilot, {one['reference']:,.0f} of the baseline")
    return lines


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
