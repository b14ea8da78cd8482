"""Everything that stresses, one after the other, within a budget of time: ``make chaos``. A table at the end, exit code 1 where a row fails.

    python benchmarks/chaos.py [NAME...] [--minutes 30] [--keep] [--json]

Each row is a program that is there without this one: a benchmark with goals, ``faults.py``, tests, fuzzing. It gets its own limit of time or what is left of the
budget, whichever is less, and is killed then; a row that did not end, or for which nothing was left, has failed: what was not tried was not shown.
``--keep`` writes each row's document to ``results/NAME.json``, and with these the table of ``docs/operations.md`` anew (``operations_page.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.operations_page import write as write_page
from benchmarks.report import LOAD, Report, document, number
from router.kafka.embedded import dying_with_parent

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
RESULTS: Final = FOLDER / "results"
BUDGET_MINUTES: Final = 30.0
#: What a row needs at least to be begun.
LEAST_S: Final = 5.0
FUZZ_S: Final = 2

Json = dict[str, Any]
#: Arguments of Python, and the time until when to be done (monotonic) -> exit code, what was printed.
Call = Callable[[Sequence[str]], tuple[int, str]]


class RowError(Exception):
    """A row has no document; says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """``limit_s``: twice what it takes on two idle cores, or so. ``shows``: what in one line; ``make``: its document, by the programs that it calls."""

    name: str
    limit_s: float
    shows: str
    make: Callable[[Call], Json]


def bench(script: str, *arguments: str) -> Callable[[Call], Json]:
    """A benchmark that prints its document."""

    def make(call: Call) -> Json:
        code, printed = call([str(FOLDER / f"{script}.py"), *arguments, "--json"])
        with contextlib.suppress(ValueError):
            found: Json = json.loads(printed[printed.index("{\n") :])
            return found
        raise RowError(f"exit code {code}: {last_line(printed)}")

    return make


def faults(name: str, *arguments: str) -> Callable[[Call], Json]:
    """Runs of ``faults.py``: how many, and how many were not exact afterwards."""

    def make(call: Call) -> Json:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "runs.jsonl"
            code, printed = call([str(FOLDER / "faults.py"), *arguments, f"--out={out}"])
            lines = out.read_text().splitlines() if out.exists() else []
        runs = [run for run in map(json.loads, lines) if "faults" in run]
        if not runs:
            raise RowError(f"exit code {code}: {last_line(printed)}")
        report = Report(name)
        asked = sum(run["figures"].get("requests", 0) for run in runs)
        wrong = sum(not run["ok"] for run in runs)
        report.add("faults under load", sum(len(run["faults"]) for run in runs), "")
        report.add("requests", asked, "")
        report.add("runs that were not exact afterwards", wrong, f"of {len(runs)}", goal="0", met=not wrong)
        report.details = {"runs": runs}
        return document(report)

    return make


def suite(name: str, **parts: str) -> Callable[[Call], Json]:
    """Tests by part: how many of them have passed. ``parts``: what they show -> paths, with spaces between."""

    def make(call: Call) -> Json:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "junit.xml"
            paths = [path for several in parts.values() for path in several.split()]
            code, printed = call(["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={out}", *paths])
            if not out.exists():
                raise RowError(f"exit code {code}: {last_line(printed)}")
            cases = [*ET.parse(out).getroot().iter("testcase")]
        report = Report(name)
        for part, several in parts.items():
            homes = tuple(path.removesuffix(".py").replace("/", ".") for path in several.split())
            mine = [case for case in cases if (case.get("classname") or "").startswith(homes)]
            bad = [case for case in mine if {"failure", "error", "skipped"} & {child.tag for child in case}]
            passed = len(mine) - len(bad)
            goal = f"all {len(mine)}"
            report.add(part.replace("_", " "), passed, "tests passed", goal=goal, met=bool(mine) and not bad)
            report.details |= {f"not passed: {case.get('classname')}.{case.get('name')}": part for case in bad}
        return document(report)

    return make


def fuzz(call: Call) -> Json:
    """Each target for ``FUZZ_S`` seconds; the first finding ends it."""
    with tempfile.TemporaryDirectory() as folder:
        code, printed = call(["-m", "tests.fuzz", "all", "--plain", f"--seconds={FUZZ_S}", f"--folder={folder}"])
    tried = [int(count) for count in re.findall(r": ([0-9]+) inputs, no finding$", printed, re.MULTILINE)]
    report = Report("fuzz")
    report.add("parsers and paths that were fuzzed", len(tried), "", goal="more than 20", met=len(tried) > 20)
    report.add("hostile inputs", sum(tried), "")
    report.add("findings", int(code != 0), "", goal="0", met=code == 0)
    report.details = {"finding": last_line(printed) if code else None, "seconds_each": FUZZ_S}
    return document(report)


