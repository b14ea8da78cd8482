"""What was fitted is right about rows that it has not seen."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from router.contract.errors import ConfigError
from router.core.artefact import Artefact
from router.core.classify import Classifier, Seen
from router.core.guard.drift import Sample, shift
from router.core.tokens import read
from router.train.fit import fit, gain_edges, split
from router.train.report import trained, write_report
from router.train.rows import read_rows
from router.train.score import evaluate, p_ok_of
from tests.train.made import rows, write


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return read_rows([write(tmp_path_factory.mktemp("seen") / "rows.jsonl", rows(600))])


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    return read_rows([write(tmp_path_factory.mktemp("unseen") / "rows.jsonl", rows(600, seed=2))])


@pytest.fixture(scope="module")
def made(seen):
    return trained(seen, files=["rows.jsonl"])


def judged(artefact, found):
    return evaluate(found, artefact.heads.models, p_ok_of(artefact, found), draws=200)


def test_it_tells_easy_from_hard_and_its_probabilities_are_right(made, unseen):
    found = judged(made.artefact, unseen)
    assert (found.strong, found.cheap) == ("strong", "cheap")
    ours, length, oracle = found.ways
    assert 0.6 < ours.apgr.low < ours.apgr.value < oracle.apgr.value
    assert length.difference.high < 0 < oracle.difference.low
    assert all(figure.value < 0.08 for figure in found.ece.values())


def test_held_out_figures_are_those_of_rows_that_it_has_not_seen(made, unseen):
    assert made.evaluation.ways[0].apgr.value == pytest.approx(
        judged(made.artefact, unseen).ways[0].apgr.value, abs=0.05
    )


def test_nothing_that_a_row_is_judged_by_has_seen_its_answers(seen):
    """With all answers of one fold turned round, what is said of that fold stays the same to the last bit."""
    few = seen[:240]
    _, asked = next(split([row.prompt.last_user_text for row in few], 3, seed=0))
    turned = [
        replace(row, arms={name: replace(arm, quality=1.0 - arm.quality) for name, arm in row.arms.items()})
        if at in set(asked.tolist())
        else row
        for at, row in enumerate(few)
    ]
    before, after = fit(few, folds=3).held_out, fit(turned, folds=3).held_out
    assert np.array_equal(before[asked], after[asked])
    others = np.setdiff1d(np.arange(len(few)), asked)
    assert not np.isclose(before[others], after[others]).any()


def test_nothing_that_a_row_is_judged_by_has_seen_another_text_of_its_fold(seen, tmp_path):
    few = seen[:240]
    _, asked = next(split([row.prompt.last_user_text for row in few], 3, seed=0))
    odd = {"id": "odd", "prompt": "\n= 1? " * 400, "arms": {"strong": {"quality": 1}, "cheap": {"quality": 0}}}
    (other,) = read_rows([write(tmp_path / "odd.jsonl", [odd])])
    changed = [other if at == asked[0] else row for at, row in enumerate(few)]
    before, after = fit(few, folds=3).held_out, fit(changed, folds=3).held_out
    assert np.array_equal(before[asked[1:]], after[asked[1:]])
    assert before[asked[0]] != pytest.approx(after[asked[0]])


def test_a_fold_in_which_all_answers_are_alike_is_no_error(seen):
    """One bad answer in all: the parts without it know good ones only."""
    rows = [
        replace(
            row, arms={name: replace(arm, quality=float(at > 0 or name == "cheap")) for name, arm in row.arms.items()}
        )
        for at, row in enumerate(seen[:120])
    ]
    rows[1] = replace(rows[1], arms=rows[1].arms | {"cheap": replace(rows[1].arms["cheap"], quality=0.0)})
    fitted = fit(rows, folds=3)
    assert ((fitted.held_out > 0.9) & (fitted.held_out < 1.0)).mean() > 0.95


def test_progress_is_told_step_by_step_to_the_end(seen):
    told = {}
    fit(seen[:120], folds=2, progress=lambda what, done, total: told.setdefault(what, []).append((done, total)))
    assert {"judging each fold by what the others teach", "fitting to all rows"} <= told.keys()
    for steps in told.values():
        assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1))


def test_the_file_says_the_same(made, unseen):
    again = Artefact.from_bytes(made.artefact.to_bytes())
    assert np.array_equal(p_ok_of(again, unseen), p_ok_of(made.artefact, unseen))
    assert again.card["held_out_by"] == "nested cross-validation"
    assert again.card["held_out"]["apgr"]["value"] == made.evaluation.ways[0].apgr.value


def test_the_same_rows_make_the_same_version(made, seen):
    assert trained(seen, files=["rows.jsonl"]).artefact.version == made.artefact.version


def test_classes_are_learned_where_rows_name_them(made):
    asked = [Seen(text, read(text)[1]) for text in ("the entropy of a tensor", "my parcel and the refund")]
    found = Classifier([], made.artefact.heads).classify(asked)
    assert [each.task_class for each in found] == ["science", "service"]


def test_graded_quality_is_learned_as_its_mean(tmp_path):
    graded = read_rows([write(tmp_path / "rows.jsonl", rows(400, graded=True))])
    fitted = fit(graded)
    cheap = fitted.models.index("cheap")
    truth = np.array([row.arms["cheap"].quality for row in graded])
    assert np.corrcoef(fitted.held_out[:, cheap], truth)[0, 1] > 0.9
    assert fitted.held_out[:, cheap].mean() == pytest.approx(truth.mean(), abs=0.02)


def test_equal_texts_are_never_apart():
    texts = ["a", "b", "a", "c", "d", "b", "e", "f"]
    for known, asked in split(texts, 3, seed=0):
        assert not {texts[at] for at in known} & {texts[at] for at in asked}
        assert len(known) + len(asked) == len(texts)


def test_bands_hold_a_third_each():
    p_ok = np.random.default_rng(0).random((3000, 2))
    low, high = gain_edges(["a", "b"], p_ok)["a", "b"]
    gain = p_ok[:, 0] - p_ok[:, 1]
    assert [(gain < low).mean(), (gain > high).mean()] == pytest.approx([1 / 3, 1 / 3], abs=0.01)


def test_what_cannot_be_learned_is_said(seen):
    with pytest.raises(ConfigError, match="at least 100"):
        fit(seen[:99])
    with pytest.raises(ConfigError, match="third: 1 rows: at least 100"):
        fit([*seen, type(seen[-1])("z", seen[-1].prompt, {"third": seen[-1].arms["strong"]})])
    alike = [type(row)(row.id, row.prompt, {"a": row.arms["strong"], "b": seen[0].arms["cheap"]}) for row in seen]
    with pytest.raises(ConfigError, match="b: all answers have quality"):
        fit(alike)


def test_the_report_has_a_card_and_its_pictures(made, tmp_path):
    folder = write_report(tmp_path / "report", made)
    card = (folder / "card.md").read_text()
    assert made.artefact.version in card
    assert "nested cross-validation (5 folds, seed 0)" in card
    assert "`science`, `service`" in card
    for name in ("curve.png", "reliability.png"):
        assert name in card
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_document_is_json_and_has_the_promised_fields(made, unseen):
    document = json.loads(json.dumps(judged(made.artefact, unseen).document()))
    for name in ("apgr", "cpt50", "cpt80", "cpt95"):
        assert document[name]["low"] <= document[name]["value"] <= document[name]["high"]
    assert set(document["ece"]) == {"strong", "cheap"}


def one_arm_each(found):
    """As a log has them: nobody asked the other model."""
    draw = random.Random(5)
    return [replace(row, arms=dict([draw.choice(list(row.arms.items()))])) for row in found]


def test_rows_with_one_answer_each_are_learned_from(seen, unseen, tmp_path):
    more = read_rows([write(tmp_path / "more.jsonl", rows(1200, seed=7))])
    alone = trained(one_arm_each(more), files=["log.jsonl"])
    assert alone.evaluation.ways == []
    assert alone.evaluation.both == 0
    assert "apgr" not in json.loads(json.dumps(alone.evaluation.document()))
    assert judged(alone.artefact, unseen).ways[0].apgr.low > 0.55
    folder = write_report(tmp_path / "report", alone)
    card = (folder / "card.md").read_text()
    assert "0 rows have answers of both `strong` and `cheap`" in card
    assert "curve.png" not in card
    assert {path.name for path in folder.iterdir()} == {"card.md", "reliability.png"}


def test_what_can_be_compared_is_compared_where_enough_rows_have_both(seen):
    mixed = [*seen[:150], *one_arm_each(seen[150:])]
    found = trained(mixed, files=["mixed.jsonl"]).evaluation
    assert (found.rows, found.both) == (600, 150)
    assert found.ways[0].name == "ours"


def test_a_failure_so_rare_that_a_part_has_none_is_no_error(seen):
    rare = [
        replace(row, arms=row.arms | {"strong": replace(row.arms["strong"], quality=float(at != 3))})
        for at, row in enumerate(seen[:200])
    ]
    assert np.isfinite(fit(rare).held_out).all()


def test_what_is_usual_is_what_the_classifier_says_of_more_such_rows(made, unseen):
    """Also of a model that is about as good everywhere: the scale of its p_ok is that of the heads that are kept."""
    usual = made.artefact.usual
    asked = [Seen(row.prompt.last_user_text, row.prompt.read()[1]) for row in unseen]
    found = Classifier([], made.artefact.heads, usual).classify(asked)
    assert set(usual) == {"science", "service"}
    for name, one in usual.items():
        inside = [each for each in found if each.learned == name]
        for model, spread in one.spread.items():
            counts = np.bincount([spread.bin_of(each.p_ok[model]) for each in inside], minlength=len(spread.counts))
            seen = shift(Sample(counts.tolist(), sum(each.far for each in inside)), one.rows(model), 1e-4)
            assert not seen.speaks("confidence_drift")
            assert not seen.speaks("off_centroid")
