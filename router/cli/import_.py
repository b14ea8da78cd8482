"""``import``: past logs into rows for `train`, and what they cost, would have cost and might save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.cli.json_text import json_text
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from router.config import Config
    from router.core.artefact import Artefact
    from router.core.classify import Seen
    from router.history.import_calls import Scores
    from router.history.import_lines import Told
    from router.history.import_read import Classify, Format, Reading
    from router.history.import_report import About
    from router.history.import_sums import Sums

_FILE = click.Path(path_type=Path)


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="ROWS.jsonl",
    help="Write rows for `train` (.gz: packed).",
)
@click.option("--pool", metavar="POOL", default="auto", show_default=True, help="Whose models, prices and strata.")
@click.option("--model", type=_FILE, metavar="M.npz", help="The classifier [as configured].")
@click.option(
    "--as",
    "pairs",
    multiple=True,
    metavar="LOGGED=MODEL",
    help="A name in the log, and the configured model it is; may be repeated.",
)
@click.option("--quality-field", metavar="PATH", help="Where scores stand, as in `metadata.review.stars`.")
@click.option(
    "--quality-range",
    metavar="LOW..HIGH",
    default="0..1",
    show_default=True,
    help="The scale of scores: worst and best.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "litellm", "openai"]),
    default="auto",
    show_default=True,
    help="What lines are.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--config", "config_path", metavar="FILE", help="Configuration file [default: ./pointsman.toml].")
def import_(
    *,
    files: tuple[Path, ...],
    out: Path | None,
    pool: str,
    model: Path | None,
    pairs: tuple[str, ...],
    quality_field: str | None,
    quality_range: str,
    form: Format,
    as_json: bool,
    config_path: str | None,
) -> int:
    """Read logs of LiteLLM, OpenAI batch files and results of pointsman: what they cost, and what a pool would have.

    Files may be mixed, in any order, plain or gzip; requests and answers of a batch meet by custom_id. docs/import.md says more.
    """
    from functools import partial

    from router.config import load
    from router.history.import_lines import check_files
    from router.history.import_read import Names, Reading, run
    from router.history.import_report import document

    config = load(config_path)
    if pool not in config.pools:
        raise ConfigError(f"--pool: there is no pool {pool!r}; pools: {', '.join(config.pools)}")
    reading = Reading(files, form, _scores(quality_field, quality_range))
    check_files(reading.files)
    artefact = _artefact(config, model)
    given, sums = _given(pairs, config), _sums(config, pool)
    names = Names({name: one.provider_model for name, one in config.models.items()}, given)
    rows, arms = _read(reading, out, partial(run, reading, names, _classify(config, pool, artefact), sums))
    found = document(reading, sums, _about(config, pool, model, artefact))
    if out is not None:
        found["out"] = {"file": str(out), "rows": rows, "scored": arms}
    if as_json:
        click.echo(json_text(found))
    else:
        from router.cli.import_page import page

        click.echo(page(found))
    return 0 if sums.calls else 1


def _read(
    reading: Reading, out: Path | None, run: Callable[[BinaryIO | None, Told], tuple[int, int]]
) -> tuple[int, int]:
    """Rows take the place of ``out`` when all of them are there."""
    from contextlib import ExitStack
    from gzip import GzipFile

    from rich.console import Console
    from rich.progress import Progress

    if out is not None and out.resolve() in {file.resolve() for file in reading.files}:
        raise ConfigError(f"--out {out}: is also read")
    part = None if out is None else out.with_name(f"{out.name}.part")
    try:
        with ExitStack() as stack:
            rows: Any = None
            if part is not None:
                rows = stack.enter_context(part.open("wb"))
                if out is not None and out.suffix == ".gz":
                    rows = stack.enter_context(GzipFile("", "wb", 6, rows, 0))
            console = Console(stderr=True)
            progress = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
            task = progress.add_task("reading", total=sum(file.stat().st_size for file in reading.files) or None)
            found = run(rows, lambda more: progress.advance(task, more))
        if part is not None and out is not None and found[0]:
            part.replace(out)
    except OSError as error:
        raise ConfigError(f"{error.filename or out}: {error.strerror or error}") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return found


def _classify(config: Config, pool: str, artefact: Artefact | None) -> Classify:
    from router.stages.taxonomy import Asking, Taxonomy

    taxonomy = Taxonomy(config, artefact)

    def of(asked: Sequence[tuple[Seen, int]]) -> Sequence[tuple[str, Mapping[str, float]]]:
        found = taxonomy.of([Asking(pool, seen, tokens) for seen, tokens in asked])
        return [(kind.stratum, kind.p_ok) for kind in found]

    return of


def _sums(config: Config, pool: str) -> Sums:
    from router.core.hindsight import Hindsight
    from router.history.import_sums import Sums
    from router.stages.snapshot import model_facts

    facts = {name: model_facts(name, config) for name in config.models}
    chosen = config.pools[pool]
    models = Hindsight([facts[name] for name in chosen.models], chosen.baseline)
    return Sums(models, {name: one.price for name, one in facts.items()}, sorted({0.0, float(chosen.margin)}))


def _artefact(config: Config, model: Path | None) -> Artefact | None:
    from router.classifier import configured, load

    return configured(config) if model is None else load(model)


def _about(config: Config, pool: str, model: Path | None, artefact: Artefact | None) -> About:
    from router.config.load import EXAMPLE
    from router.history.import_report import About

    chosen = config.pools[pool]
    shipped = "the classifier that is shipped" if config.classify.model in (None, "builtin") else config.classify.model
    name = str(model) if model is not None else shipped
    known = () if artefact is None else artefact.heads.models
    source = config.sources.get(f"pools.{pool}.models", "the configuration")
    return About(
        config="the example that is shipped, for there is no pointsman.toml here" if source == EXAMPLE else source,
        pool=pool,
        margin=float(chosen.margin),
        holdout_percent=float(chosen.holdout_percent),
        classifier="rules alone" if artefact is None else f"{name}, version {artefact.version}",
        knows=tuple(one for one in chosen.models if one in known),
        card={} if artefact is None else artefact.card,
    )


def _scores(path: str | None, span: str) -> Scores:
    from math import isfinite

    from router.history.import_calls import Scores

    low, dots, high = span.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = 0.0, 0.0
    if not dots or not all(map(isfinite, ends)) or ends[0] >= ends[1]:
        raise ConfigError(f"--quality-range {span!r}: expected LOW..HIGH, for example 1..5")
    if path is None:
        return Scores(low=ends[0], high=ends[1])
    if not all(path.split(".")):
        raise ConfigError(f"--quality-field {path!r}: expected names with dots between, for example metadata.score")
    return Scores((tuple(path.split(".")),), *ends)


def _given(pairs: tuple[str, ...], config: Config) -> dict[str, str]:
    found = {}
    for pair in pairs:
        logged, equals, name = pair.rpartition("=")
        if not equals or not logged:
            raise ConfigError(f"--as {pair!r}: expected LOGGED=MODEL, for example gpt-4o=large")
        if name not in config.models:
            raise ConfigError(f"--as {pair!r}: there is no model {name!r}; models: {', '.join(config.models)}")
        found[logged] = name
    return found
