"""core/window: which window a record counts in, and when a lane announces."""

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.window import AHEAD_MS, Marks, closed_by_all, start_of

SIZE, GRACE = 60_000, 10_000
NOW = 1_000 * SIZE


def marks(**values) -> Marks:
    return Marks(size_ms=SIZE, grace_ms=GRACE, **values)


def test_a_record_counts_in_the_window_of_its_own_time():
    assert marks().window(NOW + 59_999, NOW + 60_000) == NOW
    assert marks().window(NOW + 60_000, NOW + 60_000) == NOW + SIZE


def test_a_window_is_open_until_all_that_was_there_grace_after_its_end_has_been_read():
    lane = marks()
    lane.read_to(NOW + SIZE + GRACE - 1)
    assert lane.window(NOW + 1, NOW + 80_000) == NOW
    lane.read_to(NOW + SIZE + GRACE)
    assert lane.window(NOW + 1, NOW + 80_000) == NOW + SIZE


def test_the_mark_never_moves_back_when_the_clock_does():
    lane = marks()
    lane.read_to(NOW + 10 * SIZE)
    lane.read_to(NOW)
    assert lane.mark_ms == NOW + 9 * SIZE


def test_a_record_from_the_future_does_not_hold_a_window_open_for_ever():
    assert marks().window(NOW * 100, NOW) == NOW + AHEAD_MS


def test_silence_announces_nothing():
    lane = marks()
    lane.read_to(NOW)
    assert lane.due([], heard_ms=0) is None


def test_a_counted_window_is_announced_once_the_mark_has_passed_it_and_once_only():
    lane = marks()
    lane.read_to(NOW + SIZE)
    assert lane.due([NOW], heard_ms=0) is None
    lane.read_to(NOW + SIZE + GRACE)
    assert lane.due([NOW], heard_ms=0) == NOW + SIZE
    lane.announce(NOW + SIZE)
    assert lane.due([], heard_ms=NOW + SIZE) is None


def test_an_announcement_is_answered_but_no_further_than_it_went():
    lane = marks()
    lane.read_to(NOW + 5 * SIZE)
    assert lane.due([], heard_ms=NOW) == NOW


def test_an_answer_waits_until_the_lane_itself_has_read_as_far():
    lane = marks()
    lane.read_to(NOW)
    assert lane.due([], heard_ms=NOW + SIZE) == NOW - SIZE
    lane.announce(NOW - SIZE)
    assert lane.due([], heard_ms=NOW + SIZE) is None
    lane.read_to(NOW + SIZE + GRACE)
    assert lane.due([], heard_ms=NOW + SIZE) == NOW + SIZE


def test_nothing_is_closed_while_one_lane_is_silent():
    assert closed_by_all({0: NOW, 1: NOW}, 3) == 0
    assert closed_by_all({0: NOW, 1: NOW, 2: SIZE}, 3) == SIZE


@settings(deadline=None)
@given(
    st.integers(1, 10**7),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30),
)
def test_no_record_ever_counts_in_a_window_that_was_announced(size, grace, steps):
    lane = Marks(size_ms=size, grace_ms=grace)
    counted: set[int] = set()
    for read_to, at in steps:
        lane.read_to(read_to)
        start = lane.window(at, read_to)
        assert start % size == 0
        assert start + size > lane.announced_ms
        assert start == max(start_of(min(at, read_to + AHEAD_MS), size), lane.mark_ms)
        counted.add(start)
        if (to_ms := lane.due(counted, heard_ms=0)) is not None:
            lane.announce(to_ms)
            counted = {start for start in counted if start + size > to_ms}
