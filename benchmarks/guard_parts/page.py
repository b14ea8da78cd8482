"""Writes the tables of ``docs/guard.md`` from a document of ``guard.py``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]

BEGIN, END = "<!-- written by `python benchmarks/guard.py --page` -->", "<!-- to here -->"


def write(file: Path, fields: Json, details: Json) -> None:
    between(file, BEGIN, END, tables(fields, details))


def between(file: Path, begin: str, end: str, lines: Iterable[str]) -> None:
    """Lines in place of what stands between two marks. ``ValueError``: there are none."""
    before, mark, rest = file.read_text("utf-8").partition(begin)
    _, there, after = rest.partition(end)
    if not mark or not there:
        raise ValueError(f"{file}: lacks {begin} or {end}")
    file.write_text("\n".join([before + begin, "", *lines, "", end]) + after, "utf-8")


def tables(fields: Json, details: Json) -> list[str]:
    """The guard in every world, then every detector where there is something to find."""
    lines = [
        "100 days a run; medians unless said; false alarms with the upper end of an exact 95 % interval.",
        "",
        "| world | runs | days to alarm | p90 | missed | right place | saving kept | harmed | false alarms per 100 days |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in details["runs"]:
        trap = name in fields["guard_missed"]
        days = _days(fields["guard_days_to_alarm_median"].get(name)) if trap else ""
        p90 = _days(fields["guard_days_to_alarm_p90"].get(name)) if trap else ""
        missed = f"{fields['guard_missed'][name]}" if trap else ""
        right = f"{fields['guard_right_stratum'][name]:.0%}" if trap else ""
        kept = fields["guard_saving_kept"][name]
        false, most = fields["guard_false_alarms_per_100_days"][name], fields["guard_false_alarms_at_most"][name]
        lines.append(
            f"| {name} | {details['seeds'][name]} | {days} | {p90} | {missed} | {right} | {'-' if kept is None else f'{kept:.0%}'} | "
            f"{fields['guard_requests_harmed'][name]:,.0f} | {false:.2f} (at most {most:.2f}) |"
        )
    medians = fields["others_days_to_alarm_median"]
    called = list(dict.fromkeys(key.partition(": ")[2] for key in medians))
    lines += [
        "",
        f"| median days to alarm | guard | runs of others | {' | '.join(called)} |",
        f"|---|{'---:|' * (2 + len(called))}",
    ]
    for name in fields["guard_missed"]:
        days = [_days(medians[f"{name}: {one}"]) for one in called]
        guard, runs = _days(fields["guard_days_to_alarm_median"][name]), details["compared"][name]
        lines.append(f"| {name} | {guard} | {runs} | {' | '.join(days)} |")
    return lines


def _days(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"
