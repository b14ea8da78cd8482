"""``surveys``: which there are, and who answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common

if TYPE_CHECKING:
    from router.config import Config
    from router.core.review_rates import Rate
    from router.core.survey_rates import Comparison
    from router.history.surveys import Group, SurveyRates


@click.group
def surveys() -> None:
    """Questions to users about answers: which there are, who answers, and what that says of all."""


@surveys.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def list_(config: Config, *, as_json: bool) -> None:
    """Print the surveys of the configuration."""
    from router.cli.status_units import printable

    if as_json:
        found = {name: one.model_dump(mode="json") for name, one in config.surveys.items()}
        click.echo(json_text(found))
        return
    for name, one in config.surveys.items():
        pools = ", ".join(one.pools) or "all pools"
        click.echo(f'{name}  "{printable(one.question)}"  {one.scale}')
        click.echo(
            f"  {pools}: {one.percent:g} % of requests, {one.per_day} a day at most, "
            f"nobody again within {one.quiet_days} days; {one.answer_days} days to answer"
        )
    if not config.surveys:
        click.echo("no surveys: [surveys.NAME] in the configuration")


@surveys.command
@click.option("--survey", metavar="NAME", help="Of this survey alone.")
@click.option("--pool", metavar="POOL", help="Of this pool alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def rates(config: Config, *, survey: str | None, pool: str | None, as_json: bool) -> None:
    """Say who answered, what, and what the silent ones could change, by stratum and cohort, with 95 % intervals."""
    import asyncio
    import time

    from router.contract.topics import Names
    from router.history import surveys as history

    now_ms = time.time_ns() // 1_000_000
    names = Names(config.kafka.prefix)
    found = asyncio.run(history.rates(client_of(config), names, config, now_ms, survey=survey, pool=pool))
    click.echo(json_text(found) if as_json else page(found))


def page(found: list[SurveyRates]) -> str:
    """Rates for people."""
    if not found:
        return "nobody was asked yet: `pointsman surveys list`"
    return "\n\n".join("\n".join(_lines(one)) for one in found)


def _lines(one: SurveyRates) -> list[str]:
    from router.cli.status_units import printable

    lines = [
        f"survey {printable(one.survey)}, pool {printable(one.pool)}; answers within {one.answer_days} days of being asked"
    ]
    if one.groups:
        lines.append(
            f"  {'stratum':<24} {'cohort':<8} {'asked':>6} {'answered':>8}  "
            f"{'response rate':<22} {'mean of those who answered':<27} mean of all asked"
        )
    lines += [_row(group) for group in one.groups]
    lines.append(
        f"  {one.waiting} more were asked lately and count when their time is over: {one.waiting_answered} have answered"
    )
    if one.late:
        lines.append(f"  {one.late} answers came too late and do not count")
    if one.comparison is None:
        lines.append("  pilot beside reference: one of them was not asked, so there is nothing to compare")
        return lines
    lines += _compared(one.comparison)
    for stratum, found in one.strata.items():
        if found.rate.shows:
            lines += [f"  of {printable(stratum)} alone:", *(f"  {line}" for line in _compared(found))]
    return lines


def _compared(found: Comparison) -> list[str]:
    rate, mean = found.rate, found.mean
    lines = [f"  response rate, pilot less reference: {rate.value:+.1%} ({rate.low:+.1%} to {rate.high:+.1%})"]
    if rate.shows:
        lines.append("    they do not answer equally often: the means are of different people, not of answers alone")
    if mean is not None:
        lines.append(
            f"  mean of those who answered, pilot less reference: {mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"
        )
    lines.append(
        f"  of all who were asked it lies between {found.low:+.3f} and {found.high:+.3f}, whatever the silent ones think"
    )
    return lines


def _row(group: Group) -> str:
    from router.cli.status_units import printable

    found = group.of
    mean = "-" if found.mean is None else _number(found.mean)
    return (
        f"  {printable(group.stratum or 'all'):<24} {group.cohort or 'all':<8} {found.asked:>6} {found.answered:>8}  "
        f"{_share(found.rate):<22} {mean:<27} {found.worst.value:.3f} to {found.best.value:.3f}"
    )


def _share(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} - {rate.high:.1%})"


def _number(rate: Rate) -> str:
    return f"{rate.value:.3f} ({rate.low:.3f} - {rate.high:.3f})"
