"""``make chaos``: a row passes by its goals alone, and what did not end, had no time or broke has failed."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos import FOLDER, ROWS, Budget, Row, RowError, bench, called, faults, run, suite, table

FIGURE = {"name": "what grows", "value": 1.5, "unit": "MiB/h", "goal": "0", "reference": None, "ratio": None}


def document(met):
    return {"benchmark": "b", "figures": [FIGURE | {"met": met}], "details": {}}


def row(make, limit_s=60.0, name="a row"):
    return Row(name, limit_s, "something", make)


def outcome(make, limit_s=60.0, budget_s=60.0):
    said = []
    (found,) = run([row(make, limit_s)], Budget(budget_s), said.append)
    assert said[-1].split(": ")[1].startswith("PASS" if found.ok else "FAIL")
    return found


def test_a_row_passes_when_each_of_its_goals_is_met_and_there_is_one():
    assert outcome(lambda _call: document(met=True)).ok
    assert not outcome(lambda _call: document(met=False)).ok
    assert not outcome(lambda _call: document(met=None)).ok


def test_what_does_not_end_is_killed_with_what_it_has_started_and_has_failed(tmp_path):
    note = tmp_path / "child"
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '600']); open({str(note)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    found = outcome(lambda call: call(["-c", code]), limit_s=6.0)
    assert not found.ok
    assert found.why == "killed: it did not end in time"
    stat = Path(f"/proc/{note.read_text()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(") ")[2][0] == "Z"


def test_a_row_without_time_is_not_begun_and_has_failed():
    begun = []
    found = outcome(begun.append, budget_s=1.0)
    assert not found.ok
    assert not begun
    assert found.why == "no time was left for it"


def test_a_row_has_what_is_left_of_the_budget_and_no_more():
    ends = []

    def make(call):
        ends.append(call.__defaults__[0] - time.monotonic())
        return document(met=True)

    run([row(make, limit_s=500.0), row(make, limit_s=20.0)], Budget(100.0), lambda _: None)
    assert 20.0 < ends[0] <= 100.0
    assert ends[1] <= 20.0


def test_a_program_that_prints_no_document_has_failed_and_its_last_words_are_told():
    with pytest.raises(RowError, match="exit code 1: ValueError: no"):
        bench("nothing")(lambda _: (1, "Traceback\nValueError: no\n\n"))
    assert bench("b")(lambda _: (0, "a warning\n" + json.dumps(document(met=True), indent=2)))["figures"][0]["met"]


def test_a_run_of_faults_that_was_not_exact_fails_the_row():
    def call(arguments):
        out = next(one for one in arguments if one.startswith("--out=")).removeprefix("--out=")
        runs = [{"faults": ["zombie", "kill-web"], "ok": ok, "figures": {"requests": 10}} for ok in (True, False)]
        Path(out).write_text("\n".join(map(json.dumps, [{"machine": {}}, *runs])))
        return 1, ""

    found = faults("mix", "--mix")(call)
    assert [figure["value"] for figure in found["figures"]] == [4, 20, 1]
    assert found["figures"][-1]["met"] is False
    with pytest.raises(RowError, match="it printed nothing"):
        faults("mix")(lambda _: (2, ""))


def test_tests_are_counted_by_what_they_show_and_one_that_was_skipped_has_not_passed(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_a(): pass\ndef test_b(): assert 0\n")
    (tmp_path / "test_two.py").write_text("import pytest\ndef test_c(): pass\ndef test_d(): pass\n")
    (tmp_path / "test_three.py").write_text("import pytest\ndef test_e(): pytest.skip('no')\n")

    def call(arguments):
        here = [str(tmp_path / one) if one.endswith(".py") else one for one in arguments]
        return called([*here, "--rootdir", str(tmp_path), "-c", os.devnull], time.monotonic() + 60, 0.0)

    found = suite("t", first="test_one.py", second_part="test_two.py", third="test_three.py", none="test_none.py")
    with pytest.raises(RowError):
        found(lambda _: (4, "usage"))
    (tmp_path / "test_none.py").write_text("")
    figures = found(call)["figures"]
    assert [(figure["name"], figure["value"], figure["met"]) for figure in figures] == [
        ("first", 1, False),
        ("second part", 2, True),
        ("third", 0, False),
        ("none", 0, False),
    ]


def test_the_table_has_a_line_for_each_goal_and_for_each_row_that_broke():
    good, late = outcome(lambda _call: document(met=True)), outcome(lambda _call: document(met=True), budget_s=0.0)
    lines = table([good, late]).splitlines()
    assert lines[0].split() == ["row", "figure", "value", "goal"]
    assert lines[1].split() == ["a", "row", "(0", "s)", "what", "grows", "1.5", "MiB/h", "0", "PASS"]
    assert lines[2].endswith("FAIL")
    assert "no time was left for it" in lines[2]


def test_only_documents_are_kept_and_the_command_fails_when_a_row_does(monkeypatch, tmp_path, capsys):
    rows = (row(lambda _call: document(met=True), name="good"), row(lambda _call: document(met=False), name="bad"))
    monkeypatch.setattr(chaos, "ROWS", rows)
    monkeypatch.setattr(chaos, "RESULTS", tmp_path)
    written = []
    monkeypatch.setattr(chaos, "write_page", lambda: written.append(sorted(path.name for path in tmp_path.iterdir())))
    monkeypatch.setattr(sys, "argv", ["chaos.py", "--keep"])
    assert chaos.main() == 1
    assert "1 of 2 rows pass" in capsys.readouterr().out
    assert written == [["bad.json", "good.json"]]
    monkeypatch.setattr(sys, "argv", ["chaos.py", "good"])
    assert chaos.main() == 0
    monkeypatch.setattr(sys, "argv", ["chaos.py", "other"])
    with pytest.raises(SystemExit):
        chaos.main()


def test_every_row_names_what_is_there():
    names = [one.name for one in ROWS]
    assert len(set(names)) == len(names)
    called_for = []

    def call(arguments):
        called_for.extend(arguments)
        return 1, ""

    for one in ROWS:
        with pytest.raises(RowError) if one.name != "fuzz" else pytest.MonkeyPatch.context():
            one.make(call)
    files = [one for one in called_for if one.endswith(".py")]
    assert len(files) > 10
    assert all((FOLDER.parent / one).exists() for one in files)
