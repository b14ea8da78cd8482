"""The budget of further attempts."""

from hypothesis import given
from hypothesis import strategies as st

from router.core.further import WINDOW_S, Further

T0 = 1_760_000_000_000


def test_a_share_of_what_was_asked_in_the_last_seconds_and_a_few():
    budget = Further(0.2, 2)
    assert [budget.take(T0) for _ in range(3)] == [True, True, False]
    for n in range(100):
        budget.first(T0 + n * 10)
    assert sum(budget.take(T0 + 1000) for _ in range(100)) == 20
    assert not budget.take(T0 + (WINDOW_S - 1) * 1000)
    later = T0 + (WINDOW_S + 1) * 1000
    assert [budget.take(later) for _ in range(3)] == [True, True, False], "what is old is forgotten on both sides"


@given(
    st.floats(0, 1),
    st.floats(0, 5),
    st.lists(st.tuples(st.integers(0, 4_000), st.booleans()), max_size=200),
)
def test_within_any_window_of_whole_seconds_no_more_is_taken_than_allowed(share, least, events):
    budget, now_ms, log = Further(share, least), T0, []
    for wait_ms, is_first in events:
        now_ms += wait_ms
        if is_first:
            budget.first(now_ms)
            log.append((now_ms // 1000, 1, 0))
        elif budget.take(now_ms):
            log.append((now_ms // 1000, 0, 1))
        window = [entry for entry in log if entry[0] > now_ms // 1000 - WINDOW_S]
        taken = sum(more for _, _, more in window)
        # Firsts grow old sooner than what was taken on them only if they came sooner.
        before = [entry for entry in log if entry[0] > now_ms // 1000 - 2 * WINDOW_S]
        assert taken <= share * sum(first for _, first, _ in before) + least


def test_a_clock_that_is_set_back_takes_nothing_away():
    budget = Further(0.5, 0)
    budget.first(T0 + 5_000)
    budget.first(T0)
    assert budget.take(T0)
    assert not budget.take(T0 + 5_000)


def test_memory_is_bounded():
    budget = Further(0.2, 1)
    for n in range(100_000):
        budget.first(T0 + n * 100)
    assert len(budget._seconds) <= WINDOW_S
