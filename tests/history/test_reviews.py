"""Who has looked at what, and what that says of models and judges."""

import pytest

from router.cli.review import page
from router.contract.records import ReviewItem
from router.core.records import CountedFeedback, JudgedPair
from router.core.reviewing import Shard, feedback_on
from router.history.reviews import rates_of

IDS = [f"{number:032x}" for number in range(100)]


def item(request_id, *, attempt=1, sample="review", inclusion=0.1, **changed):
    given = {"pool": "auto", "stratum": "math/hard", "model_hidden": "x", "due_at": "2026-01-01T00:00:00Z"}
    return ReviewItem(
        request_id=request_id, attempt=attempt, sample=sample, inclusion_probability=inclusion, **given | changed
    )


def opinion(request_id, value, *, attempt=1, model="small", cohort="pilot"):
    return CountedFeedback(
        request_id=request_id,
        tenant="default",
        lane="interactive",
        pool="auto",
        stratum="math/hard",
        model=model,
        cohort=cohort,
        kind="review",
        value=value,
        repeat=False,
        at_ms=0,
        attempt=attempt,
        source="reviewer",
    )


def pair(request_id, verdict):
    return JudgedPair(
        request_id=request_id,
        pool="auto",
        stratum="math/hard",
        tenant="default",
        session=None,
        model="small",
        served_model="small-1",
        reference_model="large",
        cohort="pilot",
        verdict=verdict,
        judge="arbiter",
        asked_ms=0,
        at_ms=1,
        inclusion=0.1,
    )


def test_a_models_rate_is_of_its_own_answers_by_sample():
    items = [item(IDS[0]), item(IDS[1], inclusion=0.2), item(IDS[2]), item(IDS[3], attempt=101, sample="shadow")]
    said = [
        opinion(IDS[0], 0.0),
        opinion(IDS[1], 1.0),
        opinion(IDS[2], 1.0, model="large"),
        opinion(IDS[3], 0.0, attempt=101, model="large", cohort="shadow"),
    ]
    found = {(one.model, one.sample): one.bad for one in rates_of(items, said, []).strata}
    assert found["small", "review"].value == pytest.approx(10 / 15)
    assert found["large", "review"].value == 0.0
    assert found["large", "shadow"].value == 1.0


def test_what_is_there_twice_counts_once_and_what_nobody_looked_at_not_at_all():
    items = [item(IDS[0]), item(IDS[0]), item(IDS[1]), item(IDS[2], sample="cascade")]
    said = [opinion(IDS[0], 0.0), opinion(IDS[0], 1.0), opinion(IDS[2], 0.0), opinion(IDS[3], 0.0)]
    (one,) = rates_of(items, said, [pair(IDS[5], 1.0), pair(IDS[5], 1.0)]).strata
    assert (one.bad.n, one.bad.value) == (1, 1.0)


def test_a_judges_rate_is_corrected_where_people_looked_at_both():
    pairs = [pair(one, 1.0 if number % 4 == 0 else -1.0) for number, one in enumerate(IDS)]
    said = []
    for number, one in enumerate(IDS[:40]):  # the judge finds all that is worse, and a bit more
        worse = number % 4 == 0 and number % 8 == 0
        said += [opinion(one, float(not worse)), opinion(one, 1.0, attempt=101, model="large", cohort="shadow")]
    found = rates_of([], said, pairs)
    error = found.errors["arbiter"]
    assert (error.sensitivity.n, error.sensitivity.value) == (5, 1.0)
    assert (error.specificity.n, error.specificity.value) == (35, pytest.approx(30 / 35))
    (one,) = found.pairs
    assert one.worse.value == 0.25
    assert one.corrected.value < 0.2


def test_a_judges_power_is_told_for_the_guard_where_people_looked_at_both():
    said, pairs = [], []
    for number, one in enumerate(IDS[:40]):
        worse = number % 2 == 0
        said += [opinion(one, float(not worse)), opinion(one, 1.0, attempt=101, model="large", cohort="shadow")]
        pairs.append(pair(one, float(worse and number % 4 == 0)))
    found = rates_of([], said, pairs)
    assert found.powers["arbiter"].value == pytest.approx(0.5)
    assert "judge_power = 0.50" in page(found)
    none = rates_of([], said, [pair(one, 0.0) for one in IDS[:40]])
    assert "next to nothing" in page(none)
    assert rates_of([], said[:10], pairs).powers == {}


def test_without_people_a_judges_rate_stands_as_it_is():
    found = rates_of([], [], [pair(IDS[0], 1.0), pair(IDS[1], 0.0)])
    assert found.pairs[0].corrected is None
    assert found.errors["arbiter"].sensitivity is None


def test_shards_part_the_queue():
    parts = [Shard(number, 3) for number in (1, 2, 3)]
    assert all(sum(part.has(one) for part in parts) == 1 for one in IDS)
    assert all(any(part.has(one) for one in IDS) for part in parts)


def test_an_opinion_goes_by_token_and_else_by_id():
    by_token = feedback_on(item(IDS[0], feedback_token="t", weight=1.5), 1.0, "")
    assert (by_token.feedback_token, by_token.request_id, by_token.attempt, by_token.weight) == ("t", None, 1, 1.5)
    by_id = feedback_on(item(IDS[0], attempt=2), 0.0, "why")
    assert (by_id.feedback_token, by_id.request_id, by_id.comment) == (None, IDS[0], "why")
