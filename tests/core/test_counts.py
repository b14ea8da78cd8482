"""core/counts: exact sums that merge in any order, and bounded rows."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.counts import MAX_SUM, OTHER, SUMS, Admission, Counts, Dimensions, metric_window

DIMENSIONS = Dimensions("acme", "auto", "small", "math/hard", "pilot", "interactive")
REASONS = ("routed", "retry", "fallback", "hedge", "escalate", "shadow")

RESULTS = st.tuples(st.just("result"), st.sampled_from([None, "rate_limited"]), st.integers(0, 10**6))
ATTEMPTS = st.tuples(
    st.just("attempt"), st.sampled_from(REASONS), st.integers(0, 10**6), st.one_of(st.none(), st.integers(0, 10**12))
)
FEEDBACK = st.tuples(st.just("feedback"), st.sampled_from(["thumbs", "review"]), st.floats(0, 1), st.booleans())
EVENTS = st.lists(st.one_of(RESULTS, ATTEMPTS, FEEDBACK), max_size=40)


def attempt(reason="routed", tokens=0, cost: int | None = 0, baseline=0) -> dict:
    return {
        "reason": reason,
        "prompt_tokens": tokens,
        "completion_tokens": 2 * tokens,
        "cached_tokens": tokens // 2,
        "cost_nano_usd": cost,
        "baseline_cost_nano_usd": baseline,
    }


def counts_of(events) -> Counts:
    counts = Counts()
    for what, *values in events:
        if what == "result":
            counts.add_result(*values)
        elif what == "attempt":
            reason, tokens, cost = values
            counts.add_attempt(**attempt(reason, tokens, cost, 3 * tokens))
        else:
            kind, value, repeat = values
            counts.add_feedback(kind, value, repeat=repeat)
    return counts


def sum_of(counts: Counts, name: str) -> int:
    return counts.sums[SUMS.index(name)]


@settings(deadline=None)
@given(EVENTS, EVENTS, st.randoms(use_true_random=False))
def test_merged_parts_equal_the_whole_in_any_order(a, b, rng):
    whole = a + b
    rng.shuffle(whole)
    merged = counts_of(a)
    merged.merge(counts_of(b))
    assert merged == counts_of(whole)


@settings(deadline=None)
@given(EVENTS)
def test_counts_survive_json(events):
    counts = counts_of(events)
    assert Counts.from_json(orjson.loads(orjson.dumps(counts.to_json()))) == counts


def test_merging_does_not_tie_two_rows_together():
    part = counts_of([("feedback", "thumbs", 1.0, False)])
    row = Counts()
    row.merge(part)
    row.merge(part)
    assert part.feedback == {"thumbs": [1, 1_000_000, 0]}


def test_attempts_beyond_the_first_are_counted_by_their_reason():
    counts = Counts()
    for reason in REASONS:
        counts.add_attempt(**attempt(reason))
    assert [sum_of(counts, name) for name in ("attempts", "retries", "fallbacks", "hedges", "escalations")] == [
        5,
        1,
        1,
        1,
        1,
    ]


def test_a_shadow_attempt_is_no_attempt_but_its_tokens_and_cost_count():
    counts = Counts()
    counts.add_attempt(**attempt("shadow", tokens=10, cost=7))
    assert (sum_of(counts, "shadows"), sum_of(counts, "attempts")) == (1, 0)
    assert (sum_of(counts, "prompt_tokens"), sum_of(counts, "cost_nano_usd")) == (10, 7)


def test_of_shadows_those_count_as_ok_that_answered_in_time():
    counts = Counts()
    counts.add_attempt(**attempt("shadow"), beside=True)
    counts.add_attempt(**attempt("shadow"), beside=True, in_time=False)
    assert (sum_of(counts, "shadows"), sum_of(counts, "shadows_ok")) == (2, 1)


def test_the_judge_of_a_pair_is_no_part_of_a_cascade():
    counts = Counts()
    counts.add_attempt(**attempt("judge"), beside=True)
    counts.add_attempt(**attempt("judge"))
    assert (sum_of(counts, "attempts"), sum_of(counts, "escalations"), sum_of(counts, "shadows_ok")) == (2, 1, 0)


def test_sums_of_an_earlier_release_are_read():
    counts = Counts()
    counts.add_attempt(**attempt("shadow"))
    sums, *rest = counts.to_json()
    old = Counts.from_json([sums[: SUMS.index("shadows_ok")], *rest])
    old.merge(counts)
    assert (sum_of(old, "shadows"), sum_of(old, "shadows_ok")) == (2, 1)


def test_an_unknown_cost_is_counted_and_never_zero():
    counts = Counts()
    counts.add_attempt(**attempt(cost=None))
    counts.add_attempt(**attempt(cost=0))
    assert (sum_of(counts, "cost_unknown"), sum_of(counts, "cost_nano_usd")) == (1, 0)


def test_a_metric_window_says_what_was_counted():
    counts = counts_of(
        [
            ("result", None, 100),
            ("result", "rate_limited", 300),
            ("feedback", "thumbs", 1.0, False),
            ("feedback", "thumbs", 0.0, False),
            ("feedback", "thumbs", 0.5, True),
            ("feedback", "review", 0.5, True),
        ]
    )
    window = metric_window(DIMENSIONS, counts, start="2026-11-01T00:00:00Z", window_s=60, final=True)
    assert (window.requests, window.ok, window.errors) == (2, 1, {"rate_limited": 1})
    assert (window.tenant, window.stratum, window.final, window.window_s) == ("acme", "math/hard", True, 60)
    assert window.latency_ms.p50 == pytest.approx(100, rel=0.01)
    thumbs, review = window.feedback["thumbs"], window.feedback["review"]
    assert (thumbs.n, thumbs.mean, thumbs.repeats) == (2, 0.5, 1)
    assert (review.n, review.mean, review.repeats) == (0, None, 1)


def test_a_sum_beyond_64_bits_is_cut_rather_than_unwritable():
    counts = Counts()
    for _ in range(3):
        counts.add_attempt(**attempt(cost=2**63 - 1))
    orjson.dumps(counts.to_json())
    window = metric_window(DIMENSIONS, counts, start="", window_s=60, final=True)
    assert window.cost_nano_usd == MAX_SUM


def test_dimensions_beyond_the_room_share_tenant_other_then_stratum_other():
    admission = Admission(40)
    for number in range(36):
        assert admission.admit(0, DIMENSIONS._replace(tenant=f"t{number}")) == (
            DIMENSIONS._replace(tenant=f"t{number}"),
            True,
        )
    assert admission.admit(0, DIMENSIONS._replace(tenant="t36")) == (DIMENSIONS._replace(tenant=OTHER), True)
    assert admission.admit(0, DIMENSIONS._replace(tenant="t37")) == (DIMENSIONS._replace(tenant=OTHER), False)
    assert admission.admit(0, DIMENSIONS._replace(stratum="last")) == (
        DIMENSIONS._replace(tenant=OTHER, stratum="last"),
        True,
    )
    shared = DIMENSIONS._replace(tenant=OTHER, stratum=OTHER)
    assert admission.admit(0, DIMENSIONS._replace(stratum="new")) == (shared, True)
    assert admission.admit(0, DIMENSIONS._replace(stratum="newer")) == (shared, False)


def test_dimensions_already_there_keep_their_row_when_the_room_is_used_up():
    admission = Admission(20)
    for number in range(100):
        admission.admit(0, DIMENSIONS._replace(tenant=f"t{number}"))
    assert admission.admit(0, DIMENSIONS._replace(tenant="t3")) == (DIMENSIONS._replace(tenant="t3"), False)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 400)), max_size=2_000))
def test_rows_a_window_stay_within_the_bound(seen):
    admission = Admission(200)
    for window, tenant, stratum in seen:
        admission.admit(window, DIMENSIONS._replace(tenant=f"t{tenant}", stratum=f"s{stratum}"))
    assert all(len(rows) <= 200 for rows in admission.windows.values())


def test_a_closed_window_gives_its_room_back():
    admission = Admission(40, [(0, DIMENSIONS), (60, DIMENSIONS)])
    assert admission.close(60, 60) == [(0, DIMENSIONS)]
    assert list(admission.windows) == [60]
