"""``pointsman bench``: runs the benchmarks of the source checkout; which there are, ``benchmarks/run.py`` knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

import router
from router.contract.errors import ConfigError

#: In a source checkout; the wheel has no benchmarks.
RUNNER = Path(router.__file__).resolve().parents[1] / "benchmarks" / "run.py"
#: This one measures nothing: a script of its own beside the runner.
FAULTS = "faults"


@click.command
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON document: fields for programs, and name -> figures, machine, caveats.",
)
@click.option("--keep", is_flag=True, help="Write each document to benchmarks/results/ too.")
@click.option("--seeds", type=click.IntRange(min=1), help="faults: runs of each.")
@click.option("--resume", is_flag=True, help="faults: only what has not passed yet.")
def bench(*, names: tuple[str, ...], as_json: bool, keep: bool, seeds: int | None, resume: bool) -> int:
    """Measure NAME... (all of them without any): rates, latency, memory, start-up, each beside a reference.

    `bench faults` is another matter: hours of kills, pauses, lost brokers and broken networks under load, each followed by
    an audit. Needs the source checkout and an otherwise idle machine. Starts brokers of its own; yours are not touched.
    """
    if not RUNNER.exists():
        raise ConfigError(
            f"bench: runs from a source checkout, and there is no {RUNNER}; clone the repository and install it with "
            "`pip install -e .`"
        )
    if names == (FAULTS,):
        if as_json or keep:
            raise ConfigError("bench faults: writes each run to benchmarks/results/faults.jsonl; no --json, no --keep")
        options = [*([f"--seeds={seeds}"] if seeds else []), *(["--resume"] if resume else [])]
        return _run(RUNNER.with_name(f"{FAULTS}.py"), options)
    if FAULTS in names or seeds or resume:
        raise ConfigError("bench: --seeds and --resume belong to `bench faults`, which runs alone")
    return _run(RUNNER, [*(["--json"] if as_json else []), *(["--keep"] if keep else []), "--", *names])


def _run(program: Path, arguments: list[str]) -> int:
    """It and all that it has started end with this process."""
    from router.kafka.embedded import dying_with_parent

    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(program), *arguments],
        check=False,
        preexec_fn=dying_with_parent(),
    ).returncode
