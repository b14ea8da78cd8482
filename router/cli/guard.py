"""``guard power``: what the guard can see, and when."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common

if TYPE_CHECKING:
    from router.config import Config
    from router.history.guard_power import Seen


@click.group
def guard() -> None:
    """The tests that compare a stratum's answers with the baseline's."""


@guard.command
@click.option("--pool", metavar="POOL", default="auto", show_default=True, help="Whose strata.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def power(config: Config, *, pool: str, as_json: bool) -> int:
    """Say of each stratum how small a drop is seen within a day, a week and a month, and what would make it a day."""
    import asyncio

    from router.contract.errors import ConfigError
    from router.contract.topics import Names
    from router.history.guard_power import powers

    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    days, found = asyncio.run(powers(client_of(config), Names(config.kafka.prefix), pool, config.pools[pool]))
    if as_json:
        strata = [asdict(one) for one in found]
        document = {"pool": pool, "days": days, "margin": float(config.pools[pool].margin), "strata": strata}
        click.echo(json_text(document))
    else:
        click.echo(page(found, days, pool, float(config.pools[pool].margin)))
    return 0


def page(found: list[Seen], days: float, pool: str, margin: float) -> str:
    """For people: the blindest stratum first."""
    if not found:
        return f"pool {pool}: no metric window has closed yet, so nothing is known of its traffic"
    head = f"{'stratum':24} {'pilot/day':>10} {'reference':>10} {'reviews':>8} {'pairs':>7} {'1 day':>7} {'7 days':>7} {'30 days':>7}"
    lines = [
        f"pool {pool}: smallest drop of the share of good answers that is seen within so many days (by {days:.2g} days of traffic)",
        "",
        f"{head}   a drop of {margin:.0%}",
    ]
    for one in found:
        volume, can = one.volume, one.power
        drops = " ".join(f"{_percent(can.drops[within]):>7}" for within in (1, 7, 30))
        when = "never" if can.days is None else f"in {can.days:.1f} days"
        lines.append(
            f"{one.stratum:24} {volume.pilot:>10,.0f} {volume.reference:>10,.0f} {volume.reviews:>8,.0f} {volume.pairs:>7,.0f} "
            f"{drops}   {'BLIND: ' if can.blind else ''}{when}"
        )
    needs = [one for one in found if one.power.days is None or one.power.days > 1]
    if needs:
        lines += ["", "What would make it one day (each alone):"]
        for one in needs:
            ways = [
                f"{count:,} {what} a day"
                for count, what in (
                    (one.power.reviews_for_one_day, "reviews"),
                    (one.power.pairs_for_one_day, "judged pairs"),
                )
                if count is not None
            ]
            lines.append(f"  {one.stratum:24} {' or '.join(ways) or 'nothing: the pilot has no traffic there'}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
