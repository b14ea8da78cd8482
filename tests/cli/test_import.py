"""``import`` as a user calls it."""

import gzip
import json
from dataclasses import replace

import pytest

from router.cli import run
from router.train.rows import read_rows
from tests.core.classifiers import knowing
from tests.history.logs import TEXT, answer, payload, request, spend_row, write

CONFIG = """
[models.mini]
provider_model = "gpt-4o-mini"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
[models.large]
provider_model = "gpt-4o"
input_usd_per_mtok = 2.5
output_usd_per_mtok = 10
cached_input_usd_per_mtok = 1.25
[models.free]
unpriced = true
[pools.auto]
models = ["mini", "large"]
[pools.unpriced]
models = ["mini", "free"]
[classify]
bands = [{ name = "short", max_tokens = 1000 }, { name = "long" }]
"""
ONE_LARGE = 100 * 2500 + 20 * 10_000
ONE_LARGE_CACHED = 60 * 2500 + 40 * 1250 + 20 * 10_000
ONE_MINI = 100 * 150 + 20 * 600


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POINTSMAN_CONFIG", raising=False)
    (tmp_path / "pointsman.toml").write_text(CONFIG)
    return tmp_path


def told(capsys, *arguments):
    code = run(["import", *arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def document(capsys, *arguments):
    code, out, _ = told(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


@pytest.fixture
def logs(folder):
    """Three files of three kinds: two calls, one row, three batch calls."""
    write(folder / "a.jsonl", payload(1), payload(2), payload(3, status="failure"))
    write(folder / "b.jsonl.gz", spend_row(1))
    write(folder / "c.jsonl", *map(request, range(3)), *map(answer, range(3)))
    return "a.jsonl", "b.jsonl.gz", "c.jsonl"


def test_money_adds_up_to_the_nano_dollar(logs, capsys):
    found = document(capsys, *logs)
    assert found["calls"] == 6
    assert found["lines"] == {"read": 10, "refused": 0, "left_out": 1}
    assert found["as_logged"] == {"calls": 3, "nano_usd": 3 * 450_000, "baseline_nano_usd": 3 * ONE_LARGE_CACHED}
    assert found["by_price"]["nano_usd"] == 3 * ONE_LARGE_CACHED + 3 * ONE_MINI
    whole = found["all"]
    assert whole["on"]["large"]["nano_usd"] == 3 * ONE_LARGE_CACHED + 3 * ONE_LARGE
    assert whole["on"]["mini"]["nano_usd"] == whole["bound"]["nano_usd"] == 6 * ONE_MINI
    assert whole["bound"]["saved_nano_usd"] == whole["on"]["large"]["nano_usd"] - 6 * ONE_MINI
    assert sum(one["on"]["large"]["nano_usd"] for one in found["strata"]) == whole["on"]["large"]["nano_usd"]
    assert [(one["model"], one["calls"]) for one in found["models"]] == [("mini", 3), ("large", 2), ("large", 1)]


def test_without_p_ok_there_is_a_bound_that_is_called_one_and_quality_is_unknown(logs, capsys):
    found = document(capsys, *logs)
    assert not found["quality"]["known"]
    assert found["all"]["plans"] == []
    assert found["all"]["bound"]["quality_change"] is None
    code, page, _ = told(capsys, *logs)
    assert code == 0
    assert "upper bound" in page
    assert "quality unknown" in page
    savings = [line for line in page.splitlines() if "%" in line and "as logged" not in line and "holdout" not in line]
    assert len(savings) == 2 + len(found["strata"])
    assert all("unknown" in line for line in savings)


def artefact():
    """``mini`` is bad where a word stands."""
    return knowing(
        {"mini": (3, {"times": -6}), "large": (3, {})},
        {"math": (0, {}), "other": (-1, {})},
        edges={("large", "mini"): (0.1, 0.5)},
    )


def classifier(folder):
    (folder / "m.npz").write_bytes(artefact().to_bytes())
    return "m.npz"


def test_with_p_ok_a_saving_has_its_quality_beside_it(folder, capsys):
    easy = payload(2, messages="Good morning", metadata={"score": 1})
    write(folder / "log.jsonl", payload(1, metadata={"score": 0.5}), easy)
    found = document(capsys, "log.jsonl", "--model", classifier(folder))
    nothing, within = found["all"]["plans"]
    assert (nothing["margin"], within["margin"]) == (0.0, 0.05)
    assert nothing["moved"] == within["moved"] == 1
    assert within["nano_usd"] == ONE_LARGE_CACHED + ONE_MINI
    assert abs(within["quality_change"]) < 0.01
    assert found["all"]["bound"]["quality_change"] < -0.1
    assert {one["stratum"]: one["plans"][0]["moved"] for one in found["strata"]} == {"math/easy": 1, "math/medium": 0}
    judged = found["quality"]["judged"]["large"]
    assert (judged["calls"], judged["quality"]) == (2, 0.75)
    assert judged["p_ok"] == pytest.approx(0.95, abs=0.01)
    _, page, _ = told(capsys, "log.jsonl", "--model", "m.npz")
    assert "no answer of another model was seen here" in page
    assert "scores in the log: large 0.750 in 2 calls" in page
    assert "calibration error when it was fitted: not told" in page


@pytest.mark.parametrize(
    "card", [{"held_out": 7}, {"held_out": {"ece": {"large": 1, "mini": {"value": "x"}}}, "rows": "many"}]
)
def test_a_card_may_say_anything(folder, capsys, card):
    (folder / "m.npz").write_bytes(replace(artefact(), card=card).to_bytes())
    write(folder / "log.jsonl", payload(1))
    assert "not told" in told(capsys, "log.jsonl", "--model", "m.npz")[1]


def test_rows_are_those_that_train_reads(folder, logs, capsys):
    write(folder / "d.jsonl", payload(7, metadata={"score": 0.5}), payload(8, messages=None))
    found = document(capsys, *logs, "d.jsonl", "--out", "rows.jsonl")
    assert found["out"] == {"file": "rows.jsonl", "rows": 7, "scored": 1}
    rows = {row.id: row for row in read_rows([folder / "rows.jsonl"])}
    assert len(rows) == 7
    assert all(row.prompt.last_user_text == TEXT for row in rows.values())
    assert rows["chatcmpl-7"].arms["large"].quality == 0.5
    assert rows["chatcmpl-7"].arms["large"].cost_usd == 0.00045
    assert rows["r0"].arms == {}
    assert rows["r0"].task_class
    (line,) = [
        each for each in map(json.loads, (folder / "rows.jsonl").read_text().splitlines()) if each["id"] == "chatcmpl-7"
    ]
    assert line["log"]["stratum"].endswith("/short")
    assert line["log"]["at"] == "2025-09-01T04:13:20.500Z"
    assert line["arms"]["large"]["completion_tokens"] == 20


def test_rows_may_be_packed_and_nothing_is_left_behind(folder, logs, capsys):
    document(capsys, *logs, "--out", "rows.jsonl.gz")
    assert len(gzip.decompress((folder / "rows.jsonl.gz").read_bytes()).splitlines()) == 6
    assert len(read_rows([folder / "rows.jsonl.gz"])) == 6
    write(folder / "bare.jsonl", payload(1, messages=None))
    _, page, _ = told(capsys, "bare.jsonl", "--out", "none.jsonl")
    assert "none.jsonl: not written, no call has a prompt" in page
    assert not [path.name for path in folder.iterdir() if "none" in path.name or "part" in path.name]


def test_the_page_says_what_to_do_next(folder, capsys):
    scored = [
        payload(number, model="gpt-4o" if number % 2 else "gpt-4o-mini", metadata={"score": number % 3 / 2})
        for number in range(200)
    ]
    write(folder / "log.jsonl", *scored)
    assert "next: pointsman train rows.jsonl --out model.npz" in told(capsys, "log.jsonl", "--out", "rows.jsonl")[1]
    write(folder / "few.jsonl", *scored[:50])
    page = told(capsys, "few.jsonl", "--out", "rows.jsonl")[1]
    assert "`pointsman train` wants 100 of each of two models, there are: large 25, mini 25" in page


def test_models_that_are_not_configured_are_told_and_can_be_named(folder, capsys):
    write(folder / "log.jsonl", payload(1, model="azure/prod-7"))
    code, page, _ = told(capsys, "log.jsonl")
    assert code == 0
    assert "--as 'azure/prod-7=MODEL'" in page
    found = document(capsys, "log.jsonl", "--as", "azure/prod-7=large")
    assert found["by_price"]["nano_usd"] == ONE_LARGE_CACHED


def test_a_pool_whose_baseline_has_no_price_tells_no_saving(logs, capsys):
    code, page, _ = told(capsys, *logs, "--pool", "unpriced")
    assert code == 0
    assert "free, the baseline of pool unpriced, has no price" in page
    assert document(capsys, *logs, "--pool", "unpriced")["all"]["bound"] is None


def test_requests_alone_are_classed(folder, capsys):
    write(folder / "in.jsonl", *map(request, range(3)))
    code, page, _ = told(capsys, "in.jsonl")
    assert code == 0
    assert "batch request without an answer" in page
    assert "nothing can be priced" in page
    assert document(capsys, "in.jsonl")["strata"][0]["calls"] == 3


def test_no_text_of_a_log_is_shown_and_nothing_steers_the_terminal(folder, capsys):
    secret = "SECRET"
    lines = [
        payload(1, messages=secret),
        payload(2, messages=secret, prompt_tokens=-1),
        payload(3, messages=[{"role": secret, "content": {"SECRET": secret}}]),
        payload(4, metadata={"score": secret}),
        payload(5, response_cost=secret),
        request(1, body={"messages": secret}),
        answer(1, response=secret),
        b'{"model": "SECRET',
        b'"SECRET"',
        payload(6, model="a\x1b[2J\u202eb"),
    ]
    write(folder / "log.jsonl", *lines)
    for arguments in ([], ["--json"]):
        code, out, err = told(capsys, "log.jsonl", *arguments)
        assert code == 0
        assert secret not in out + err
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_nothing_usable_is_code_1_with_what_was_wrong(folder, capsys):
    write(folder / "log.jsonl", b"{", b"[]", payload(status="failure"))
    code, page, _ = told(capsys, "log.jsonl")
    assert code == 1
    assert "log.jsonl:1 (at character 2)" in page
    assert "Nothing that can be used." in page
    write(folder / "empty.jsonl")
    assert told(capsys, "empty.jsonl")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "FILE"),
        (["none.jsonl"], "none.jsonl: no such file"),
        (["."], "is a folder"),
        (["a.jsonl", "a.jsonl"], "named twice"),
        (["a.jsonl", "--out", "a.jsonl"], "is also read"),
        (["a.jsonl", "--out", "no/rows.jsonl"], "no/rows.jsonl"),
        (["a.jsonl", "--pool", "none"], "pools: auto, unpriced"),
        (["a.jsonl", "--model", "a.jsonl"], "a.jsonl: no classifier"),
        (["a.jsonl", "--model", "none.npz"], "none.npz"),
        (["a.jsonl", "--as", "x"], "LOGGED=MODEL"),
        (["a.jsonl", "--as", "x=none"], "models: mini, large, free"),
        (["a.jsonl", "--quality-range", "5..1"], "LOW..HIGH"),
        (["a.jsonl", "--quality-range", "0..nan"], "LOW..HIGH"),
        (["a.jsonl", "--quality-field", "a..b"], "names with dots between"),
        (["a.jsonl", "--format", "csv"], "--format"),
        (["a.jsonl", "--config", "none.toml"], "none.toml"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(logs, arguments, named, capsys):
    code, out, err = told(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert named in err


def test_without_a_configuration_it_says_that_prices_are_the_examples(folder, capsys):
    (folder / "pointsman.toml").unlink()
    write(folder / "log.jsonl", payload(1, model_group="small", model="gpt-4o"))
    code, page, _ = told(capsys, "log.jsonl")
    assert code == 0
    assert "the example that is shipped, for there is no pointsman.toml here" in page


def test_an_alias_counts_as_the_model_behind_it(folder, capsys):
    write(folder / "log.jsonl", payload(1, model_group="fast", model="openai/gpt-4o-mini"))
    (model,) = document(capsys, "log.jsonl")["models"]
    assert (model["logged_as"], model["model"]) == ("fast", "mini")
