"""``pin ban drain freeze rollout holdout rollback release``: orders of a person, in force on every router within two seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from router.cli.options import client_of, common
from router.cli.rollout_plan import plan
from router.cli.status_units import on_screen
from router.contract.errors import ConfigError
from router.core.slicing import KIND, VOCABULARY

if TYPE_CHECKING:
    from router.config import Config
    from router.contract.records import Control
    from router.history.what_if import Change

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def signed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who and why: required, whatever is ordered."""
    command = click.option("--by", required=True, metavar="NAME", help="Who orders it.")(command)
    return click.option("--reason", required=True, metavar="TEXT", help="Why; kept with the order.")(command)


def standing(command: Callable[..., Any]) -> Callable[..., Any]:
    """How long an order stands, and whether it is only shown."""
    command = click.option("--for", "for_", metavar="TIME", help="Expires after 90s, 30m, 2h or 1d.")(command)
    return click.option("--dry-run", is_flag=True, help="Show the order, and what it would change; order nothing.")(
        command
    )


@click.command
@click.argument("scope")
@click.argument("model")
@signed
@standing
@common
def pin(config: Config, scope: str, model: str, **how: Any) -> None:
    """Send all requests of SCOPE (pool:P, stratum:P/CLASS/BAND, tenant:T, all) to MODEL."""
    _known(config, model)
    _order(config, scope, "pin", {"model": model}, **how)


@click.command
@click.argument("scope")
@signed
@standing
@common
def ban(config: Config, scope: str, **how: Any) -> None:
    """Take a model (SCOPE model:M) out at once: its queue goes back unmade and falls back."""
    _order(config, scope, "ban", {}, **how)


@click.command
@click.argument("scope")
@signed
@standing
@common
def drain(config: Config, scope: str, **how: Any) -> None:
    """Send a model (SCOPE model:M) no new work; what is queued is served."""
    _order(config, scope, "drain", {}, **how)


@click.command
@click.argument("scope")
@signed
@standing
@common
def rollback(config: Config, scope: str, **how: Any) -> None:
    """Give the pilot's traffic of SCOPE (stratum:P/CLASS/BAND, stratum:P/slice/NAME, tenant:T, pool:P, all) back to the baseline; release undoes it."""
    _order(config, scope, "rollback", {}, **how)


@click.command
@click.argument("scope")
@signed
@standing
@common
def freeze(config: Config, scope: str, **how: Any) -> None:
    """Keep the weights of SCOPE (stratum:P/CLASS/BAND, pool:P, all) as they are, and its rollout at its stage. The guard may still give it back."""
    _order(config, scope, "freeze", {}, **how)


