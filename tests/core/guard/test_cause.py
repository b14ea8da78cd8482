"""Whose answers are bad: by weights that undo who got which requests, and not known where too little was judged."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from router.core.guard.cause import DAYS_KEPT, MOST_MODELS, Causes
from router.core.guard.detector import DAY_MS

#: Half of the requests are hard. Hard ones go to small with 0.9, easy ones with 0.2.
HARD_TO_SMALL, EASY_TO_SMALL = 0.9, 0.2


def judged(bad_hard, bad_easy, count=3000, seed=1):
    """``bad_*``: share of bad answers by model. Also the plain share of each model."""
    random, found = np.random.default_rng(seed), Causes()
    plain = {"small": [0, 0], "mid": [0, 0]}
    for _ in range(count):
        hard = random.random() < 0.5
        to_small = HARD_TO_SMALL if hard else EASY_TO_SMALL
        model = "small" if random.random() < to_small else "mid"
        bad = bool(random.random() < (bad_hard if hard else bad_easy)[model])
        found.add(model, to_small if model == "small" else 1 - to_small, float(bad), DAY_MS)
        plain[model][0] += 1
        plain[model][1] += bad
    return found, {model: bad / n for model, (n, bad) in plain.items()}


def test_a_model_that_got_the_hard_requests_is_not_blamed_for_them():
    same = {"small": 0.4, "mid": 0.4}, {"small": 0.04, "mid": 0.04}
    found, plain = judged(*same)
    assert plain["small"] > 2 * plain["mid"]
    by_model = {one.model: one for one in found.shares(0)}
    for one in by_model.values():
        assert abs(one.bad - 0.22) < 3 * one.error
        assert one.effective < one.judged
    assert found.cause(0, 1000, 220).model is None


def test_the_one_that_is_worse_is_named_with_what_speaks_for_it():
    found, plain = judged({"small": 0.1, "mid": 0.5}, {"small": 0.04, "mid": 0.2})
    cause = found.cause(0, 1000, 70)
    assert plain["mid"] != pytest.approx(0.35, abs=0.05)  # what the plain share would have said
    assert cause.model == "mid"
    assert "35 % of the answers of mid are bad" in cause.why or "34 % of" in cause.why or "36 % of" in cause.why
    assert "7 % of the reference's" in cause.why


def test_of_two_the_one_with_most_of_the_excess_is_first_and_the_other_is_said():
    found, _ = judged({"small": 0.6, "mid": 0.3}, {"small": 0.6, "mid": 0.3})
    cause = found.cause(0, 1000, 60)
    assert cause.model == "small"
    assert cause.why.endswith("; so are those of mid")


@pytest.mark.parametrize(
    ("judgements", "reference", "why"),
    [
        ([("small", 1.0, 1.0)] * 19, (100, 5), "no model has 20"),
        ([], (100, 5), "no model has 20"),
        ([("small", 1.0, 1.0)] * 50, (19, 0), "the reference has not 20"),
        (
            [("small", 1.0, 0.0)] * 300 + [("small", 0.0, 1.0)],
            (100, 5),
            "no model has 20",
        ),  # one answer weighs as a hundred
        ([("small", 1.0, 0.0)] * 95 + [("small", 1.0, 1.0)] * 5, (100, 5), "clearly worse"),
    ],
)
def test_it_is_not_known_where_too_little_was_judged_or_nothing_is_clear(judgements, reference, why):
    found = Causes()
    for model, propensity, bad in judgements:
        found.add(model, propensity, bad, DAY_MS)
    cause = found.cause(0, *reference)
    assert cause.model is None
    assert cause.why.startswith("not known")
    assert why in cause.why


def test_only_what_was_judged_since_then_counts():
    found = Causes()
    for day, bad in ((1, 1.0), (5, 0.0)):
        for _ in range(100):
            found.add("small", 1.0, bad, day * DAY_MS)
    assert found.cause(0, 1000, 50).model == "small"
    assert found.cause(2 * DAY_MS, 1000, 50).model is None


def test_models_and_days_are_bounded_and_it_comes_back_exactly():
    found = Causes()
    for day in range(100):
        for number in range(3 * MOST_MODELS):
            found.add(f"model {number}", 0.3, 0.5, day * DAY_MS)
    assert len(found.shares(0)) == MOST_MODELS
    assert [day for day, _ in found.dump()] == list(range(100 - DAYS_KEPT, 100))
    again = Causes()
    again.load(orjson.loads(orjson.dumps(found.dump())))
    for one in (found, again):
        one.add("model 1", 0.7, 1.0, 101 * DAY_MS)
    assert again.dump() == found.dump()
