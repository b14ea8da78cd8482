"""The table of what holds under stress in ``docs/operations.md``, out of kept results: ``python benchmarks/operations_page.py``; ``--check`` writes nothing.

``python -m benchmarks.chaos --keep`` keeps most of them in ``results/``, and calls this. What was not kept is shown as such, and what missed its goal, too. Exit code of
``--check`` 1 where the page is not as it would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.promises import PROMISES
from benchmarks.report import number

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "operations.md", ROOT / "benchmarks" / "results"
BEGIN: Final = "<!-- written by `python benchmarks/operations_page.py` -->"
END: Final = "<!-- end of what is written -->"

Json = dict[str, Any]
#: Cells of a kept document.
Show = Callable[[Json], list[str]]


def cell(figure: Json) -> str:
    """A figure beside its goal, as Markdown."""
    value = f"{number(figure['value'])} {figure['unit']}".strip()
    beside = f" ({figure['reference_is']}: {number(figure['reference'])})" if figure["reference"] is not None else ""
    goal = {True: f"; goal {figure['goal']}: met", False: f"; goal {figure['goal']}: **missed**", None: ""}[
        figure["met"]
    ]
    return f"{figure['name']}: {value}{beside}{goal}"


def named(*names: str) -> Show:
    """The figures whose names begin so."""
    return lambda found: [cell(figure) for figure in found["figures"] if figure["name"].startswith(names)]


def goals(found: Json) -> list[str]:
    """All figures that have a goal."""
    return [cell(figure) for figure in found["figures"] if figure["met"] is not None]


def soaked(found: Json) -> list[str]:
    """What was measured of each process, put together: how many do not grow, and the largest slope; then the rest."""
    lines, judged = [], [figure for figure in found["figures"] if figure["met"] is not None]
    slopes = [figure for figure in judged if figure["name"].endswith(", slope")]
    for what in ("memory", "file handles", "threads"):
        mine = [figure for figure in slopes if figure["name"].startswith(f"{what} of ")]
        steady = sum(figure["met"] for figure in mine)
        most = max(mine, key=lambda figure: figure["value"])
        met = "met" if steady == len(mine) else "**missed**"
        name = most["name"].removeprefix(f"{what} of ").removesuffix(", slope")
        lines.append(
            f"{what} over {found['details']['minutes']:g} minutes: zero within noise in {steady} of {len(mine)} processes, the largest slope {number(most['value'])} {most['unit']} ({name}): {met}"
        )
    return lines + [cell(figure) for figure in judged if figure not in slopes]


@dataclass(frozen=True, slots=True)
class Part:
    """``sources``: name of a kept document -> what is shown of it."""

    name: str
    sources: Sequence[tuple[str, Show]]


PARTS: Final = (
    Part("Load balancing", [("balance", named("one takes 4", "one fails half"))]),
    Part("Health, and a model that is silent", [("stress_tests", named("a silent model"))]),
    Part("Fallback", [("stress_tests", named("every kind of failure"))]),
    Part("Overload", [("overload", goals)]),
    Part("Tenants", [("tenants", goals)]),
    Part("Human control", [("stress_tests", named("human control"))]),
    Part("Dead letters and redrive", [("stress_tests", named("dead letters"))]),
    Part(
        "Hostile input",
        [("fuzz", goals), ("hostile_neighbour", goals), ("stress_tests", named("hostile records"))],
    ),
    Part("Secrets and access", [("stress_tests", named("secrets and access"))]),
    Part("Privacy", [("stress_tests", named("privacy"))]),
    Part("Upgrades", [("upgrade", named("requests", "processes", "what was not"))]),
    Part(
        "Kills and faults",
        [("kills", named("faults", "requests", "runs")), ("mix", named("faults", "requests", "runs"))],
    ),
    Part("Soak", [("soak", soaked), ("short_soak", soaked)]),
)


def table(results: Path = RESULTS) -> str:
    """The table, and a line on where and when each document was measured."""
    lines = ["| part | measured here | Envoy | LiteLLM | Kafka |", "|---|---|---|---|---|"]
    notes: dict[str, str] = {}
    for part in PARTS:
        cells = []
        for name, show in part.sources:
            place = results / f"{name}.json"
            if not place.exists():
                cells.append(f"`{name}` was not kept: not measured")
                continue
            found = json.loads(place.read_text())
            shown = show(found)
            cells += shown or [f"`{name}` says nothing of this: not measured"]
            notes[name] = note(found)
        promises = PROMISES[part.name]
        lines.append(
            "| "
            + " | ".join([part.name, "<br>".join(cells), *(promises[who] for who in ("Envoy", "LiteLLM", "Kafka"))])
            + " |"
        )
    lines += ["", *(f"- `{name}`: {said}" for name, said in sorted(notes.items()))]
    return "\n".join(lines)


def note(found: Json) -> str:
    """When, on what, and what to beware of."""
    where = found["machine"]
    caveats = "".join(f"; {one}" for one in found["caveats"] if "busy" in one)
    return f"{found['at'][:16].replace('T', ' ')} UTC, {where['cores']} cores, {where['cpu']}{caveats}"


def page(text: str, results: Path = RESULTS) -> str:
    """The page with the table anew. ``ValueError`` where it has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def write() -> None:
    PAGE.write_text(page(PAGE.read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where the page is not as it should be"
    )
    asked = parser.parse_args()
    if asked.check:
        same = page(PAGE.read_text()) == PAGE.read_text()
        print("as it should be" if same else f"{PAGE}: run python benchmarks/operations_page.py")
        return int(not same)
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
