import json
import subprocess
import sys

import pytest

from router import __version__
from router.cli import COMMANDS, cli, run

MODELS = '[models.m]\nprovider = "sim"\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n[pools.auto]\nmodels = ["m"]\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("BROKER", "POINTSMAN_CONFIG"):
        monkeypatch.setenv(name, "")  # restored afterwards, also when a command sets it
        monkeypatch.delenv(name)
    return tmp_path


def said(capsys, *arguments):
    code = run(list(arguments))
    streams = capsys.readouterr()
    return code, streams.out, streams.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    code, out, _ = said(capsys, name, "--help")
    assert code == 0
    assert "Usage: pointsman" in out


def test_the_version_is_said(capsys):
    assert said(capsys, "--version") == (0, f"pointsman, version {__version__}\n", "")


def test_without_a_command_there_is_help(capsys):
    code, out, _ = said(capsys)
    assert code == 2
    assert "Commands:" in out
    assert list(COMMANDS) == cli.list_commands(None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["upp"], "upp"),
        (["status", "--colour"], "--colour"),
        (["submit"], "FILE"),
        (["submit", "none.jsonl"], "none.jsonl"),
        (["submit", "-", "--resume"], "--resume"),
        (["submit", "x", "--lane", "slow"], "--lane"),
        (["run", "rout"], "rout"),
        (["worker", "huge"], "huge"),
        (["config", "check", "--config", "none.toml"], "none.toml"),
        (["config", "check", "--broker", "nowhere"], "nowhere"),
        (["ban", "model:small"], "--reason"),
        (["ban", "model:none", "--by", "a", "--reason", "b"], "none"),
        (["ban", "pool:auto", "--by", "a", "--reason", "b"], "ban"),
        (["pin", "pool:none", "small", "--by", "a", "--reason", "b"], "none"),
        (["pin", "pool:auto", "none", "--by", "a", "--reason", "b"], "none"),
        (["drain", "model:small", "--by", "a", "--reason", "b", "--for", "soon"], "soon"),
        (["rollback", "model:small", "--by", "a", "--reason", "b"], "rollback needs all, a pool, stratum or tenant"),
        (["rollout", "pool:auto", "101", "--by", "a", "--reason", "b"], "101.0 is not in the range"),
        (["holdout", "pool:auto", "many", "--by", "a", "--reason", "b"], "'many' is not a valid float"),
        (["feedback"], "--kind"),
        (["feedback", "--kind", "thumbs", "--value", "2", "--token", "t"], "value"),
        (["feedback", "none.jsonl"], "none.jsonl"),
        (["sim", "--port", "99999"], "--port"),
        (["sim", "--behaviour", "none.toml"], "none.toml"),
        (["release", "pool:auto", "--by", "a", "--reason", "b"], "no broker"),
        (["explain", "x"], "no broker"),
        (["alerts"], "no broker"),
        (["alerts", "--all", "--json"], "no broker"),
        (["alerts", "ack", "ab"], "--reason"),
        (["alerts", "ack", "ab", "--by", "a", "--reason", "b"], "no broker"),
        (["alerts", "close", "ab", "--by", "a", "--reason", "b"], "no broker"),
        (["guard", "power"], "no broker"),
        (["guard", "power", "--pool", "none"], "none"),
        (["import"], "FILE"),
        (["import", "none.jsonl"], "none.jsonl"),
    ],
)
def test_a_mistake_gets_one_line_that_names_it_and_code_2(arguments, named, capsys):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("pointsman: ")
    assert err.count("\n") == 1
    assert named in err
    assert "Traceback" not in err


def test_each_mistake_of_a_configuration_gets_a_line(elsewhere, capsys):
    (elsewhere / "pointsman.toml").write_text(MODELS + "baseline = 'x'\n[kafka]\npartitons = 4\n")
    code, _, err = said(capsys, "config", "check")
    assert code == 2
    assert 'did you mean "partitions"' in err


def test_a_broker_that_is_not_there_is_code_1(elsewhere, capsys):
    (elsewhere / "in.jsonl").write_text(json.dumps({"custom_id": "1", "body": {}}) + "\n")
    code, _, err = said(capsys, "submit", "in.jsonl", "--broker", "127.0.0.1:1")
    assert code == 1
    assert "127.0.0.1:1" in err
    assert err.count("\n") == 1


def test_an_order_can_be_tried_without_giving_it(capsys):
    code, out, _ = said(
        capsys, "pin", "pool:auto", "small", "--by", "me", "--reason", "test", "--for", "2h", "--dry-run"
    )
    assert code == 0
    assert out.startswith("would order: pin pool:auto small until ")


@pytest.mark.parametrize(
    ("action", "slice_", "said_so"),
    [
        ("rollback", "language=cyrillic", "would order: rollback stratum:auto/slice/language=cyrillic"),
        ("rollback", "language=klingon", "there is no slice 'language=klingon'; slices: far=yes, language=arabic,"),
        ("freeze", "far=yes", "freeze stratum:auto/slice/far=yes: needs all, a pool or a stratum"),
    ],
)
def test_a_slice_is_rolled_back_if_there_is_one_and_its_weights_are_no_bodys(capsys, action, slice_, said_so):
    scope = f"stratum:auto/slice/{slice_}"
    _, out, err = said(capsys, action, scope, "--by", "me", "--reason", "test", "--dry-run")
    assert said_so in out + err


def test_the_example_configuration_is_a_valid_one(elsewhere, capsys):
    _, out, _ = said(capsys, "config", "example")
    (elsewhere / "pointsman.toml").write_text(out)
    assert said(capsys, "config", "check")[:2] == (0, "ok: 2 models, 1 pool\n")


def test_it_runs_as_a_module_and_writes_no_colour_into_a_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "router", "config", "show"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "[models.small]" in done.stdout or "models.small" in done.stdout


def test_a_job_that_never_began_leaves_nothing_in_its_way(elsewhere, capsys):
    (elsewhere / "in.jsonl").write_text(json.dumps({"custom_id": "1", "body": {}}) + "\n")
    for _ in range(2):
        assert said(capsys, "submit", "in.jsonl", "--broker", "127.0.0.1:1")[0] == 1
    (elsewhere / "in.jsonl.results.jsonl").write_text("{}\n")
    code, _, err = said(capsys, "submit", "in.jsonl", "--broker", "127.0.0.1:1")
    assert code == 2
    assert "--resume" in err
