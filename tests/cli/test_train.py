"""``train`` and ``evaluate`` as a user calls them."""

import json

import pytest

from router.cli import run
from tests.train.made import rows, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def model(folder):
    answers = write(folder / "answers.jsonl", rows(300))
    assert run(["train", str(answers), "--out", str(folder / "model.npz"), "--folds", "3"]) == 0
    return folder / "model.npz"


def test_a_classifier_and_its_report_are_written(model):
    report = model.parent / "model-report"
    assert "nested cross-validation (3 folds, seed 0)" in (report / "card.md").read_text()
    assert {path.name for path in report.iterdir()} == {"card.md", "curve.png", "reliability.png"}
    assert model.stat().st_size < 1024 * 1024


def test_it_is_judged_on_other_rows(model, folder, capsys):
    later = write(folder / "later.jsonl", rows(300, seed=3))
    asked = ["evaluate", str(later), "--model", str(model), "--draws", "100"]
    assert run([*asked, "--json", "--picture", str(folder / "curve.png")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["apgr"]["value"] > 0.6
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert run(asked) == 0
    page = capsys.readouterr().out
    assert all(word in page for word in ("APGR", "CPT95", "oracle", "random", "calibration error"))


def test_it_says_how_often_other_words_flip_the_choice(model, folder, capsys):
    later = write(folder / "later.jsonl", rows(300, seed=3))
    asked = ["evaluate", str(later), "--model", str(model), "--draws", "100", "--rephrased"]
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rephrased"]
    assert set(found) == {"case", "typos", "filler", "politeness", "order", "all"}
    assert found["case"]["flips"] == 0
    assert found["all"]["flips"] < found["all"]["random"]
    assert run(asked) == 0
    assert "said in other words" in capsys.readouterr().out


def test_prompts_alone_are_scored(model, folder, capsys):
    alone = [{"id": row["id"], "prompt": row["prompt"]} for row in rows(20, seed=4)]
    prompts, out = write(folder / "prompts.jsonl", alone), folder / "scores.jsonl"
    assert run(["evaluate", str(prompts), "--model", str(model), "--scores", str(out)]) == 0
    assert "20 rows scored" in capsys.readouterr().out
    scores = [json.loads(line) for line in out.read_text().splitlines()]
    assert [score["id"] for score in scores] == [row["id"] for row in alone]
    assert all(set(score["p_ok"]) == {"strong", "cheap"} for score in scores)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "absent.npz"], "absent.npz: No such file"),
        (["--model", "answers.jsonl"], "answers.jsonl: no classifier"),
        (["--model", "model.npz", "--strong", "nobody"], "no model 'nobody' in the rows; there are cheap, strong"),
        (["--model", "model.npz", "--strong", "cheap"], "no gap to recover"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(model, arguments, says, capsys, monkeypatch):
    monkeypatch.chdir(model.parent)
    assert run(["evaluate", "answers.jsonl", *arguments, "--draws", "100"]) == 2
    assert says in capsys.readouterr().err


def test_rows_of_a_model_that_it_does_not_know_are_refused(model, folder, capsys):
    other = [row | {"arms": {**row["arms"], "third": {"quality": 1}}} for row in rows(5)]
    assert run(["evaluate", str(write(folder / "other.jsonl", other)), "--model", str(model)]) == 2
    assert "not fitted to third: only to cheap, strong" in capsys.readouterr().err


def test_a_log_with_one_answer_a_row_is_fitted_and_no_saving_is_claimed(folder, capsys):
    one_arm = [row | {"arms": dict([list(row["arms"].items())[at % 2]])} for at, row in enumerate(rows(400))]
    one_arm += [{"id": "x", "prompt": "x", "arms": {}}, {"id": "y", "prompt": "y", "arms": {"rare": {"quality": 1}}}]
    log = write(folder / "log.jsonl", one_arm)
    assert run(["train", str(log), "--out", str(folder / "log.npz"), "--folds", "2"]) == 0
    said = capsys.readouterr()
    assert "rare is left out: 1 of its answers have a quality, 100 are wanted" in said.err
    assert "2 rows without such an answer are passed over" in said.err
    assert "rows with answers of both strong and cheap: 0" in said.out
    assert "APGR" not in said.out
    asked = ["evaluate", str(write(folder / "two.jsonl", one_arm[:400])), "--model", str(folder / "log.npz")]
    assert run([*asked, "--picture", str(folder / "no.png"), "--draws", "100"]) == 2
    assert run([*asked, "--rephrased", "--draws", "100"]) == 2
    assert "nothing can be compared" in capsys.readouterr().err


def test_a_log_without_scores_cannot_be_fitted_to(folder, capsys):
    log = write(folder / "none.jsonl", [{"id": "x", "prompt": "x", "arms": {}}])
    assert run(["train", str(log), "--out", str(folder / "none.npz")]) == 2
    assert "no model has 100 answers with a quality" in capsys.readouterr().err
