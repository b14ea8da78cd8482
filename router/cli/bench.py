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


@click.command
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: name -> figures, machine, caveats.")
@click.option("--keep", is_flag=True, help="Write each document to benchmarks/results/ too.")
def bench(*, names: tuple[str, ...], as_json: bool, keep: bool) -> int:
    """Measure NAME... (all of them without any): rates, latency, memory, start-up, each beside a reference.

    Needs the source checkout and an otherwise idle machine. Starts brokers of its own; yours are not touched.
    """
    if not RUNNER.exists():
        raise ConfigError(
            f"bench: runs from a source checkout, and there is no {RUNNER}; clone the repository and install it with "
            "`pip install -e .`"
        )
    options = [*(["--json"] if as_json else []), *(["--keep"] if keep else [])]
    return subprocess.run([sys.executable, str(RUNNER), *options, "--", *names], check=False).returncode  # noqa: S603 - our own program
