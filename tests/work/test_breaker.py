"""The breaker alone, and who stands out beside others. Times are given by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.work.breaker import BASE_OPEN_S, FORGET_S, MAX_OPEN_S, Breaker
from router.work.outliers import HALF_LIFE_S, MIN_CALLS, SLOWER, Tally, stands_out


def opened(now_s=0.0):
    breaker = Breaker()
    breaker.open("why", now_s)
    return breaker


def test_each_failed_probe_lengthens_the_time_up_to_a_limit():
    breaker, now_s, waits = opened(), 0.0, []
    for _ in range(20):
        waits.append(breaker.open_s(now_s))
        now_s += waits[-1]
        assert breaker.begin()
        breaker.failed(now_s, probe=True)
        breaker.release()
    assert waits[:3] == [BASE_OPEN_S, 2 * BASE_OPEN_S, 3 * BASE_OPEN_S]
    assert waits == sorted(waits)
    assert waits[-1] == MAX_OPEN_S


def test_openings_are_forgotten_while_it_stays_closed():
    breaker, now_s = opened(), 0.0
    for _ in range(3):
        now_s += MAX_OPEN_S
        breaker.begin()
        breaker.failed(now_s, probe=True)
    now_s += MAX_OPEN_S
    breaker.begin()
    breaker.succeeded(now_s, probe=True)
    assert breaker.openings == 4
    breaker.open("again", now_s + 2 * FORGET_S)
    assert breaker.openings == 3
    assert breaker.open_s(now_s + 2 * FORGET_S) == 3 * BASE_OPEN_S


def test_calls_from_before_it_opened_neither_close_it_nor_lengthen_its_time():
    breaker = opened()
    breaker.succeeded(1.0, probe=False)
    breaker.failed(1.0, probe=False)
    assert (breaker.state(1.0), breaker.openings, breaker.open_s(0.0)) == ("open", 1, BASE_OPEN_S)


def test_nothing_is_free_while_a_probe_is_out():
    breaker = opened()
    assert breaker.free_at_s() == BASE_OPEN_S
    breaker.begin()
    assert breaker.free_at_s() == float("inf")
    breaker.release()
    assert breaker.free_at_s() == BASE_OPEN_S


def tally(calls=0, failed=0, latency_s=0.1):
    one = Tally(0.0)
    for number in range(calls):
        one.add(0.0, failed=number < failed, latency_s=latency_s)
    return one


def test_what_is_a_half_life_old_counts_half():
    one = tally(calls=40, failed=10)
    one.fade(HALF_LIFE_S)
    assert (one.calls, one.failure_rate, one.latency_s) == pytest.approx((20, 0.25, 0.1))
    one.fade(100 * HALF_LIFE_S)
    assert one.latency_s is None


@pytest.mark.parametrize(
    ("mine", "others", "outlier"),
    [
        (tally(100, 40), [tally(100, 2)], True),
        (tally(100, 40), [tally(100, 35), tally(100, 45)], False),  # all fail alike
        (tally(100, 100), [tally(100, 100)], False),
        (tally(100, 10), [tally(100, 0)], False),  # not by enough
        (tally(10, 10), [tally(100, 0)], False),  # hardly asked: failures in a row are for that
        (tally(100, 100), [tally(10, 0)], False),  # nobody to compare with
        (tally(25, 8), [tally(25, 4)], False),  # may be chance
        (tally(100, 0, 1.0), [tally(100, 0, 0.1), tally(100, 0, 0.12)], True),
        (tally(100, 0, 0.4), [tally(100, 0, 0.1)], False),
        (tally(100, 0, 0.1), [tally(100, 0, 1.0)], False),
        (tally(100, 0, 1.0), [], False),
    ],
)
def test_who_stands_out(mine, others, outlier):
    assert (stands_out(mine, others) is not None) is outlier


ENDPOINT = st.builds(tally, st.integers(0, 300), st.integers(0, 300), st.floats(0.01, 10))


@given(ENDPOINT, ENDPOINT)
def test_of_two_never_the_better_one_stands_out(mine, other):
    if stands_out(mine, [other]) is not None:
        assert min(mine.calls, other.calls) >= MIN_CALLS
        assert mine.failure_rate > other.failure_rate or mine.latency_s >= SLOWER * other.latency_s * 0.999
