"""``review``: look at answers in the terminal, or elsewhere by files; and what the opinions amount to."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from router.cli.json_text import json_text
from router.cli.options import client_of, common
from router.cli.status_units import on_screen
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.config import Config
    from router.contract.records import Feedback, ReviewItem
    from router.core.review_rates import Rate
    from router.core.reviewing import Shard, Shown
    from router.history.reviews import Rates

#: Texts that are read at once.
AT_ONCE = 20
KEYS = "g good   b bad   s skip   c comment   q quit"
VALUES = {"g": 1.0, "b": 0.0}


class _Part(click.ParamType):
    """``2/5``: the second of five."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        from router.core.reviewing import Shard

        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", str(value))
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            self.fail(f"{value!r}: expected I/N, like 2/5: the second of five parts", param, ctx)
        return Shard(int(found[1]), int(found[2]))


@click.group(invoke_without_command=True)
@click.option("--pool", metavar="POOL", help="Of this pool alone.")
@click.option("--shard", type=_Part(), help="A part of the queue, so that several can share it.")
@common
@click.pass_context
def review(ctx: click.Context, config: Config, *, pool: str | None, shard: Shard | None) -> None:
    """Look at answers one by one and say whether they are good; nothing shows which model gave them.

    Answers are drawn as pools.NAME.reviews_per_day and shadow_percent say. Each opinion is sent at once: leave when you like.
    In a browser: /review of the web stage.
    """
    import asyncio

    if ctx.invoked_subcommand is None:
        asyncio.run(_queue(config, pool, shard))


@review.command
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--pool", metavar="POOL", help="Of this pool alone.")
@click.option("--shard", type=_Part(), help="A part of the queue.")
@click.option("--most", metavar="N", type=click.IntRange(1), default=1000, show_default=True, help="Answers at most.")
@common
def export(config: Config, file: Path, *, pool: str | None, shard: Shard | None, most: int) -> None:
    """Write what waits, one JSON object a line. Put 0..1 into each `value` (1: good), then `review import` it."""
    import asyncio

    import orjson

    found, gone = asyncio.run(_shown(config, pool, shard, most))
    lines = [
        {
            "id": export_name(one.item),
            "pool": one.item.pool,
            "stratum": one.item.stratum,
            "due_at": one.item.due_at,
            "prompt": one.prompt,
            "answer": one.answer,
            "value": None,
            "comment": None,
        }
        for one in found
    ]
    file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    click.echo(f"{len(lines)} answers to look at{_gone(gone)}", err=True)


@review.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@common
def import_(config: Config, file: Path) -> None:
    """Send what a file of `review export` says by now. Lines without a value are passed over."""
    import asyncio

    sent, left = asyncio.run(_import(config, file))
    click.echo(f"{sent} sent" + (f", {left} without a value passed over" if left else ""), err=True)


