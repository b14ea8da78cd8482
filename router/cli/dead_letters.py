"""``dead-letters list|show|redrive``: records that could not be used, why, and back to their topic once that is mended.

Keys, values and the shown part of a reason come from outside: nothing of them reaches the terminal that could steer it. Values may
hold prompts, and are shown with ``--text`` alone.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.contract.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from router.config import Config
    from router.contract.topics import Names
    from router.dead_letters import Letter, Place, Plan, Wanted

MAX_KEY_CHARACTERS = 60


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """Filters; what is given must all hold."""
    options = (
        click.option("--reason", metavar="CODE", help="Of this reason code: invalid_request, wrong_slip, ..."),
        click.option("--stage", metavar="STAGE", help="Given up by this stage."),
        click.option("--topic", metavar="TOPIC", help="From this topic, with or without the prefix."),
        click.option("--key", metavar="TEXT", help="With exactly this key."),
        click.option("--since", metavar="TIME", help="Not older than 90s, 30m, 2h or 7d."),
        click.option("--until", metavar="TIME", help="Older than that."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Records that could not be used: what and why, and how they go back."""


@dead_letters.command("list")
@chosen
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def list_(config: Config, *, last: int, as_json: bool, **which: Any) -> None:
    """Show dead letters, the newest last: where, when, from where, why. Never their values."""
    import asyncio

    from router.contract.topics import Names
    from router.dead_letters import letters, marks

    names, client = Names(config.kafka.prefix), client_of(config)
    wanted = _wanted(names, **which)

    async def newest() -> tuple[list[Letter], set[str], int]:
        found, number = deque[Any](), 0
        async for letter in letters(client, names, wanted):
            number += 1
            found.append(_without_value(letter))
            if len(found) > 2 * last:
                found = deque(sorted(found, key=_time)[-last:])
        return sorted(found, key=_time)[-last:], await marks(client, names), number

    found, sent, number = asyncio.run(newest())
    if as_json:
        click.echo(json_text({"count": number, "letters": [document(one, sent=one.origin in sent) for one in found]}))
    else:
        for one in found:
            click.echo(line(one, sent=one.origin in sent))
        click.echo(f"{number} dead letters" + (f", the newest {len(found)} shown" if number > len(found) else ""))


@dead_letters.command
@click.argument("place")
@click.option("--text", is_flag=True, help="With key, value and the full reason: may hold prompts.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def show(config: Config, place: str, *, text: bool, as_json: bool) -> None:
    """Show the dead letter at PLACE (PARTITION/OFFSET, as `list` says)."""
    import asyncio

    from router.contract.topics import Names
    from router.dead_letters import Wanted, hindrance, letters, marks

    names, client = Names(config.kafka.prefix), client_of(config)
    where = _place(place)

    async def find() -> tuple[Letter | None, set[str]]:
        found = [one async for one in letters(client, names, Wanted(places=frozenset([where])))]
        return (found[0] if found else None), await marks(client, names)

    found, sent = asyncio.run(find())
    if found is None:
        raise Unavailable(f"there is no dead letter at {where}")
    said = document(found, sent=found.origin in sent, text=text) | {"hindrance": hindrance(found, names)}
    if as_json:
        click.echo(json_text(said))
    else:
        click.echo(page(said))


@dead_letters.command
@click.argument("places", nargs=-1, metavar="[PLACE]...")
@chosen
@click.option("--all", "everything", is_flag=True, help="All there are; needed where nothing else says which.")
@click.option("--again", is_flag=True, help="Also what was sent back before; never outcomes.")
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=100, show_default=True, help="Records a second.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, send nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def redrive(
    config: Config,
    places: tuple[str, ...],
    *,
    everything: bool,
    again: bool,
    rate: float,
    dry_run: bool,
    as_json: bool,
    **which: Any,
) -> int:
    """Send records back to their topic, with their key and value: those at PLACEs (PARTITION/OFFSET), or by filters.

    Each goes once. Requests that have a result stay; no request gets two. Exit code 1 when something of it cannot go back.
    """
    import asyncio

    from router.contract.topics import Names
    from router.dead_letters import plan_of
    from router.dead_letters import redrive as send

    if not (places or everything or any(value is not None for value in which.values())):
        raise ConfigError(
            "dead-letters redrive: say which by PLACEs, --reason, --stage, --topic, --key, --since; or --all"
        )
    names, client = Names(config.kafka.prefix), client_of(config)
    wanted = _wanted(names, places=places, **which)
    if dry_run:
        plan = asyncio.run(plan_of(client, names, wanted, again=again))
    else:
        plan = asyncio.run(send(client, names, wanted, again=again, per_s=rate, now_ms=_now_ms()))
    found = {one.place for one in plan.send} | {*plan.before, *plan.answered, *plan.refused}
    if missing := wanted.places - found:
        plan.refused |= dict.fromkeys(missing, "there is no such dead letter")
    click.echo(json_text(summary(plan, dry_run=dry_run))) if as_json else click.echo(told(plan, dry_run=dry_run))
    return 1 if plan.refused else 0


