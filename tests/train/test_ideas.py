"""What other classifiers are compared with is the classifier that is trained."""

import numpy as np
import pytest

from benchmarks.ideas import FOLDS, IDEAS, Data, judged, said_of
from router.train.fit import fit, split
from router.train.rows import read_rows
from tests.train.made import rows, write


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return read_rows([write(tmp_path_factory.mktemp("seen") / "rows.jsonl", rows(160))])


def test_ours_among_the_ideas_says_what_train_reports(seen):
    assert judged(IDEAS[0], Data(seen), seed=3) == pytest.approx(fit(seen, seed=3).held_out, abs=1e-6)


@pytest.mark.parametrize("idea", [idea for idea in IDEAS if idea.take != "bagged"], ids=lambda idea: idea.name)
def test_no_idea_sees_the_answers_of_the_rows_that_it_is_judged_by(idea, seen):
    known, asked = next(split([row.prompt.last_user_text for row in seen], FOLDS, 0))
    data, turned = Data(seen), Data(seen)
    turned.quality = data.quality.copy()
    turned.quality[asked] = 1.0 - turned.quality[asked]
    before, after = (said_of(idea, each, known, asked, seed=0) for each in (data, turned))
    assert np.array_equal(before, after)
