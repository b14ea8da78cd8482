"""Balancing, cooling, limits. The clock is stepped by hand."""

from collections import Counter
from random import Random

import pytest

from router.work.endpoints import Bucket, Endpoints, Place


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def endpoints(clock, *names, **limits):
    return Endpoints([Place(name=name, base_url="http://x", **limits) for name in names], clock, Random(7))


def test_calls_that_last_spread_evenly(clock):
    chosen = Counter()
    many = endpoints(clock, *"abcde")
    for _ in range(500):
        endpoint = many.pick()
        endpoint.begin(0, clock())
        chosen[endpoint.place.name] += 1
    assert max(chosen.values()) - min(chosen.values()) <= 6


def test_of_two_the_less_busy_one_is_chosen(clock):
    both = endpoints(clock, "a", "b")
    both.all[0].begin(0, clock())
    assert {both.pick().place.name for _ in range(50)} == {"b"}


def test_ties_go_to_either(clock):
    both = endpoints(clock, "a", "b")
    assert {both.pick().place.name for _ in range(50)} == {"a", "b"}


def test_nothing_goes_to_a_cooling_endpoint(clock):
    both = endpoints(clock, "a", "b")
    both.all[0].cool(5000, clock())
    assert {both.pick().place.name for _ in range(50)} == {"b"}
    assert both.free_in_s() == 0


def test_when_all_cool_none_is_free_until_the_first_has_waited(clock):
    both = endpoints(clock, "a", "b")
    both.all[0].cool(5000, clock())
    both.all[1].cool(3000, clock())
    assert both.pick() is None
    assert both.free_in_s() == pytest.approx(3.0)
    clock.now_s += 3
    assert both.pick().place.name == "b"


def test_a_shorter_wait_never_ends_a_longer_one(clock):
    one = endpoints(clock, "a")
    one.all[0].cool(5000, clock())
    one.all[0].cool(1000, clock())
    assert one.free_in_s() == pytest.approx(5.0)


def test_a_429_that_names_no_wait_cools_longer_each_time(clock):
    one = endpoints(clock, "a")
    waits = []
    for _ in range(7):
        waits.append(one.all[0].cool(None, clock()))
        clock.now_s += waits[-1]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    one.all[0].succeeded()
    assert one.all[0].cool(None, clock()) == pytest.approx(1)


def test_an_endpoint_that_fails_fast_does_not_draw_the_traffic(clock):
    both = endpoints(clock, "a", "b")
    both.all[1].begin(0, clock())
    both.all[0].failed(clock())
    assert {both.pick().place.name for _ in range(50)} == {"b"}


def test_a_resting_endpoint_is_asked_when_no_other_is_free(clock):
    one = endpoints(clock, "a")
    for _ in range(100):
        one.all[0].failed(clock())
    assert one.pick().place.name == "a"


def test_requests_per_minute_are_kept(clock):
    one = endpoints(clock, "a", requests_per_minute=60)
    made = 0
    for _ in range(6000):  # a minute
        while (endpoint := one.pick()) is not None:
            endpoint.begin(0, clock())
            endpoint.end()
            made += 1
        clock.now_s += 0.01
    assert 60 <= made <= 60 + 10


def test_tokens_per_minute_are_kept_also_when_a_call_took_more_than_guessed(clock):
    one = endpoints(clock, "a", tokens_per_minute=600)
    endpoint = one.pick()
    endpoint.begin(10, clock())
    endpoint.spend(290, clock())
    assert one.pick() is None
    assert one.free_in_s() == pytest.approx((300 - 100 + 1) / 10)


def test_a_bucket_never_holds_more_than_its_burst():
    bucket = Bucket(60, 0.0)
    bucket.take(11, 1e6)
    assert bucket.free_at_s() == pytest.approx(1e6 + 2)


def test_a_place_does_not_show_its_key():
    assert "sk-1" not in repr(Place(name="a", base_url="http://x", key="sk-1"))