class Rollout(click.Group):
    """``rollout SCOPE PERCENT`` and ``rollout plan``: what is no command's name is a scope."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "", self.commands["SCOPE"], args


@click.group(cls=Rollout, subcommand_metavar="SCOPE PERCENT --by NAME --reason TEXT | plan")
def rollout() -> None:
    """Let the policy decide PERCENT of what the holdout leaves of SCOPE (pool:P, stratum:P/CLASS/BAND, tenant:T, all).

    Options of an order are those of `pointsman pin`. A pool with a table `rollout` raises its share by itself; who orders one overrules it.
    """


rollout.add_command(plan)


@rollout.command("SCOPE", hidden=True)
@click.argument("scope")
@click.argument("percent", type=click.FloatRange(0, 100))
@signed
@standing
@common
def rollout_order(config: Config, scope: str, percent: float, **how: Any) -> None:
    """Let the policy decide PERCENT of what the holdout leaves of SCOPE (pool:P, stratum:P/CLASS/BAND, tenant:T, all)."""
    _order(config, scope, "rollout", {"percent": percent}, **how)


@click.command
@click.argument("scope")
@click.argument("percent", type=click.FloatRange(0, 100))
@signed
@standing
@common
def holdout(config: Config, scope: str, percent: float, **how: Any) -> None:
    """Keep PERCENT of SCOPE (pool:P, stratum:P/CLASS/BAND, tenant:T, all) on the baseline, to compare with."""
    _order(config, scope, "holdout", {"percent": percent}, **how)


@click.command
@click.argument("scope")
@click.argument("action", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would be released, release nothing.")
@signed
@common
def release(config: Config, scope: str, action: str | None, *, by: str, reason: str, dry_run: bool) -> None:
    """Take back the orders of SCOPE; of one ACTION if given."""
    import asyncio

    from router import control
    from router.contract.topics import Names

    topic = Names(config.kafka.prefix).of("control")
    client = client_of(config)
    orders = asyncio.run(control.standing(client, topic))
    released = control.release(orders, scope, action, by=by, reason=reason, now_ms=_now_ms())
    if not released:
        there = ", ".join(f"{one.scope} {one.action}" for one in orders) or "none at all"
        raise ConfigError(
            f"release {scope} {action or ''}: there is no such order; standing: {there}".replace(" :", ":")
        )
    if not dry_run:
        asyncio.run(control.send(client, topic, released))
    for one in released:
        click.echo(on_screen(f"{'would release' if dry_run else 'released'}: {one.action} {one.scope}"))
    if dry_run:
        _say_what_if(config, released)


def _order(
    config: Config,
    scope: str,
    action: Any,
    args: dict[str, Any],
    *,
    by: str,
    reason: str,
    for_: str | None,
    dry_run: bool,
) -> None:
    import asyncio

    from router import control
    from router.contract.topics import Names

    kind, _, name = scope.partition(":")
    if kind == "model":
        _known(config, name)
    if kind == "pool" and name not in config.pools:
        raise ConfigError(f"{action} {scope}: there is no pool {name!r}; pools: {', '.join(config.pools)}")
    if kind == "stratum":
        _a_slice_that_is(scope, action)
    made = control.order(
        scope, action, args, by=by, reason=reason, now_ms=_now_ms(), for_s=seconds(for_) if for_ else None
    )
    names = Names(config.kafka.prefix)
    topic = names.of("control")
    taken: list[Control] = []
    if action == "rollout":
        taken = control.overruled(asyncio.run(control.standing(client_of(config), topic)), made, _now_ms())
    if not dry_run:
        asyncio.run(control.send(client_of(config), topic, [made, *taken]))
    _say(made, dry_run=dry_run)
    if taken:
        what = "1 narrower order" if len(taken) == 1 else f"{len(taken)} narrower orders"
        click.echo(f"{'would take' if dry_run else 'took'} back {what} of the rollout's own, which would go before it")
    if dry_run:
        _say_what_if(config, [made, *taken])


def _say(made: Control, *, dry_run: bool) -> None:
    args = " ".join(str(value) for value in made.args.values())
    until = f" until {made.expires_at}" if made.expires_at else ""
    click.echo(f"{'would order' if dry_run else 'ordered'}: {made.action} {made.scope} {args}".rstrip() + until)
    if not dry_run:
        click.echo("in force on every router within 2 s")
        click.echo(f'undo: pointsman release {made.scope} {made.action} --by {made.by} --reason "..."')


def _say_what_if(config: Config, given: list[Control]) -> None:
    """What orders would change of the traffic of the last hour, where there is any."""
    import asyncio

    from router import control
    from router.cli.status_units import dollars
    from router.contract.errors import Unavailable
    from router.contract.topics import Names
    from router.history.what_if import what_if

    async def change() -> Change | None:
        client, names = client_of(config), Names(config.kafka.prefix)
        return await what_if(client, names, await control.standing(client, names.of("control")), given, _now_ms())

    try:
        found = asyncio.run(change())
    except (Unavailable, ConfigError) as error:
        click.echo(on_screen(f"what it would change is not known: {error}"))
        return
    if found is None:
        return
    if not found.requests:
        click.echo("what it would change is not known: no decisions in the last hour")
        return
    click.echo(f"of the {found.requests:,} requests of the last hour {found.moved:,} would go elsewhere")
    for (before, after), count in found.moves.most_common():
        click.echo(on_screen(f"  {count:>9,}  {before} -> {after}"))
    if found.moved:
        click.echo(f"their expected cost: {dollars(found.cost_now_nano_usd)} -> {dollars(found.cost_then_nano_usd)}")


def _a_slice_that_is(scope: str, action: str) -> None:
    """Refuse the name of a slice that no request is in, and a freeze of one: weights are a stratum's."""
    _, _, name = scope.partition(f"/{KIND}/")
    if name and name not in VOCABULARY:
        raise ConfigError(f"{action} {scope}: there is no slice {name!r}; slices: {', '.join(sorted(VOCABULARY))}")
    if name and action == "freeze":
        raise ConfigError(f"freeze {scope}: needs all, a pool or a stratum, whose weights are learned, not a slice")


def _known(config: Config, model: str) -> None:
    if model not in config.models:
        raise ConfigError(f"there is no model {model!r}; models: {', '.join(config.models)}")


def seconds(text: str, option: str = "--for") -> float:
    """``90s``, ``30m``, ``2h``, ``1d`` as seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not found or float(found[1]) <= 0:
        raise ConfigError(f"{option} {text!r}: expected a time like 90s, 30m, 2h or 1d")
    return float(found[1]) * UNITS_S[found[2]]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
