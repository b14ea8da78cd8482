"""``rollout plan``: how long a rollout will take, and what would make it shorter."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common

if TYPE_CHECKING:
    from router.config import Config
    from router.core.rollout.plan import Stage

_HELPS = {
    "quality": "more reviews (reviews_per_day), judged pairs (shadow_percent, judge), a first stage of 0 %, or a wider quality_margin",
    "errors": "more traffic, or a larger error_increase",
    "latency": "more traffic, or latency_ratio = false",
    "saving": "more traffic",
    "time": "fewer min_days",
}


@click.command
@click.option("--pool", metavar="POOL", default="auto", show_default=True, help="Whose rollout.")
@click.option(
    "--requests-per-day", type=click.FloatRange(1), help="Traffic that is expected [default: what there was]."
)
@click.option("--strata", type=click.IntRange(1, 128), help="Goes with it: how many there will be.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def plan(config: Config, *, pool: str, requests_per_day: float | None, strata: int | None, as_json: bool) -> int:
    """Say how long each stratum will be at each stage. Exit code 1 if the rollout would take longer than its deadline."""
    from router.contract.topics import DAY_MS
    from router.core.rollout.plan import days_of, planned
    from router.stages.rollout import plan_of

    paces, basis = _paces(config, pool, requests_per_day, strata)
    declared = plan_of(config.pools[pool])
    deadline = declared.deadline_ms / DAY_MS
    found = {stratum: planned(pace, declared) for stratum, pace in paces.items()}
    late = [stratum for stratum, stages in found.items() if not _in_time(days_of(stages), deadline)]
    if as_json:
        rows = [
            {"stratum": stratum, "days": days_of(stages), "stages": [asdict(one) for one in stages]}
            for stratum, stages in found.items()
        ]
        document = {"pool": pool, "deadline_days": deadline, "in_time": not late, "strata": rows, "basis": basis}
        click.echo(json_text(document))
    else:
        click.echo(page(found, pool, deadline, late, basis))
    return 1 if late or not found else 0


def _paces(config: Config, pool: str, requests: float | None, strata: int | None) -> tuple[dict[str, Any], str]:
    import asyncio

    from router.contract.errors import ConfigError
    from router.contract.topics import Names
    from router.history.guard_power import windows_of
    from router.history.rollout_plan import expected, paces

    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    chosen = config.pools[pool]
    if chosen.rollout is None:
        raise ConfigError(f"pools.{pool}.rollout: is not set; `rollout = true` takes the defaults")
    if strata is not None and requests is None:
        raise ConfigError("--strata: goes with --requests-per-day")
    if requests is not None:
        number = strata or 8
        return {"each": expected(requests, number, chosen)}, f"{requests:,.0f} requests a day in {number} equal strata"
    windows = asyncio.run(windows_of(client_of(config), Names(config.kafka.prefix), pool))
    days, found = paces(windows, chosen)
    return found, f"{days:.2g} days of traffic"


def page(found: dict[str, list[Stage]], pool: str, deadline: float, late: list[str], basis: str) -> str:
    """For people: the slowest stratum first."""
    from router.core.rollout.plan import days_of

    if not found:
        return f"pool {pool}: no metric window has closed yet, so nothing is known of its traffic (--requests-per-day says it)"
    percents = max(([stage.percent for stage in stages] for stages in found.values()), key=len)
    lines = [
        f"pool {pool}: expected days at each stage, for a pilot that is as good as the reference (by {basis})",
        "",
        f"{'stratum':24} "
        + " ".join(f"{f'{percent:g} %':>9}" for percent in percents)
        + f" {'in all':>9}   takes longest",
    ]
    for stratum, stages in sorted(found.items(), key=lambda item: -(days_of(item[1]) or 1e9)):
        days = [stage.days for stage in stages] + [None] * (len(percents) - len(stages))
        waits = max(stages, key=lambda stage: 1e9 if stage.days is None else stage.days)
        cells = " ".join(f"{_days(one):>9}" for one in days)
        lines.append(f"{stratum:24} {cells} {_days(days_of(stages)):>9}   {waits.waits} at {waits.percent:g} %")
    if not late:
        return "\n".join([*lines, "", f"within the deadline of {deadline:g} days"])
    waits_ = {
        stage.waits for stratum in late for stage in found[stratum] if stage.days is None or stage.days > deadline / 4
    }
    lines += ["", f"NOT within the deadline of {deadline:g} days: {', '.join(late)}", "what would help:"]
    return "\n".join([*lines, *(f"  {metric}: {_HELPS[metric]}" for metric in sorted(waits_ or {"time"}))])


def _days(days: float | None) -> str:
    return "never" if days is None else f"{days:.1f}"


def _in_time(days: float | None, deadline: float) -> bool:
    return days is not None and days <= deadline
