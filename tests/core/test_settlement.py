"""The state machine of one request, row by row of its table."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.records import ErrorInfo, Origin, Outcome, OutcomeError
from router.core.attempts import Charge
from router.core.backoff import Policy
from router.core.cascade import Trial
from router.core.row_format import row_from_bytes, row_to_bytes
from router.core.settlement import Row, conclude, decide, give_up, pass_time
from router.core.slip import Slip

POLICY = Policy(4, frozenset({"small", "mid"}))
AT_MS, DEADLINE_MS = 1_000_000, 1_060_000
NOW_MS = AT_MS + 1_000

FIRST = Slip(
    request_id="1462af60e975e034dad89dbdd8b130e1",
    attempt=1,
    model="small",
    reason="routed",
    origin=Origin(topic="llm.requests", partition=3, offset=7),
    at_ms=AT_MS,
    deadline_at_ms=DEADLINE_MS,
    key=b"\xffkey",
    tenant="acme",
    custom_id="r-1",
    metadata={"any": "thing"},
    lane="interactive",
    pool="auto",
    stratum="math/hard",
    cohort="pilot",
    propensity=0.93,
    policy_version="thompson:1287",
    first_model="small",
    baseline="mid",
)
SECOND = replace(FIRST, attempt=2, model="mid", reason="fallback")
REFUSED = replace(FIRST, attempt=0, model=None, reason=None)
FOREIGN = replace(FIRST, origin=Origin(topic="llm.requests.batch", partition=0, offset=1), model="mid")
NO_MODEL = ErrorInfo(code="no_model_available", message="no model is left")


def outcome(slip, status="ok", code="http_503", **more):
    error = None if status == "ok" else OutcomeError(code=code)
    return Outcome(
        request_id=slip.request_id,
        attempt=slip.attempt,
        model=slip.model,
        status=status,
        slip="",
        body={"choices": []} if status == "ok" else None,
        error=error,
        **more,
    )


def concluded(row, slip, status="ok", *, at_ms=NOW_MS, code="http_503"):
    return conclude(row, slip, outcome(slip, status, code), Charge(5), at_ms=at_ms, now_ms=NOW_MS, policy=POLICY)


def opened(*slips):
    row = Row(slip=slips[0])
    for slip in slips:
        row = decide(row, slip, None).row
    return row


def test_decision_opens_an_attempt():
    step = decide(Row(slip=FIRST), FIRST, None)
    assert [(each.number, each.model, each.status) for each in step.row.tries] == [(1, "small", None)]
    assert step.verdict is None


def test_same_decision_again_changes_nothing():
    row = opened(FIRST)
    assert decide(row, FIRST, None).row == row
    ended = concluded(row, FIRST, "error").row
    assert decide(ended, FIRST, None).row == ended


def test_refusal_settles_with_its_error():
    step = decide(Row(slip=REFUSED), REFUSED, NO_MODEL)
    assert step.verdict.error == NO_MODEL


def test_outcome_settles_without_its_decision():
    step = concluded(Row(slip=FIRST), FIRST)
    assert step.verdict.body == {"choices": []}
    assert step.verdict.answered_by.model == "small"


def test_late_outcome_changes_nothing_but_what_is_priced():
    row = opened(FIRST)
    step = concluded(row, FIRST, at_ms=DEADLINE_MS)
    assert step.verdict is None
    assert step.row == replace(row, priced=frozenset({(1, "small")}))
    assert concluded(row, FIRST, at_ms=DEADLINE_MS - 1).verdict.error is None


def test_other_origin_changes_nothing_but_what_is_priced():
    row = opened(FIRST)
    assert decide(row, FOREIGN, None).row == row
    assert decide(row, replace(FOREIGN, attempt=0, model=None), NO_MODEL).row == row
    step = concluded(row, FOREIGN)
    assert step.verdict is None
    assert step.row == replace(row, priced=frozenset({(1, "mid")}))


def test_attempt_ends_once():
    row = concluded(opened(FIRST), FIRST, "error").row
    assert concluded(row, FIRST).row == row


def test_failure_is_tried_again_when_the_backoff_is_over_and_only_once():
    row = concluded(opened(FIRST), FIRST, "error").row
    due_ms = row.due_at_ms
    assert NOW_MS < due_ms < NOW_MS + 1_000
    assert pass_time(row, now_ms=due_ms - 1, read_to_ms=due_ms - 1).order is None
    step = pass_time(row, now_ms=due_ms, read_to_ms=due_ms)
    assert (step.order.attempt, step.order.reason, step.order.prefer) == (2, "retry", "small")
    assert (step.order.origin, step.order.first.model, step.order.last_error) == (
        FIRST.origin,
        "small",
        "provider_error",
    )
    assert step.row.due_at_ms == DEADLINE_MS
    assert pass_time(step.row, now_ms=due_ms + 1, read_to_ms=due_ms + 1).order is None


def test_answer_to_an_order_clears_it():
    row = concluded(opened(FIRST), FIRST, "error").row
    assert decide(row, SECOND, None).row.pending is None
    assert concluded(row, SECOND, "error").row.pending.number == 3


def test_refusal_after_failures_is_what_the_failures_amount_to():
    row = concluded(opened(FIRST), FIRST, "error").row
    error = decide(row, REFUSED, NO_MODEL).verdict.error
    assert error.code == "provider_error"
    assert "1 small error (http_503)" in error.message


@pytest.mark.parametrize("code", ["deadline_exceeded", "internal_error"])
def test_refusal_after_failures_keeps_what_says_more(code):
    row = concluded(opened(FIRST), FIRST, "error").row
    assert decide(row, REFUSED, ErrorInfo(code=code, message="m")).verdict.error.code == code


def test_refusal_after_a_ban_is_no_failure_of_the_provider():
    row = concluded(opened(FIRST), FIRST, "error", code="banned").row
    assert decide(row, REFUSED, NO_MODEL).verdict.error.code == "no_model_available"


def test_refusal_waits_for_an_open_attempt():
    row = decide(opened(FIRST, SECOND), REFUSED, NO_MODEL).row
    assert concluded(row, SECOND).verdict.error is None
    row = concluded(row, SECOND, "error").row
    assert row.pending is None
    assert concluded(row, FIRST, "error").verdict.error.code == "provider_error"


def test_failure_waits_for_another_open_attempt():
    step = concluded(opened(FIRST, SECOND), FIRST, "error")
    assert step.row.pending is None
    assert step.verdict is None
    assert concluded(step.row, SECOND, "error").row.pending.number == 3


def test_content_refused_settles_at_once():
    step = concluded(opened(FIRST, SECOND), FIRST, "refused", code="content_filter")
    assert step.verdict.error.code == "content_refused"


def test_deadline_fires_when_everything_before_it_has_been_read():
    row = opened(FIRST)
    assert pass_time(row, now_ms=DEADLINE_MS + 120_000, read_to_ms=DEADLINE_MS - 1).verdict is None
    error = pass_time(row, now_ms=DEADLINE_MS, read_to_ms=DEADLINE_MS).verdict.error
    assert error.code == "deadline_exceeded"
    assert "1 small open" in error.message


def test_shadow_attempt_has_no_part_in_the_result():
    shadow = replace(FIRST, attempt=101, reason="shadow")
    row = opened(FIRST)
    assert decide(row, shadow, None).row == row
    assert concluded(row, shadow).row == replace(row, priced=frozenset({(101, "small")}))


def test_request_that_cannot_be_handled_ends_with_internal_error():
    assert give_up(opened(FIRST)).verdict.error.code == "internal_error"


def test_row_comes_back_from_its_bytes():
    rows = [Row(slip=FIRST, headers=(("traceparent", b"\xff00-1"),)), opened(FIRST, SECOND)]
    rows.append(concluded(opened(FIRST), FIRST, "rate_limited").row)
    rows.append(decide(opened(FIRST), REFUSED, NO_MODEL).row)
    rows.append(pass_time(rows[2], now_ms=NOW_MS, read_to_ms=NOW_MS).row)
    assert rows[-1].pending.sent
    assert [row_from_bytes(row_to_bytes(row)) for row in rows] == rows


ON_TRIAL = replace(FIRST, trial=Trial("mid", 0.6))
BETTER = replace(FIRST, attempt=2, model="mid", reason="escalate")
DOUBTFUL = {"choices": [{"text": "perhaps"}]}


def doubted(confidence=0.4, *, slip=ON_TRIAL, row=None, now_ms=NOW_MS, **more):
    found = replace(outcome(slip, confidence=confidence), body=DOUBTFUL)
    row = opened(slip) if row is None else row
    return conclude(row, slip, found, Charge(5), at_ms=NOW_MS, now_ms=now_ms, policy=POLICY, **more)


def test_an_answer_that_is_sure_enough_is_the_result():
    step = doubted(0.6)
    assert (step.verdict.answered_by.model, step.verdict.answered_by.confidence) == ("small", 0.6)


@pytest.mark.parametrize("confidence", [0.59, 0.0, None])
def test_one_that_is_not_is_held_and_a_better_model_is_asked(confidence):
    step = doubted(confidence)
    assert step.verdict is None
    order = pass_time(step.row, now_ms=NOW_MS, read_to_ms=NOW_MS).order
    assert (order.attempt, order.reason, order.prefer, order.exclude) == (2, "escalate", "mid", ("small",))
    better = concluded(step.row, BETTER)
    assert (better.verdict.answered_by.model, better.verdict.body) == ("mid", {"choices": []})
    assert [(each.model, each.status, each.charge.cost_nano_usd) for each in better.row.tries] == [
        ("small", "ok", 5),
        ("mid", "ok", 5),
    ]


def test_the_held_answer_survives_a_restart():
    row = doubted().row
    assert row_from_bytes(row_to_bytes(row)) == row
    assert row.held is not None


def given_out(step):
    return step.verdict.answered_by.model, step.verdict.body, step.verdict.error


@pytest.mark.parametrize("code", ["invalid_request", "content_filter"])
def test_whatever_ends_the_request_without_a_better_answer_gives_out_the_doubtful_one(code):
    row = decide(doubted().row, BETTER, None).row
    wanted = ("small", DOUBTFUL, None)
    status = "refused" if code == "content_filter" else "error"
    assert given_out(concluded(row, BETTER, status, code=code)) == wanted
    assert given_out(pass_time(row, now_ms=DEADLINE_MS, read_to_ms=DEADLINE_MS)) == wanted
    refused = decide(doubted().row, REFUSED, NO_MODEL)
    assert given_out(refused) == wanted
    assert given_out(doubted(row=decide(opened(ON_TRIAL), REFUSED, NO_MODEL).row)) == wanted


def test_a_better_model_that_fails_is_asked_again_and_never_the_first_one():
    row = concluded(doubted().row, BETTER, "error").row
    assert (row.pending.again.reason, row.pending.again.prefer) == ("retry", "mid")
    assert "small" in row.pending.again.exclude
    third = replace(BETTER, attempt=3, reason="retry")
    assert given_out(concluded(row, third, "error")) == ("small", DOUBTFUL, None)


def test_a_record_that_ends_the_process_gives_nothing_out():
    assert give_up(doubted().row).verdict.error.code == "internal_error"


def test_an_answer_too_long_to_be_held_goes_out_at_once():
    assert given_out(doubted(room=5)) == ("small", DOUBTFUL, None)


def test_an_empty_answer_is_held_like_any_other():
    found = replace(outcome(ON_TRIAL, confidence=0.1), body={})
    row = conclude(opened(ON_TRIAL), ON_TRIAL, found, Charge(5), at_ms=NOW_MS, now_ms=NOW_MS, policy=POLICY).row
    assert row_from_bytes(row_to_bytes(row)) == row
    assert given_out(pass_time(row, now_ms=DEADLINE_MS, read_to_ms=DEADLINE_MS)) == ("small", {}, None)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_whatever_the_answer_it_is_held_as_it_is(body):
    found = replace(outcome(ON_TRIAL, confidence=0.1), body=body)
    row = conclude(opened(ON_TRIAL), ON_TRIAL, found, Charge(5), at_ms=NOW_MS, now_ms=NOW_MS, policy=POLICY).row
    again = row_from_bytes(row_to_bytes(row))
    assert again == row
    assert pass_time(again, now_ms=DEADLINE_MS, read_to_ms=DEADLINE_MS).verdict.body == body


def test_a_row_of_the_release_before_is_read():
    values = orjson.loads(row_to_bytes(opened(FIRST)))
    slip = values[0][:-2]  # no trial, no session
    old = [slip, [[1, "small", "routed"]], [2, ["retry", 5, "small", []], 7, False], *values[3:6]]
    row = row_from_bytes(orjson.dumps(old))
    assert (row.held, row.slip, row.pending.again.answer) == (None, FIRST, None)


def test_escalations_and_judges_come_on_top_of_max_attempts():
    once = Policy(1, frozenset({"small", "mid"}))
    row = doubted().row
    failed = conclude(row, BETTER, outcome(BETTER, "error"), Charge(5), at_ms=NOW_MS, now_ms=NOW_MS, policy=once)
    assert given_out(failed) == ("small", DOUBTFUL, None)
    twice = Policy(2, frozenset({"small", "mid"}))
    again = conclude(row, BETTER, outcome(BETTER, "error"), Charge(5), at_ms=NOW_MS, now_ms=NOW_MS, policy=twice)
    assert again.row.pending.again.reason == "retry"


def test_what_is_only_observed_is_given_out():
    step = doubted(0.1, slip=replace(FIRST, trial=Trial("mid", None, 0.5)))
    assert given_out(step)[0] == "small"


def test_a_late_or_foreign_answer_is_not_on_trial():
    late = conclude(
        opened(ON_TRIAL),
        ON_TRIAL,
        outcome(ON_TRIAL, confidence=0.1),
        Charge(5),
        at_ms=DEADLINE_MS,
        now_ms=DEADLINE_MS,
        policy=POLICY,
    )
    assert (late.verdict, late.row.held, late.row.pending) == (None, None, None)
    assert doubted(now_ms=DEADLINE_MS).verdict.answered_by.model == "small"


TO_JUDGE = replace(FIRST, trial=Trial("mid", 0.6, 0.0, "arbiter"))
JUDGE = replace(FIRST, attempt=2, model="arbiter", reason="judge")
PLACE = Origin(topic="llm.outcomes", partition=1, offset=5)


def judged(said, *, status="ok", row=None, code="http_503"):
    row = doubted(1.0, slip=TO_JUDGE, place=PLACE).row if row is None else row
    found = replace(
        outcome(JUDGE, status, code), body={"choices": [{"message": {"content": said}}]} if status == "ok" else None
    )
    return conclude(row, JUDGE, found, Charge(2), at_ms=NOW_MS, now_ms=NOW_MS, policy=POLICY)


def test_a_judge_is_asked_about_an_answer_that_no_check_fails():
    step = doubted(1.0, slip=TO_JUDGE, place=PLACE)
    order = pass_time(step.row, now_ms=NOW_MS, read_to_ms=NOW_MS).order
    assert (order.attempt, order.reason, order.prefer, order.answer) == (2, "judge", "arbiter", PLACE)
    assert row_from_bytes(row_to_bytes(step.row)) == step.row
    failed = doubted(0.0, slip=TO_JUDGE, place=PLACE)
    assert failed.row.pending.again.reason == "escalate"
    assert given_out(doubted(1.0, slip=TO_JUDGE, place=PLACE, room=5)) == ("small", DOUBTFUL, None)


def test_what_the_judge_likes_goes_out_and_its_call_is_paid():
    step = judged("9")
    assert given_out(step) == ("small", DOUBTFUL, None)
    assert step.verdict.answered_by.confidence == 0.9
    assert [(each.model, each.reason, each.charge.cost_nano_usd) for each in step.row.tries] == [
        ("small", "routed", 5),
        ("arbiter", "judge", 2),
    ]


@pytest.mark.parametrize("step", [judged("3"), judged("What a fine answer!"), judged("", status="error"), judged("", status="refused", code="content_filter")])  # fmt: skip
def test_what_it_dislikes_or_cannot_judge_goes_on(step):
    assert (step.verdict, step.row.pending.number) == (None, 3)
    again = step.row.pending.again
    assert (again.reason, again.prefer, again.exclude) == ("escalate", "mid", ("small",))
    better = concluded(step.row, replace(BETTER, attempt=3))
    assert better.verdict.answered_by.model == "mid"


def test_where_no_judge_can_be_asked_a_better_model_is():
    row = doubted(1.0, slip=TO_JUDGE, place=PLACE).row
    step = decide(row, REFUSED, NO_MODEL)
    assert (step.verdict, step.row.refusal, step.row.pending.again.reason) == (None, None, "escalate")
    then = decide(step.row, REFUSED, NO_MODEL)
    assert given_out(then) == ("small", DOUBTFUL, None)


def test_a_judge_that_says_nothing_until_the_deadline_holds_nobody_up():
    row = decide(doubted(1.0, slip=TO_JUDGE, place=PLACE).row, JUDGE, None).row
    assert given_out(pass_time(row, now_ms=DEADLINE_MS, read_to_ms=DEADLINE_MS)) == ("small", DOUBTFUL, None)


def test_a_judge_may_be_the_better_model_itself():
    slip = replace(TO_JUDGE, trial=Trial("mid", 0.6, 0.0, "mid"))
    row = doubted(1.0, slip=slip, place=PLACE).row
    judge = replace(JUDGE, model="mid")
    found = replace(outcome(judge), body={"choices": [{"message": {"content": "2"}}]})
    step = conclude(row, judge, found, Charge(2), at_ms=NOW_MS, now_ms=NOW_MS, policy=POLICY)
    assert (step.row.pending.again.prefer, step.row.pending.again.exclude) == ("mid", ("small",))
    failed = concluded(step.row, replace(BETTER, attempt=3), "error").row
    assert failed.pending.again.reason == "retry"


def test_what_is_only_observed_is_judged_and_goes_out_whatever_the_judge_says():
    slip = replace(TO_JUDGE, trial=Trial("mid", None, 0.5, "arbiter"))
    row = doubted(1.0, slip=slip, place=PLACE).row
    step = judged("0", row=row)
    assert given_out(step) == ("small", DOUBTFUL, None)
    assert step.verdict.answered_by.confidence == 0.0
    unsampled = replace(TO_JUDGE, trial=Trial("mid", None, 0.0, "arbiter"))
    assert given_out(doubted(1.0, slip=unsampled, place=PLACE)) == ("small", DOUBTFUL, None)


def test_what_the_cheap_model_refuses_is_asked_of_the_better_one():
    step = concluded(opened(ON_TRIAL), ON_TRIAL, "refused", code="content_filter")
    assert (step.verdict, step.row.pending.again.reason, step.row.pending.again.prefer) == (None, "escalate", "mid")
    assert row_from_bytes(row_to_bytes(step.row)) == step.row
    assert concluded(step.row, BETTER).verdict.answered_by.model == "mid"
    twice = concluded(step.row, BETTER, "refused", code="content_filter")
    assert twice.verdict.error.code == "content_refused"
    observed = replace(FIRST, trial=Trial("mid", None))
    alone = concluded(opened(observed), observed, "refused", code="content_filter")
    assert alone.verdict.error.code == "content_refused"
