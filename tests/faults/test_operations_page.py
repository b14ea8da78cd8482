"""The table of docs/operations.md is what its command writes out of the kept results, and hides neither what was missed nor what was not measured."""

import json

import pytest

from benchmarks.operations_page import PAGE, PARTS, cell, page, soaked, table
from benchmarks.promises import PROMISES

MACHINE = {"cores": 2, "cpu": "a processor"}


def figure(name, value, met, goal="at most 30", unit="s", **more):
    return {"name": name, "value": value, "unit": unit, "reference": None, "reference_is": "", "ratio": None} | {
        "goal": goal,
        "met": met,
        **more,
    }


def kept(folder, name, *figures, **more):
    found = {
        "at": "2026-11-28T10:00:00+00:00",
        "machine": MACHINE,
        "caveats": [],
        "details": {},
        "figures": figures,
        **more,
    }
    (folder / f"{name}.json").write_text(json.dumps(found))


def test_the_page_is_as_the_command_writes_it():
    assert page(PAGE.read_text()) == PAGE.read_text(), "run python benchmarks/operations_page.py"


def test_each_part_has_what_each_of_the_others_promises():
    assert {part.name for part in PARTS} == PROMISES.keys()
    assert all(promise.keys() == {"Envoy", "LiteLLM", "Kafka"} for promise in PROMISES.values())
    assert all("|" not in text and "\n" not in text for promise in PROMISES.values() for text in promise.values())


def test_a_figure_stands_beside_its_goal_and_a_missed_one_says_so():
    assert cell(figure("normal again after", 12, met=True)) == "normal again after: 12 s; goal at most 30: met"
    assert cell(figure("normal again after", 42, met=False)).endswith("**missed**")
    beside = figure("answered", 49, met=None, unit="/s", reference=50.0, reference_is="slots / latency")
    assert cell(beside) == "answered: 49 /s (slots / latency: 50)"


def test_what_was_not_kept_is_shown_as_not_measured(tmp_path):
    kept(
        tmp_path,
        "overload",
        figure("normal again after", 42, met=False),
        caveats=["the machine was busy with other work: load 9"],
    )
    rows = {
        line.split(" | ")[0].removeprefix("| "): line for line in table(tmp_path).splitlines() if line.startswith("| ")
    }
    assert "normal again after: 42 s; goal at most 30: **missed**" in rows["Overload"]
    assert "`tenants` was not kept: not measured" in rows["Tenants"]
    assert "- `overload`: 2026-11-28 10:00 UTC, 2 cores, a processor; the machine was busy" in table(tmp_path)
    kept(tmp_path, "stress_tests", figure("privacy", 3, met=True))
    assert "`stress_tests` says nothing of this: not measured" in table(tmp_path)


def test_a_soak_is_told_by_how_many_processes_grow_and_the_largest_slope():
    slopes = [
        figure("memory of route, slope", 9.2, met=True, unit="MiB/h (7 to 11)"),
        figure("memory of settle, slope", 70.0, met=False, unit="MiB/h (50 to 90)"),
        figure("memory of broker, slope", 861.0, met=None, unit="MiB/h"),
        *(figure(f"{what} of route, slope", 0, met=True, unit="/h") for what in ("file handles", "threads")),
    ]
    found = soaked(
        {"details": {"minutes": 5.0}, "figures": [*slopes, figure("without a result", 0, met=True, unit="")]}
    )
    assert found[0].endswith("in 1 of 2 processes, the largest slope 70 MiB/h (50 to 90) (settle): **missed**")
    assert found[1].endswith(": met")
    assert found[3].startswith("without a result")


def test_a_page_without_a_place_for_the_table_is_refused():
    with pytest.raises(ValueError, match="has no lines"):
        page("# Operations\n")