@review.command
@click.option("--pool", metavar="POOL", help="Of this pool alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@common
def rates(config: Config, *, pool: str | None, as_json: bool) -> None:
    """Say how often answers are bad, by stratum and model, with 95 % intervals; and what the judges' words are worth."""
    import asyncio

    from router.contract.topics import Names
    from router.history import reviews

    found = asyncio.run(reviews.rates(client_of(config), Names(config.kafka.prefix), pool))
    click.echo(json_text(found) if as_json else on_screen(page(found)))


async def _queue(config: Config, pool: str | None, shard: Shard | None) -> None:
    from router.batch import feedback as sending
    from router.config.redact import redactor
    from router.contract.topics import Names
    from router.history import reviews
    from router.kafka.bodies import BodyReader

    client, names, redact = client_of(config), Names(config.kafka.prefix), redactor(config.reviews.redact)
    waiting = await reviews.pending(client, names, pool=pool, shard=shard)
    bodies, sent, gone = BodyReader(client, names.bodies()), 0, 0
    await bodies.start()
    try:
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            found = await reviews.shown(bodies, part, redact)
            gone += len(part) - len(found)
            for number, one in enumerate(found, start + 1):
                click.echo(card(one, number, len(waiting)))
                opinion = _asked(one)
                if opinion == "quit":
                    return
                if opinion is not None:
                    await sending.send(client, names.of("feedback"), [opinion])
                    sent += 1
    finally:
        await bodies.stop()
        click.echo(f"\n{sent} opinions sent, {len(waiting) - sent - gone} answers wait{_gone(gone)}")


def _asked(one: Shown) -> Feedback | Literal["quit"] | None:
    """What the reviewer says: an opinion, ``quit``, or nothing."""
    from router.core.reviewing import feedback_on

    comment = None
    while True:
        key = _key()
        if key == "q":
            return "quit"
        if key == "s":
            return None
        if key == "c":
            comment = _line("comment: ")
        elif key in VALUES:
            return feedback_on(one.item, VALUES[key], comment)
        else:
            click.echo(KEYS)


def _key() -> str:
    """The next key; of what is no terminal, the next line's first. Its end is ``q``."""
    if sys.stdin.isatty():
        return click.getchar().lower()
    line = sys.stdin.readline()
    return line.strip()[:1].lower() if line else "q"


def _line(prompt: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(prompt.rstrip(": "), default="", show_default=False))
    return sys.stdin.readline().strip()


def card(one: Shown, number: int, of: int) -> str:
    """An answer with what it answers, for a terminal: no character of theirs reaches it that could steer it."""
    from router.cli.status_units import printable

    def lines(text: str) -> list[str]:
        return [f"  {printable(line.expandtabs(4))}" for line in text.splitlines()] or ["  (nothing)"]

    head = f"--- {number} of {of}   {printable(one.item.stratum)}   due {printable(one.item.due_at)} "
    return "\n".join([f"\n{head:-<100}", "request", *lines(one.prompt), "", "answer", *lines(one.answer), "", KEYS])


async def _shown(config: Config, pool: str | None, shard: Shard | None, most: int) -> tuple[Sequence[Shown], int]:
    """Up to ``most`` items with their texts, and how many had none any more."""
    from router.config.redact import redactor
    from router.contract.topics import Names
    from router.history import reviews
    from router.kafka.bodies import BodyReader

    client, names, redact = client_of(config), Names(config.kafka.prefix), redactor(config.reviews.redact)
    waiting = await reviews.pending(client, names, pool=pool, shard=shard)
    if not waiting:
        return [], 0
    bodies = BodyReader(client, names.bodies())
    await bodies.start()
    found: list[Shown] = []
    tried = 0
    try:
        for start in range(0, len(waiting), AT_ONCE):
            part = waiting[start : start + AT_ONCE]
            found += await reviews.shown(bodies, part, redact)
            tried += len(part)
            if len(found) >= most:
                break
    finally:
        await bodies.stop()
    return found[:most], tried - len(found)


async def _import(config: Config, file: Path) -> tuple[int, int]:
    from router.batch import feedback as sending
    from router.contract.topics import Names
    from router.core.reviewing import feedback_on
    from router.history import reviews

    client, names = client_of(config), Names(config.kafka.prefix)
    given, left = read(file)
    if given:
        known = {export_name(one): one for one in reversed(await reviews.items(client, names))}
        for name in given:
            if name not in known:
                raise ConfigError(f"{file}: answer {name!r}: not in the queue, or no longer kept")
        said = [feedback_on(known[name], *opinion) for name, opinion in given.items()]
        await sending.send(client, names.of("feedback"), said)
    return len(given), left


def export_name(item: ReviewItem) -> str:
    """What an answer is called in a file, 16 hex digits: a digest of its signed token, so that nobody without the topic finds request, attempt or model by it.

    The number of an attempt would say that an answer is a shadow or a fallback.
    """
    import hashlib

    whose = item.feedback_token or f"{item.request_id}/{item.attempt}"
    return hashlib.blake2b(whose.encode(), digest_size=8).hexdigest()


def read(file: Path) -> tuple[dict[str, tuple[float, str | None]], int]:
    """Opinions by answer (``export_name``), and how many lines say nothing yet. ``ConfigError`` names the line that is none."""
    import orjson

    found: dict[str, tuple[float, str | None]] = {}
    left = 0
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            one = orjson.loads(line)
            name, value, comment = one["id"], one["value"], one.get("comment")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(f"{file}: line {number}: no line of `pointsman review export`") from None
        if not isinstance(name, str):
            raise ConfigError(f"{file}: line {number}: id: a string is wanted")
        if value is None:
            left += 1
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"{file}: line {number}: value: a number from 0 to 1 is wanted")
        else:
            found[name] = float(value), None if comment is None else str(comment)
    return found, left


def _gone(gone: int) -> str:
    return f"; of {gone} the text is no longer kept" if gone else ""


def page(found: Rates) -> str:
    """Rates for people."""
    lines = ["bad answers, as reviewers found them (95 % interval):"]
    lines += [f"  {one.pool} {one.stratum}  {one.model}  {_rate(one.bad)}, sample {one.sample}" for one in found.strata]
    if not found.strata:
        lines.append("  nobody has looked at any yet: `pointsman review`")
    if found.pairs:
        lines += ["", "worse than the baseline's answer, as a judge found them:"]
    for each in found.pairs:
        lines.append(f"  {each.pool} {each.stratum}  {each.model}  {_rate(each.worse)}, judge {each.judge}")
        if each.corrected is not None:
            lines.append(f"    corrected for the judge's error: {_share(each.corrected)}")
    for judge, error in found.errors.items():
        told = [
            f"{name} {'not known' if rate is None else _rate(rate)}"
            for name, rate in (("sensitivity", error.sensitivity), ("specificity", error.specificity))
        ]
        lines += ["", f"judge {judge} beside reviewers of the same pairs: {'; '.join(told)}"]
        if (power := found.powers.get(judge)) is not None:
            lines.append(f"  of a difference its mean verdict shows {_power(power)}")
    return "\n".join(lines)


def _power(rate: Rate) -> str:
    from router.core.review_rates import LEAST_SKILL

    found = f"{rate.value:.2f} ({rate.low:.2f} - {rate.high:.2f})"
    if rate.value < LEAST_SKILL:
        return f"{found}: next to nothing, take another judge"
    return f"{found}; for the guard, in pools that it judges: judge_power = {rate.value:.2f}"


def _rate(rate: Rate) -> str:
    return f"{_share(rate)} of {rate.n}"


def _share(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} - {rate.high:.1%})"
