"""``cascade plan`` and ``cascade sample``: what asking the cheap model first would cost and risk, and the answers to label for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from router.config import Config, PoolConfig
    from router.history.cascade import Outlook


#: Labels that show a risk of five per cent, if none of them is bad.
FEW = 60


@click.group
def cascade() -> None:
    """Ask the cheap model first, a better one where the answer is not sure enough."""


@cascade.command
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
@click.option("--pool", metavar="POOL", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def plan(config: Config, file: Path | None, *, pool: str, as_json: bool) -> None:
    """Say what a pool's cascade would risk, cost and take, stratum by stratum, before it is turned on.

    From labels and usage in the topics; a pool without a cascade is taken as if it had one with every default. FILE holds labelled
    answers instead, one JSON object a line: confidence and quality (0..1); stratum and inclusion if there are several.
    """
    import asyncio

    from router.contract.topics import Names
    from router.history.cascade import documents, named, outlooks
    from router.stages.snapshot import cascade_facts

    config = _with_cascade(config, pool)
    settings = config.pools[pool]
    if file is not None:
        found = list(named(file, settings))
    else:
        facts = cascade_facts(settings, config.models)
        scale = "" if facts is None else facts.scale
        found = asyncio.run(outlooks(client_of(config), Names(config.kafka.prefix), pool, settings, scale))
    if as_json:
        document = {"pool": pool, "strata": documents(found)}
        click.echo(json_text(document))
    else:
        click.echo(on_screen(page(found, pool, settings)))


@cascade.command
@click.option("--pool", metavar="POOL", default="auto", show_default=True)
@click.option("--most", metavar="N", type=click.IntRange(1), default=200, show_default=True, help="Answers at most.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Instead of standard output.")
@common
def sample(config: Config, *, pool: str, most: int, out: Path | None) -> None:
    """Write answers of the cheap model that are to be labelled, with their prompts, one JSON object a line.

    They are drawn evenly, whether the caller got them or not. Put 1 (good) or 0 (bad) into each `value`, then send the file with
    `pointsman feedback FILE`.
    """
    import asyncio

    import orjson

    from router.contract.topics import Names
    from router.history.cascade_sample import to_label

    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    lines = asyncio.run(to_label(client_of(config), Names(config.kafka.prefix), pool, most))
    text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_bytes(text)
    found = config.pools[pool].cascade
    why = (
        "" if lines or (found is not None and found.label_percent > 0) else f": pools.{pool}.cascade.label_percent is 0"
    )
    click.echo(f"{len(lines)} answers to label{why}; of those older than two days the text is gone", err=True)


def _with_cascade(config: Config, name: str) -> Config:
    """The configuration, with a cascade in the pool: its own, or one with every default."""
    from router.config import CascadeConfig

    if name not in config.pools:
        raise ConfigError(f"--pool: there is no pool {name!r}; pools: {', '.join(config.pools)}")
    pool = config.pools[name]
    if pool.models[0] == pool.baseline:
        raise ConfigError(f"pool {name}: its cheapest model is its baseline: there is no better one to ask")
    if pool.cascade is not None:
        return config
    with_one = pool.model_copy(update={"cascade": CascadeConfig()})
    return config.model_copy(update={"pools": {**config.pools, name: with_one}})


def page(found: list[Outlook], pool: str, settings: PoolConfig) -> str:
    """A plan for people."""
    cascade = settings.cascade
    assert cascade is not None
    cheap, to = settings.models[0], settings.escalate_to
    lines = [
        f"pool {pool}: {cheap} answers first, {to} where that is not sure enough",
        f"wanted: at most {cascade.target_risk:.1%} of the requests get a bad answer of {cheap}, with {1 - cascade.delta:.0%} confidence",
    ]
    if not found:
        return "\n".join([*lines, "nothing is known yet: no usage and no labels of this pool are kept"])
    for one in found:
        lines += ["", f"{one.stratum}: {_threshold(one)}"]
        if any(value is not None for value in one.cost.values()):
            lines.append(f"  {_money(one, cheap, to)}")
        if any(value is not None for value in one.p50_ms.values()):
            lines.append(f"  {_time(one, cheap, to)}")
    if any(not one.calibrated for one in found):
        first = (
            ""
            if cascade.label_percent
            else f"set pools.{pool}.cascade.label_percent (observe = true: nothing escalates yet), then "
        )
        lines += [
            "",
            f"To calibrate: {first}pointsman cascade sample --pool {pool} --out labels.jsonl, put a value into each line,",
            "  pointsman feedback labels.jsonl",
        ]
    return "\n".join(lines)


def _threshold(one: Outlook) -> str:
    known = one.calibration
    if not known.labels:
        return f"no labels; threshold {one.threshold:g} as configured, its risk is not known"
    share = "" if one.escalates is None else f"; {one.escalates:.0%} of the answers escalate"
    if not one.calibrated:
        why = (
            "too few to show the risk" if known.labels < FEW else "and none of the thresholds is shown to keep the risk"
        )
        return f"{known.labels} labels, {why}; threshold {one.threshold:g} as configured{share}"
    return f"threshold {one.threshold:.3f} by {known.labels} labels; risk {known.risk:.1%} as seen, below {known.bound:.1%}{share}"


def _money(one: Outlook, cheap: str, to: str) -> str:
    costs = {name: one.cost.get(name) for name in (cheap, "cascade", to)}
    told = ", ".join(
        f"{name} {'unknown' if value is None else f'{value / 1e9:.6f} USD'}" for name, value in costs.items()
    )
    mine, theirs = costs["cascade"], costs[to]
    saved = f"; {1.0 - mine / theirs:+.0%} saved against {to}" if mine is not None and theirs else ""
    return f"cost a request: {told}{saved}"


def _time(one: Outlook, cheap: str, to: str) -> str:
    told = []
    for name in (cheap, "cascade", to):
        p50, p95 = one.p50_ms.get(name), one.p95_ms.get(name)
        told.append(f"{name} {'unknown' if p50 is None or p95 is None else f'{p50:,.0f} / {p95:,.0f}'}")
    return f"ms of the calls, p50 / p95: {', '.join(told)}"