def document(letter: Letter, *, sent: bool, text: bool = False) -> dict[str, Any]:
    """A letter as ``--json`` has it. Without ``text``: no value, and of the reason no value that it quotes."""
    record = letter.record
    found: dict[str, Any] = {
        "place": str(letter.place),
        "at": record.at,
        "stage": record.stage,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "code": record.reason.code,
        "message": record.reason.message if text else record.reason.message.partition(", not ")[0],
        "key": None if letter.key is None else letter.key.decode("utf-8", "replace"),
        "value_bytes": record.value_bytes,
        "truncated": record.truncated,
        "redriven": sent,
    }
    return found | ({"key_base64": record.key_base64, "value_base64": record.value_base64} if text else {})


def line(letter: Letter, *, sent: bool) -> str:
    """One letter for people."""
    from router.cli.status_units import printable

    said = printable(document(letter, sent=sent))
    key = "-" if said["key"] is None else said["key"]
    key = key if len(key) <= MAX_KEY_CHARACTERS else f"{key[:MAX_KEY_CHARACTERS]}..."
    origin = f"{said['topic']}/{said['partition']}/{said['offset']}"
    marks = ("  cut" if letter.record.truncated else "") + ("  redriven" if sent else "")
    return f"{said['place']:>9}  {said['at']}  {said['stage']:<8} {said['code']:<18} {origin}  {said['value_bytes']} bytes  key {key}{marks}"


def page(said: dict[str, Any]) -> str:
    """The whole of ``show`` for people; the value line by line."""
    from router.cli.status_units import printable

    value = said.pop("value_base64", None)
    said.pop("key_base64", None)
    lines = [f"{name:<12} {printable(str(it))}" for name, it in said.items() if it is not None]
    if value is not None:
        lines += ["value", *(f"  {printable(one)}" for one in _text(value).splitlines())]
    return "\n".join(lines)


def _text(value_base64: str) -> str:
    import base64

    try:
        return base64.b64decode(value_base64, validate=True).decode("utf-8", "replace").expandtabs(4)
    except ValueError:
        return "(no base64)"


def summary(plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    """What was done, or would be, as ``--json`` has it."""
    return {
        "dry_run": dry_run,
        "redriven": [{"place": str(one.place), "origin": one.origin} for one in plan.send],
        "redriven_before": [str(one) for one in plan.before],
        "has_result": [str(one) for one in plan.answered],
        "refused": [{"place": str(place), "why": why} for place, why in plan.refused.items()],
    }


def told(plan: Plan, *, dry_run: bool) -> str:
    """The same for people."""
    from router.cli.status_units import printable

    lines = [f"{len(plan.send)} {'would be sent' if dry_run else 'sent'} back"]
    by_topic = Counter(one.origin.rsplit("/", 2)[0] for one in plan.send)
    lines += [f"  {number} to {printable(topic)}" for topic, number in sorted(by_topic.items())]
    if plan.before:
        lines.append(
            f"{len(plan.before)} passed over: sent back before (--again sends requests and feedback once more)"
        )
    if plan.answered:
        lines.append(f"{len(plan.answered)} passed over: the request has its result")
    lines += [f"{place} refused: {why}" for place, why in plan.refused.items()]
    return "\n".join(lines)


def _wanted(
    names: Names,
    *,
    reason: str | None,
    stage: str | None,
    topic: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    places: tuple[str, ...] = (),
) -> Wanted:
    from router.cli.control import seconds
    from router.dead_letters import Wanted

    if topic is not None and not topic.startswith(f"{names.prefix}."):
        topic = f"{names.prefix}.{topic}"
    now_ms = _now_ms()
    return Wanted(
        reason=reason,
        stage=stage,
        topic=topic,
        key=None if key is None else os.fsencode(key),
        since_ms=0 if since is None else now_ms - int(seconds(since, "--since") * 1000),
        until_ms=None if until is None else now_ms - int(seconds(until, "--until") * 1000),
        places=frozenset(map(_place, places)),
    )


def _place(text: str) -> Place:
    from router.dead_letters import Place

    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,18})", text)
    if found is None:
        raise ConfigError(f"{text!r}: expected a place PARTITION/OFFSET, as `pointsman dead-letters list` says it")
    return Place(int(found[1]), int(found[2]))


def _without_value(letter: Letter) -> Letter:
    """Many are kept while the newest are looked for, and a value may have a mebibyte."""
    from dataclasses import replace

    return replace(letter, record=replace(letter.record, value_base64=None))


def _time(letter: Letter) -> tuple[int, int, int]:
    return letter.at_ms, letter.place.partition, letter.place.offset


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
