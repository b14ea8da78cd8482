"""``submit``: a batch file in, a results file out."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from router.cli.options import client_of, common
from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from router.batch.submit import Progress
    from router.config import Config

LINE_S = 5.0


@click.command
@click.argument("file", metavar="FILE")
@click.option("--out", metavar="FILE", help="Where results go [default: FILE.results.jsonl; - writes them to stdout].")
@click.option("--lane", type=click.Choice(["interactive", "batch"]), default="batch", show_default=True)
@click.option("--tenant", metavar="NAME", help="Tenant of the lines that name none.")
@click.option("--resume", is_flag=True, help="Go on with a job that was interrupted.")
@click.option("--strict", is_flag=True, help="Exit 1 when any request failed.")
@common
def submit(
    config: Config, file: str, *, out: str | None, lane: str, tenant: str | None, resume: bool, strict: bool
) -> int:
    """Send the requests of FILE (OpenAI Batch format, one JSON object a line) and write one result a line.

    FILE `-` reads standard input. A journal beside the results remembers progress: after an interruption the
    same command with --resume goes on, and no line gets a second result.
    """
    import asyncio

    from router.batch.lines import scan
    from router.batch.submit import open_job
    from router.contract.topics import Names

    if resume and "-" in (file, out):
        raise ConfigError("--resume needs files: standard streams leave no journal")
    if tenant is not None and not 0 < len(tenant) <= 128:
        raise ConfigError("--tenant: 1 to 128 characters")
    names = Names(config.kafka.prefix)
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        source = _source(file, Path(folder))
        target = _target(file, out, Path(folder))
        scanned = scan(source, tenant)
        client = client_of(config)
        with display(scanned.count) as show:
            job = open_job(
                client,
                requests=names.of("requests.batch" if lane == "batch" else "requests"),
                results=names.of("results"),
                source=source,
                tenant=tenant,
                scanned=scanned,
                out=target,
                resume=resume,
                show=show,
            )
            with contextlib.closing(job):
                progress = asyncio.run(job.run())
        if target.parent == Path(folder):
            with target.open("rb") as results:
                shutil.copyfileobj(results, sys.stdout.buffer)
    _conclude(progress, None if target.parent == Path(folder) else target)
    return 1 if strict and progress.failed else 0


def _source(file: str, folder: Path) -> Path:
    if file == "-":
        spool = folder / "input.jsonl"
        with spool.open("wb") as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        return spool
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"{file}: no such file")
    return path


def _target(file: str, out: str | None, folder: Path) -> Path:
    if out == "-" or (out is None and file == "-"):
        return folder / "output.jsonl"
    target = Path(out) if out else Path(file + ".results.jsonl")
    if not target.parent.is_dir():
        raise ConfigError(f"--out {target}: there is no folder {target.parent}")
    return target


def _conclude(progress: Progress, target: Path | None) -> None:
    failed = sum(progress.failed.values())
    codes = ", ".join(f"{code} {count}" for code, count in progress.failed.most_common())
    where = f" in {target}" if target else ""
    click.echo(
        f"{progress.total} results{where}: {progress.total - failed} ok, {failed} failed"
        + (f" ({codes})" * bool(codes)),
        err=True,
    )


@contextlib.contextmanager
def display(total: int) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line every few seconds elsewhere; both on standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("results", total=total, rate=0.0, note="")
        rate = Rate()

        def show(progress: Progress) -> None:
            failed = sum(progress.failed.values())
            note = progress.note or (f"{failed} failed" if failed else "")
            bar.update(task, completed=progress.done, rate=rate.of(progress), note=note)

        yield show


class Rate:
    """Results a second of a job, from its first on; what an earlier run of it had already does not count."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._job: Progress | None = None
        self._began_s, self._done = 0.0, 0

    def of(self, progress: Progress) -> float:
        """Of the job as it stands; a job is known by its ``Progress``, so that one display serves several."""
        if progress is not self._job or progress.done == self._done:
            self._job, self._began_s, self._done = progress, self._clock_s(), progress.done
        return (progress.done - self._done) / max(0.001, self._clock_s() - self._began_s)


class _Lines:
    """Progress for a log: one line every ``LINE_S`` seconds, and one when all is done."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._told = -1
        self._rate = Rate()

    def __call__(self, progress: Progress) -> None:
        now, rate = time.monotonic(), self._rate.of(progress)
        ended = progress.done == progress.total
        if progress.done == self._told or (now - self._last < LINE_S and not ended):
            return
        self._last, self._told = now, progress.done
        left = f", {(progress.total - progress.done) / rate:.0f} s left" if rate and not ended else ""
        note = f"; {progress.note}" if progress.note else ""
        failed = sum(progress.failed.values())
        click.echo(
            f"  {progress.done} of {progress.total} results, {rate:.0f}/s{left}, {failed} failed{note}", err=True
        )
