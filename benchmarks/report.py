"""What every benchmark prints: figures, each beside its reference of the same run, and where and when they were measured.

A script ends with ``finish(report, as_json)``: one JSON document, or a table. ``document(report)`` is that document:

    {"benchmark", "at", "machine": {...}, "caveats": [...], "figures": [{"name", "value", "unit", "reference",
     "reference_is", "ratio", "goal", "met"}], "fields": {...}, "details": {...}}

``fields`` are for programs: their names stay, and ``run.py --json`` puts those of all benchmarks on top.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "faust-streaming",
    "aiokafka",
    "orjson",
    "xxhash",
    "tiktoken",
    "numpy",
    "paretobandit",
    "vowpalwabbit",
    "aiohttp",
    "pydantic",
)
#: Set by ``run.py`` for its scripts.
LOAD = "POINTSMAN_BENCH_LOAD"
COLUMNS = ("figure", "value", "reference", "ratio", "goal")


def load_before() -> tuple[float, float, float]:
    """Of the machine, before the first of the benchmarks that run one after the other: each is a load itself."""
    told = os.environ.get(LOAD)
    return os.getloadavg() if told is None else (float(told), 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number. ``reference``: the same unit, measured in the same run, named by ``reference_is``.

    ``goal``: in words; ``met``: ``None`` where there is no goal or it cannot be judged.
    """

    name: str
    value: float | None
    unit: str
    reference: float | None = None
    reference_is: str = ""
    goal: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        if self.value is None or not self.reference:
            return None
        return round(self.value / self.reference, 3)


@dataclass(slots=True)
class Report:
    """The figures of one benchmark. ``fields``: name -> number, or name -> {case: number}; ``details``: any JSON."""

    benchmark: str
    figures: list[Figure] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    load_before: tuple[float, float, float] = field(default_factory=load_before)

    def add(self, name: str, value: float | None, unit: str, **how: Any) -> None:
        self.figures.append(Figure(name=name, value=value, unit=unit, **how))


def yardstick_s() -> float:
    """How long five million additions in Python take, the best of three: machines of one name differ by a factor."""
    best_s = float("inf")
    for _ in range(3):
        total, began_s = 0, time.perf_counter()
        for _ in range(5_000_000):
            total += 1  # noqa: SIM113 - the very thing that is timed
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s


def machine() -> dict[str, Any]:
    """Where this runs."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "yardstick_s": round(yardstick_s(), 2),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def document(report: Report) -> dict[str, Any]:
    """See the module's text."""
    caveats = list(report.caveats)
    cores = os.cpu_count() or 1
    if report.load_before[0] > cores:
        caveats.append(
            f"the machine was busy with other work: load {report.load_before[0]:.1f} on {cores} cores at the start"
        )
    return {
        "benchmark": report.benchmark,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"load_before": [round(one, 1) for one in report.load_before]},
        "caveats": caveats,
        "figures": [asdict(figure) | {"ratio": figure.ratio} for figure in report.figures],
        "fields": report.fields,
        "details": report.details,
    }


def finish(report: Report, as_json: bool) -> None:
    """Print the document, or a table for people."""
    found = document(report)
    print(json.dumps(found, indent=2) if as_json else text(found), flush=True)


def text(found: Mapping[str, Any]) -> str:
    """A document as a table, with where and when it was measured."""
    where = found["machine"]
    lines = table(found["figures"])
    yardstick = f", five million additions in {where['yardstick_s']} s" if "yardstick_s" in where else ""
    lines += ["", f"{found['at']}, {where['cores']} cores, {where['cpu']}, Python {where['python']}{yardstick}"]
    lines += [f"caveat: {caveat}" for caveat in found["caveats"]]
    return "\n".join(lines)


def table(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines: figure, value, reference, ratio, goal."""
    rows = [COLUMNS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(figure: Mapping[str, Any]) -> tuple[str, ...]:
    reference = "" if figure["reference"] is None else f"{number(figure['reference'])} ({figure['reference_is']})"
    met = {True: "met", False: "MISSED", None: ""}[figure["met"]]
    goal = f"{figure['goal']} {met}".strip()
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:g}"
    value = figure["unit"] if figure["value"] is None else f"{number(figure['value'])} {figure['unit']}".strip()
    return figure["name"], value or number(None), reference, ratio, goal


def number(value: float | None) -> str:
    """For people: thousands apart, three figures of small ones."""
    if value is None:
        return "none"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--json``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
