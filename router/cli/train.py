"""``train`` and ``evaluate``: fit a classifier to real answers, and say what it is worth on others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.json_text import json_text
from router.cli.status_units import on_screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.train.robust import Flips
    from router.train.score import Evaluation

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option("--out", type=_FILE, required=True, metavar="M.npz", help="The classifier; a report goes beside it.")
@click.option(
    "--folds",
    type=click.IntRange(2, 50),
    default=5,
    show_default=True,
    help="Parts left out in turn, to choose and to report.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds and the intervals.")
def train(*, files: tuple[Path, ...], out: Path, folds: int, seed: int) -> None:
    """Fit a classifier to rows of real answers: task class, and p_ok of each model.

    Rows are JSONL as docs/classifier.md describes them. Writes M.npz and, in M-report/, a model card with pictures. Figures are
    of nested cross-validation: each row is judged by what was fitted and chosen without it.
    """
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from router.contract.errors import ConfigError
    from router.train.fit import LEAST_ROWS
    from router.train.report import HELD_OUT_BY, trained, write_report
    from router.train.rows import enough, read_rows

    found = read_rows(files)
    rows, rare = enough(found, LEAST_ROWS)
    for model, count in rare.items():
        click.echo(f"{model} is left out: {count:,} of its answers have a quality, {LEAST_ROWS} are wanted", err=True)
    if not rows:
        raise ConfigError(f"no model has {LEAST_ROWS} answers with a quality")
    if len(rows) < len(found):
        click.echo(f"{len(found) - len(rows):,} rows without such an answer are passed over", err=True)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        made = trained(rows, files=[file.name for file in files], folds=folds, seed=seed, progress=tell)
    out.write_bytes(made.artefact.to_bytes())
    folder = write_report(out.with_name(f"{out.stem}-report"), made)
    click.echo(page(made.evaluation, f"held out by {HELD_OUT_BY}, {folds} folds, seed {seed}"))
    click.echo(f"\n{out}: version {made.artefact.version}, {out.stat().st_size:,} bytes; report: {folder / 'card.md'}")


@click.command
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=_FILE)
@click.option("--model", type=_FILE, required=True, metavar="M.npz", help="The classifier.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--scores", type=_FILE, metavar="OUT", help="Write p_ok of every row, also of rows without arms.")
@click.option("--picture", type=_FILE, metavar="PNG", help="Draw the cost-quality curve.")
@click.option("--rephrased", is_flag=True, help="Also say how often harmless rephrasing flips the choice.")
@click.option("--strong", metavar="MODEL", help="The model that calls are saved of [the best].")
@click.option("--cheap", metavar="MODEL", help="The one that takes them [the cheapest].")
@click.option("--draws", type=click.IntRange(100, 100_000), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
def evaluate(
    *,
    files: tuple[Path, ...],
    model: Path,
    as_json: bool,
    scores: Path | None,
    picture: Path | None,
    rephrased: bool,
    strong: str | None,
    cheap: str | None,
    draws: int,
    seed: int,
) -> None:
    """Say what a classifier is worth on rows that it was not fitted to: APGR, CPT, calibration, with 95 % intervals."""
    from router.classifier import load
    from router.contract.errors import ConfigError
    from router.train import score
    from router.train.pictures import cost_quality
    from router.train.robust import flips
    from router.train.rows import read_rows

    artefact = load(model)
    rows = read_rows(files, scored=scores is None)
    p_ok = score.p_ok_of(artefact, rows)
    if scores is not None:
        score.write_scores(scores, rows, artefact.heads.models, p_ok)
    judged = [at for at, row in enumerate(rows) if row.arms]
    if not judged:
        if as_json or picture is not None:
            raise ConfigError("no row has arms: there is nothing to judge by")
        click.echo(f"{len(rows):,} rows scored, none has arms to judge by")
        return
    found = score.evaluate(
        [rows[at] for at in judged],
        artefact.heads.models,
        p_ok[judged],
        strong=strong,
        cheap=cheap,
        draws=draws,
        seed=seed,
    )
    if picture is not None and not found.ways:
        raise ConfigError(
            f"--picture: {found.both} rows have answers of both {found.strong} and {found.cheap}: too few"
        )
    if picture is not None:
        cost_quality(picture, found)
    turned = flips(artefact, [rows[at] for at in judged], strong=strong, cheap=cheap, seed=seed) if rephrased else []
    if as_json:
        more = {"rephrased": {one.name: one.document() for one in turned}} if turned else {}
        click.echo(json_text(found.document() | more))
        return
    click.echo(on_screen(page(found, model.name)))
    if turned:
        click.echo(flip_page(turned))


def flip_page(turned: Sequence[Flips]) -> str:
    """Flips for people."""
    lines = [
        "",
        "  said in other words: share of choices that flip, at the threshold of CPT50",
        f"    {'':<12}{'ours':>8}{'prompt length':>16}{'random':>10}{'APGR then':>12}",
    ]
    lines += [
        f"    {one.name:<12}{one.ours:>8.1%}{one.by_length:>16.1%}{one.by_chance:>10.1%}{one.apgr:>12.3f}"
        for one in turned
    ]
    return "\n".join(lines)


def page(found: Evaluation, about: str) -> str:
    """An evaluation for people."""
    from router.train.measure import LEVELS

    if not found.ways:
        return _calibration_alone(found, about)
    names = "  ".join(f"{model} {quality:.3f}" for model, quality in found.quality.items())
    head = ["", "APGR", *(f"CPT{100 * level:.0f}" for level in LEVELS)]
    lines = [
        f"{about}: {found.rows:,} rows; quality of each model alone: {names}",
        f"calls to {found.strong} saved by {found.cheap}; 95 % intervals",
        "",
        f"  {head[0]:<14}" + "".join(f"{name:>24}" for name in head[1:]),
    ]
    for way in found.ways:
        cells = [way.apgr, *(way.cpt[level] for level in LEVELS)]
        lines.append(f"  {way.name:<14}" + "".join(f"{cell!s:>24}" for cell in cells))
    lines.append(
        f"  {'random':<14}" + "".join(f"{value:>24}" for value in ("0.500", *(f"{level:.3f}" for level in LEVELS)))
    )
    lines += ["", *_errors(found)]
    return "\n".join(lines)


def _calibration_alone(found: Evaluation, about: str) -> str:
    """Of rows that have one model's answer each, as logs do."""
    names = "  ".join(f"{model} {quality:.3f}" for model, quality in found.quality.items())
    return "\n".join(
        [
            f"{about}: {found.rows:,} rows; quality of each model in the rows that it answered: {names}",
            f"rows with answers of both {found.strong} and {found.cheap}: {found.both:,}; too few to say what routing would save",
            "what the models were asked differs: these means are no comparison",
            "",
            *_errors(found),
        ]
    )


def _errors(found: Evaluation) -> list[str]:
    return ["  calibration error (ECE)", *(f"    {model}: {one}" for model, one in found.ece.items())]
