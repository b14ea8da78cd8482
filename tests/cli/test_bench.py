"""``pointsman bench`` runs what lies in the source checkout, and says in one line what it cannot run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults, transport
from benchmarks import run as runner
from benchmarks.report import Figure, Report, document, text
from benchmarks.system import wait_for
from router.cli import bench, run


def pointsman(*arguments):
    return subprocess.run([sys.executable, "-m", "router", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout whose runner only shows what it was asked."""
    runner = tmp_path / "run.py"
    runner.write_text(
        "import sys, pathlib\npathlib.Path(__file__).with_name('asked').write_text(' '.join(sys.argv[1:]))\nsys.exit(3)\n"
    )
    (tmp_path / "faults.py").write_text(runner.read_text())
    monkeypatch.setattr(bench, "RUNNER", runner)
    return tmp_path


def test_an_unknown_benchmark_is_named_in_one_line_with_those_there_are():
    done = pointsman("bench", "nonsense")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "there is no benchmark 'nonsense'" in line
    assert "full_path" in line


def test_without_a_source_checkout_it_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "RUNNER", tmp_path / "run.py")
    assert run(["bench"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "source checkout" in line


def test_names_and_options_reach_the_runner_and_its_exit_code_comes_back(checkout):
    assert run(["bench", "up", "latency", "--json"]) == 3
    assert (checkout / "asked").read_text() == "--json -- up latency"


def test_a_benchmark_ends_with_the_command_that_is_killed(tmp_path):
    runner, pid_file = tmp_path / "run.py", tmp_path / "pid"
    runner.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(f'{{os.getpid()}}\\n')\n"
        "time.sleep(3600)\n"
    )
    command = f"from pathlib import Path; from router.cli import bench, run; bench.RUNNER = Path({str(runner)!r}); run(['bench'])"
    with subprocess.Popen([sys.executable, "-c", command]) as started:
        assert wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), 60)
        pid = int(pid_file.read_text())
        started.kill()
    assert wait_for(lambda: not Path(f"/proc/{pid}").exists(), 60)


def test_faults_run_alone_with_options_of_their_own(checkout, capsys):
    assert run(["bench", "faults", "--seeds", "2", "--resume"]) == 3
    assert (checkout / "asked").read_text() == "--seeds=2 --resume"
    for wrong in (["up", "--resume"], ["faults", "up"], ["faults", "--json"]):
        assert run(["bench", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_faults_that_have_passed_are_not_run_again(tmp_path):
    file = tmp_path / "faults.jsonl"
    assert faults.passed(file) == set()
    runs = [("kill", 1, True), ("kill", 2, False), ("mix", 1, True), ("mix", 1, False)]
    lines = [{"machine": {}}, *({"name": name, "seed": seed, "ok": ok} for name, seed, ok in runs)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert faults.passed(file) == {("kill", 1)}


def test_a_figure_tells_its_ratio_to_the_reference_and_whether_the_goal_is_met():
    report = Report("example")
    report.add("rate", 300, "requests/s", reference=100, reference_is="bare loop", goal=">= 2 of it", met=True)
    report.add("start", 3.0, "s")
    found = document(report)
    assert [figure["ratio"] for figure in found["figures"]] == [3.0, None]
    shown = text(found)
    assert "100 (bare loop)" in shown
    assert ">= 2 of it met" in shown
    assert json.loads(json.dumps(found)) == found


def test_fields_of_all_benchmarks_lie_on_top_of_one_document():
    found = {name: document(Report(name, fields={f"{name}_per_s": 1.0})) for name in ("batch", "route")}
    assert runner.whole(found) == {"batch_per_s": 1.0, "route_per_s": 1.0, "benchmarks": found}


def test_a_figure_without_a_reference_or_a_value_has_no_ratio():
    assert Figure(name="rate", value=None, unit="s", reference=1.0).ratio is None
    assert Figure(name="rate", value=1.0, unit="s", reference=0.0).ratio is None


def test_what_could_not_be_measured_says_why_in_place_of_a_value():
    report = Report("example")
    report.add("rate of theirs", None, "not installed")
    report.add("rate of nobody", None, "")
    first, second = text(document(report)).splitlines()[1:3]
    assert first.endswith("rate of theirs  not installed")
    assert second.endswith("rate of nobody  none")


def test_a_document_names_the_machine_the_versions_and_that_it_was_busy():
    busy = Report("example", load_before=(99.0, 1.0, 1.0))
    found = document(busy)
    assert {"cores", "cpu", "python", "versions"} <= found["machine"].keys()
    assert any("load 99.0" in caveat for caveat in found["caveats"])
    assert document(Report("example", load_before=(0.0, 0.0, 0.0)))["caveats"] == []


def test_the_transport_compares_rounds_with_themselves_and_says_what_is_missed():
    found = {
        "aiokafka_loop": [(100.0, 50.0), (50.0, 100.0), (10.0, 500.0)],
        "aiokafka_batches": [(300.0, 20.0), (150.0, 40.0), (30.0, 200.0)],
        "stage_table": [(160.0, 30.0), (80.0, 60.0), (20.0, 300.0)],
    }
    report = transport.report_of(found, idle=0.01)
    figures = {figure.name: figure for figure in report.figures}
    assert report.fields == {"transport_to_aiokafka": 1.6, "transport_to_ceiling": 0.53}
    to_loop = figures["exactly-once stage with a table / bare aiokafka loop"]
    assert (to_loop.value, to_loop.met) == (1.6, True)
    to_batches = figures["exactly-once stage with a table / hand-made batches"]
    assert (to_batches.value, to_batches.met) == (0.53, False)
    assert figures["exactly-once stage with a table"].value == 80
    assert figures["idle stage of four partitions"].value == 1.0