#: In this order: what says most in the least time first.
ROWS: Final = (
    Row(
        "stress_tests",
        300,
        "fallback, control, dead letters, secrets and access, privacy, a silent model",
        suite(
            "stress_tests",
            a_silent_model="tests/e2e/test_silence.py",
            every_kind_of_failure="tests/e2e/test_failover.py",
            human_control="tests/test_control.py",
            dead_letters_and_redrive="tests/e2e/test_dead_letters.py",
            hostile_records_in_every_topic="tests/e2e/test_bad_input.py",
            secrets_and_access="tests/test_secrets.py tests/test_access.py tests/test_threats.py",
            privacy="tests/e2e/test_privacy.py",
        ),
    ),
    Row("balance", 60, "endpoints of which one is odd", bench("balance", "--calls", "10000")),
    Row("hostile_neighbour", 150, "hostile requests beside others in route", bench("hostile_neighbour", "--turns=80")),
    Row("fuzz", 240, "every parser and the request path", fuzz),
    Row("upgrade", 300, "a rolling upgrade under load, and back", bench("upgrade")),
    Row(
        "kills",
        300,
        "the broker, then everything, killed",
        faults("kills", "kill-broker", "kill-everything", "--seeds=1"),
    ),
    Row("mix", 360, "eight faults in one installation", faults("mix", "--mix", "--seed=6")),
    Row("overload", 360, "ten times the capacity", bench("overload")),
    Row("tenants", 420, "a tenant with a hundred times the traffic", bench("tenants", "--seconds=60")),
    Row("short_soak", 420, "nothing grows", bench("soak", "--minutes=5")),
)


@dataclass(slots=True)
class Outcome:
    """What became of a row; ``found`` is ``None`` where it has no document, ``why`` says why."""

    row: Row
    seconds: float
    found: Json | None = None
    why: str = ""

    @property
    def goals(self) -> list[Json]:
        return [figure for figure in (self.found or {"figures": []})["figures"] if figure["met"] is not None]

    @property
    def ok(self) -> bool:
        return bool(self.goals) and all(figure["met"] for figure in self.goals)


@dataclass(slots=True)
class Budget:
    """Of all rows together, in seconds from its making."""

    seconds: float
    began_s: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        return self.began_s + self.seconds - time.monotonic()


def run(rows: Iterable[Row], budget: Budget, tell: Callable[[str], None]) -> list[Outcome]:
    """Each row in its turn. Never longer than the budget, but for the seconds in which the last one ends."""
    load, outcomes = os.getloadavg()[0], []
    for row in rows:
        limit_s, began_s = min(row.limit_s, budget.left_s), time.monotonic()
        outcome = Outcome(row, 0.0)
        tell(f"{row.name}: {row.shows}, at most {max(0.0, limit_s):.0f} s ...")
        if limit_s < LEAST_S:
            outcome.why = "no time was left for it"
        else:
            try:
                outcome.found = row.make(lambda arguments, end_s=began_s + limit_s: called(arguments, end_s, load))
            except RowError as error:
                outcome.why = str(error)
        outcome.seconds = time.monotonic() - began_s
        outcomes.append(outcome)
        tell(f"{row.name}: {'PASS' if outcome.ok else 'FAIL'} after {outcome.seconds:.0f} s {outcome.why}".rstrip())
    return outcomes


def called(arguments: Sequence[str], end_s: float, load: float) -> tuple[int, str]:
    """A program of Python from the root of the checkout, to its end; ``RowError`` when it is still there at ``end_s``: then it is killed with what it has started."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {LOAD: str(load)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=dying_with_parent(),  # noqa: PLW1509 - one system call
        )
        try:
            code = process.wait(max(0.1, end_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise RowError("killed: it did not end in time") from None
        out.seek(0)
        return code, out.read().decode("utf-8", "replace")


def last_line(printed: str) -> str:
    return next((line.strip()[:300] for line in reversed(printed.splitlines()) if line.strip()), "it printed nothing")


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each figure that has a goal, or for a row without a document."""
    lines = [("row", "figure", "value", "goal", "")]
    for outcome in outcomes:
        name = f"{outcome.row.name} ({outcome.seconds:.0f} s)"
        if not outcome.goals:
            lines.append((name, outcome.why or "no figure with a goal", "none", "", "FAIL"))
        for figure in outcome.goals:
            value = f"{number(figure['value'])} {figure['unit']}".strip()
            if figure["reference"] is not None:
                value += f" ({figure['reference_is']}: {number(figure['reference'])})"
            lines.append((name, figure["name"], value, figure["goal"], "PASS" if figure["met"] else "FAIL"))
            name = ""
    widths = [max(len(line[at]) for line in lines) for at in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def keep(outcomes: Iterable[Outcome]) -> None:
    """The documents that there are; a row without one leaves what was kept before."""
    for outcome in outcomes:
        if outcome.found is not None:
            (RESULTS / f"{outcome.row.name}.json").write_text(json.dumps(outcome.found, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [row.name for row in ROWS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {' '.join(names)}; all without any")
    parser.add_argument("--minutes", type=float, default=BUDGET_MINUTES, help=f"budget of all [{BUDGET_MINUTES:.0f}]")
    parser.add_argument("--keep", action="store_true", help="write results/NAME.json and docs/operations.md")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document: name -> ok, seconds, why, document"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in names]:
        parser.error(f"there is no row {unknown[0]!r}; rows: {', '.join(names)}")
    rows = [row for row in ROWS if not asked.names or row.name in asked.names]
    budget = Budget(60.0 * asked.minutes)
    outcomes = run(rows, budget, lambda line: print(line, file=sys.stderr, flush=True))
    if asked.keep:
        keep(outcomes)
        write_page()
    if asked.json:
        whole = {
            one.row.name: {"ok": one.ok, "seconds": one.seconds, "why": one.why, "document": one.found}
            for one in outcomes
        }
        print(json.dumps(whole, indent=2))
    else:
        print(f"\n{table(outcomes)}\n")
        failed = [one.row.name for one in outcomes if not one.ok]
        spent_s = budget.seconds - budget.left_s
        print(
            f"{len(outcomes) - len(failed)} of {len(outcomes)} rows pass, {spent_s:.0f} of {budget.seconds:.0f} s"
            + (f"; failed: {', '.join(failed)}" if failed else "")
        )
    return int(any(not one.ok for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
