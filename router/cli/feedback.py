"""``feedback``: say how good answers were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from router.cli.options import client_of, common
from router.contract.errors import ConfigError
from router.contract.records import FeedbackKind, FeedbackSource

if TYPE_CHECKING:
    from router.config import Config
    from router.contract.records import Feedback


@click.command
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--token", metavar="TOKEN", help="The result's router.feedback_token.")
@click.option("--request-id", metavar="ID", help="The result's id, while it is remembered.")
@click.option("--kind", type=click.Choice(get_args(FeedbackKind)))
@click.option("--value", type=float, metavar="0..1", help="1 is best; for retry and abandon: 1 says that it happened.")
@click.option("--source", type=click.Choice(get_args(FeedbackSource)), default="user", show_default=True)
@click.option(
    "--attempt", type=int, metavar="N", help="Whose answer it is about, if not the result's (a cascade's sample)."
)
@click.option("--comment", metavar="TEXT")
@common
def feedback(config: Config, file: str | None, **one: str | float | None) -> None:
    """Send feedback: one by options, or a FILE of records, one JSON object a line (`-` reads standard input)."""
    import asyncio

    from router.batch import feedback as sending
    from router.contract.topics import Names

    given, left = _read(file) if file is not None else ([_single(one)], 0)
    asyncio.run(sending.send(client_of(config), Names(config.kafka.prefix).of("feedback"), given))
    click.echo(f"{len(given)} sent" + (f", {left} without a value passed over" if left else ""), err=True)


def _read(file: str) -> tuple[list[Feedback], int]:
    """What a file says, and how many of its lines say nothing yet."""
    from router.batch.feedback import parse, unsaid

    if file == "-":
        lines, name = sys.stdin.buffer.readlines(), "standard input"
    elif Path(file).is_file():
        lines, name = Path(file).read_bytes().splitlines(), file
    else:
        raise ConfigError(f"{file}: no such file")
    return list(parse(lines, name)), sum(map(unsaid, lines))


def _single(one: dict[str, str | float | None]) -> Feedback:
    import orjson

    from router.batch.feedback import parse

    if one["kind"] is None or one["value"] is None or (one["token"] is None) == (one["request_id"] is None):
        raise ConfigError("feedback: give a FILE, or --kind, --value and one of --token and --request-id")
    record = {
        "feedback_token": one["token"],
        "request_id": one["request_id"],
        "kind": one["kind"],
        "value": one["value"],
        "source": one["source"],
        "comment": one["comment"],
        "attempt": one["attempt"],
    }
    return next(parse([orjson.dumps(record)], "feedback"))
