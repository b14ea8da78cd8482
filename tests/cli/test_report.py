"""``archive`` and ``report`` on the command line: exit codes, files, defaults. What they say is looked at in tests/history."""

import json

import pytest

from router.cli import run
from tests.history.archive_world import usual

MODELS = '[models.m]\nprovider = "sim"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n[pools.auto]\nmodels = ["m"]\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("BROKER", "POINTSMAN_CONFIG"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "pointsman.toml").write_text(MODELS)
    return tmp_path


@pytest.fixture(scope="module")
def world():
    return usual(1_500)


def said(capsys, *arguments):
    code = run(list(arguments))
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_the_archive_of_the_data_folder_is_the_default(world, elsewhere, capsys):
    world.archive(elsewhere / "pointsman-data" / "archive")
    code, out, _ = said(capsys, "report")
    assert code == 0
    assert "1,500 requests, 2026-11-02 to 2026-11-15" in out


def test_all_forms_at_once(world, elsewhere, capsys):
    world.archive(elsewhere / "a")
    code, out, _ = said(capsys, "report", "--archive", "a", "--html", "r.html", "--markdown", "r.md", "--json")
    assert code == 0
    assert json.loads(out)["total"]["cost_nano_usd"] == world.spent()
    assert "<svg" in (elsewhere / "r.html").read_text()
    assert (elsewhere / "r.md").read_text().startswith("# What was saved")


@pytest.mark.parametrize(("percent", "code"), [(10, 0), (99, 1)])
def test_targets_decide_the_exit_code(world, elsewhere, capsys, percent, code):
    world.archive(elsewhere / "a")
    (elsewhere / "t.toml").write_text(f"[[target]]\nmin_saving_percent = {percent}\n")
    found = said(capsys, "report", "--archive", "a", "--benchmark", "t.toml")
    assert found[0] == code
    assert found[1].startswith("met" if code == 0 else "MISSED")


def test_wrong_targets_are_wrong_usage(elsewhere, capsys):
    (elsewhere / "t.toml").write_text("[[target]]\nmin_savings = 1\n")
    code, _, err = said(capsys, "report", "--benchmark", "t.toml")
    assert code == 2
    assert "min_savings" in err


def test_no_archive_is_wrong_usage(capsys):
    code, _, err = said(capsys, "report", "--archive", "nowhere")
    assert code == 2
    assert "pointsman archive" in err


def test_a_day_that_is_none_is_wrong_usage(capsys):
    assert said(capsys, "report", "--since", "yesterday")[0] == 2
    assert said(capsys, "archive", "--since", "2026-13-01")[0] == 2


def test_archiving_without_a_broker_fails_and_leaves_no_lock(elsewhere, capsys):
    for _ in range(2):
        code, _, err = said(capsys, "archive", "--out", "a", "--broker", "127.0.0.1:1")
        assert code == 1
        assert "no Kafka broker" in err
