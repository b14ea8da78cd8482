"""core/backlog: what is open by model, whether anything is answered, how long the next one waits; and core/rerouting."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from router.contract.records import ErrorInfo
from router.core.attempts import Try
from router.core.backlog import STALE_MS, TELL_EVERY_MS, Backlog, Backlogs, Queue
from router.core.backoff import Policy
from router.core.rerouting import reroute
from router.core.settlement import Row, pass_time
from tests.core.test_settlement import FIRST

T0 = 1_750_000_000_000
POOL = Policy(3, frozenset({"small", "mid", "large"}))


def try_of(number, model="small", status=None, reason="routed"):
    return Try(number=number, model=model, reason=reason, status=status)


def row_of(*tries, lane="interactive"):
    return Row(slip=replace(FIRST, lane=lane, at_ms=T0, deadline_at_ms=T0 + 60_000), tries=tries)


def lane(partition=0, **changed):
    told = {"at_ms": T0, "read_to_ms": T0, "interactive": 1, "batch": 0, "oldest_ms": T0, "answered_ms": 0}
    told["oldest_interactive_ms"] = changed.get("oldest_ms", T0)
    return Backlog(partition=partition, **(told | changed))


def test_what_exceeds_a_share_is_counted_apart_and_is_no_queue_of_the_others():
    backlogs = Backlogs()
    for number, behind in enumerate((True, False, True)):
        row = replace(row_of(try_of(1)), slip=replace(FIRST, behind=behind))
        backlogs.changed(bytes([number] * 16), None, row, T0 + number)
    found = backlogs.tell(0, T0 + 9, T0 + 9)["small"]
    assert (found.interactive, found.behind, found.oldest_interactive_ms, found.oldest_behind_ms) == (1, 2, T0 + 1, T0)
    assert Backlog.from_json(found.to_json()) == found
    assert backlogs.waiting("small") == [bytes([number] * 16) for number in (1, 0, 2)]
    queue = Queue({0: found})
    assert queue.open(T0 + 9) == 3
    assert queue.wait_ms(T0 + 9, ended=30, seconds=30, call_ms=0.0) == 1000.0


def test_an_earlier_release_reads_what_is_told_where_nothing_went_behind():
    assert "behind" not in lane().to_json()


def test_counts_are_those_of_the_rows_whatever_happened():
    chance, backlogs, rows, now = random.Random(1), Backlogs(), {}, T0
    for _ in range(3_000):
        id16 = bytes([chance.randrange(40)] * 16)
        now += 1
        statuses = chance.choices((None, "ok", "error"), k=chance.randrange(4))
        tries = tuple(try_of(n, chance.choice(("small", "large")), status) for n, status in enumerate(statuses, 1))
        of_lane = rows[id16].slip.lane if id16 in rows else chance.choice(("interactive", "batch"))
        new = row_of(*tries, lane=of_lane) if tries else None
        backlogs.changed(id16, rows.pop(id16, None), new, now)
        if new is not None:
            rows[id16] = new
    told = backlogs.tell(0, now, now)
    for model in ("small", "large"):
        for name in ("interactive", "batch"):
            open_ones = [
                id16
                for id16, row in rows.items()
                for each in row.tries
                if each.model == model and each.status is None and row.slip.lane == name
            ]
            assert getattr(told[model], name) == len(open_ones)
            waiting = [id16 for id16 in backlogs.waiting(model) if rows[id16].slip.lane == name]
            assert sorted(waiting) == sorted(open_ones)


def test_interactive_ones_are_first_and_then_the_oldest():
    backlogs = Backlogs()
    for number, of_lane in enumerate(("batch", "interactive", "batch", "interactive")):
        backlogs.changed(bytes([number] * 16), None, row_of(try_of(1), lane=of_lane), T0 + number)
    assert [id16[0] for id16 in backlogs.waiting("small")] == [1, 3, 0, 2]


def test_a_model_is_told_of_once_a_second_and_once_more_when_nothing_is_open():
    backlogs, row = Backlogs(), row_of(try_of(1))
    backlogs.changed(b"a" * 16, None, row, T0)
    assert backlogs.tell(3, T0, T0 - 5)["small"] == lane(3, read_to_ms=T0 - 5)
    assert backlogs.tell(3, T0 + TELL_EVERY_MS - 1, T0) == {}
    backlogs.changed(b"a" * 16, row, None, T0 + 1)
    backlogs.answered("small", T0 + 1)
    last = backlogs.tell(3, T0 + TELL_EVERY_MS, T0 + TELL_EVERY_MS)["small"]
    assert (last.interactive, last.oldest_ms, last.answered_ms) == (0, 0, T0 + 1)
    assert backlogs.tell(3, T0 + 2 * TELL_EVERY_MS, T0) == {}


def test_after_a_start_waiting_counts_from_the_first_word_on():
    backlogs = Backlogs()
    backlogs.changed(b"a" * 16, None, row_of(try_of(1)), 0)
    assert backlogs.tell(0, T0, T0)["small"].oldest_ms == T0
    assert backlogs.tell(0, T0 + 5_000, T0)["small"].oldest_ms == T0


def test_silence_is_broken_by_an_answer_in_any_partition():
    queue = Queue()
    queue.take(lane(0, at_ms=T0 + 9_000, read_to_ms=T0 + 9_000))
    assert queue.silent_ms(T0 + 9_000) == 9_000
    queue.take(lane(1, at_ms=T0 + 9_000, oldest_ms=0, interactive=0, answered_ms=T0 + 8_000))
    assert queue.silent_ms(T0 + 9_000) == 1_000


def test_what_settle_has_not_read_is_no_silence_and_what_it_no_longer_says_is_not_heard():
    queue = Queue()
    queue.take(lane(0, at_ms=T0 + 60_000, read_to_ms=T0 + 500))
    assert queue.silent_ms(T0 + 60_000) == 500
    assert queue.silent_ms(T0 + 60_000 + STALE_MS + 1) == 0


def test_the_wait_follows_from_what_is_open_and_the_rate_less_chance():
    queue = Queue()
    queue.take(lane(0, interactive=400))
    queue.take(lane(1, interactive=500, batch=1_000_000))
    assert queue.wait_ms(T0, ended=1_000, seconds=10, call_ms=400.0) == pytest.approx(
        1_000 * (900 - 40 - 2 * 40**0.5) / 100
    )
    assert queue.wait_ms(T0, ended=0, seconds=10, call_ms=400.0) == 0.0


def test_calls_in_hand_are_taken_for_a_queue_in_few_moments_and_then_for_a_short_one():
    """Slots for all: what is in hand varies by chance alone."""
    chance = random.Random(1)
    for mean in (1, 5, 50):
        waits = []
        for _ in range(2_000):
            in_hand = sum(chance.random() < mean / 1_000 for _ in range(1_000))
            queue = Queue({0: lane(0, interactive=in_hand)})
            waits.append(queue.wait_ms(T0, ended=10 * mean, seconds=10, call_ms=1_000.0))
        assert sum(wait > 0 for wait in waits) < 0.06 * len(waits)
        assert sum(waits) / len(waits) < 60


def test_what_is_no_backlog_is_refused():
    value = lane().to_json()
    assert Backlog.from_json(value) == lane()
    for wrong in (value | {"batch": "1"}, value | {"batch": True}, {}, "text"):
        with pytest.raises(TypeError):
            Backlog.from_json(wrong)


def test_a_request_that_waits_for_a_silent_model_is_sent_elsewhere_once():
    row = row_of(try_of(1))
    step = reroute(row, {"small"}, now_ms=T0, policy=POOL)
    order = pass_time(step.row, now_ms=T0, read_to_ms=-1).order
    assert (order.attempt, order.reason, order.prefer, order.exclude) == (2, "fallback", None, ("small",))
    assert step.verdict is None
    assert reroute(step.row, {"small"}, now_ms=T0, policy=POOL).row is step.row


def test_no_model_is_asked_twice_so_it_ends():
    row, asked = row_of(try_of(1)), ["small"]
    while (step := reroute(row, POOL.models, now_ms=T0, policy=POOL)).row is not row:
        row = step.row
    assert asked == ["small"], "all are silent: nobody is asked"
    for model in ("mid", "large"):
        step = reroute(row, set(asked), now_ms=T0, policy=POOL)
        assert step.row.pending.again.exclude == tuple(sorted(asked))
        asked.append(model)
        row = replace(step.row, pending=None, tries=(*row.tries, try_of(len(asked), model)))
    assert reroute(row, set(asked), now_ms=T0, policy=POOL).row is row


@pytest.mark.parametrize(
    ("row", "policy"),
    [
        (row_of(try_of(1, status="error")), POOL),
        (row_of(try_of(1), try_of(2, "large")), POOL),
        (row_of(try_of(1)), Policy(4)),
        (replace(row_of(try_of(1)), refusal=ErrorInfo(code="rate_limited", message="")), POOL),
        (row_of(try_of(1, "large", "ok"), try_of(2, reason="judge")), POOL),
    ],
    ids=["nothing is open", "another is asked", "names its model", "turned down", "a judge"],
)
def test_it_stays_where(row, policy):
    assert reroute(row, {"small"}, now_ms=T0, policy=policy).row is row


def test_not_after_the_deadline():
    row = row_of(try_of(1))
    assert reroute(row, {"small"}, now_ms=row.slip.deadline_at_ms, policy=POOL).row is row
