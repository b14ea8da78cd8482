"""Balancing, cooling, limits. The clock is stepped by hand."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.work.breaker import BASE_OPEN_S, RAMP_FROM, RAMP_S
from router.work.endpoints import FAILURES, Bucket, Endpoints, Place, weights


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
    one.all[0].succeeded(0.1, clock())
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


def test_an_endpoint_takes_as_many_calls_at_once_as_it_may(clock):
    one = endpoints(clock, "a", concurrency=2)
    for _ in range(2):
        one.pick().begin(0, clock())
    assert one.pick() is None
    assert one.free_in_s() > 0
    one.all[0].end()
    assert one.pick().place.name == "a"


def test_calls_that_last_spread_by_weight(clock):
    places = [Place(name="a", base_url="http://x", weight=3.0), Place(name="b", base_url="http://x", weight=1.0)]
    both = Endpoints(places, clock, Random(7))
    for _ in range(400):
        both.pick().begin(0, clock())
    assert [endpoint.outstanding for endpoint in both.all] == pytest.approx([300, 100], abs=2)


def test_weights_follow_the_tightest_limit_and_a_given_weight_is_the_last_word():
    places = [
        Place(name="a", base_url="", requests_per_minute=600, tokens_per_minute=1000),
        Place(name="b", base_url="", requests_per_minute=300, tokens_per_minute=100),
        Place(name="c", base_url=""),
        Place(name="d", base_url="", requests_per_minute=6, weight=2.0),
    ]
    assert weights(places) == pytest.approx([1.0, 0.1, 1.0, 2.0])


def test_a_429_halves_the_share_once_for_all_calls_under_way_and_answers_give_it_back(clock):
    one = endpoints(clock, "a").all[0]
    for _ in range(5):
        one.cool(1000, clock())
    assert one.weight(clock()) == pytest.approx(0.5)
    for _ in range(25):
        one.succeeded(0.1, clock())
    assert one.weight(clock()) == pytest.approx(1.0)


def test_a_slow_endpoint_gets_less_and_is_asked_again_when_nothing_is_heard_of_it(clock):
    both = endpoints(clock, "fast", "slow")
    for _ in range(15):
        both.all[0].succeeded(0.1, clock())
        both.all[1].succeeded(0.4, clock())
    for _ in range(120):
        both.pick().begin(0, clock())
    fast, slow = (endpoint.outstanding for endpoint in both.all)
    assert slow > 0
    assert fast > 2 * slow
    for endpoint in both.all:
        endpoint.outstanding = 0
    clock.now_s += 600
    assert {both.pick().place.name for _ in range(50)} == {"fast", "slow"}


def fail(many, endpoint, clock, times=FAILURES):
    for _ in range(times):
        endpoint.failed(clock())
        many.judge(endpoint)


def test_failures_in_a_row_open_and_a_probe_closes_again_with_a_ramp(clock):
    both = endpoints(clock, "a", "b")
    bad = both.all[0]
    fail(both, bad, clock, FAILURES - 1)
    assert both.state()["a"]["state"] == "closed"
    fail(both, bad, clock, 1)
    said = both.state()["a"]
    assert (said["state"], said["reason"], said["open_s"]) == ("open", "5 failures in a row", BASE_OPEN_S)
    assert {both.pick().place.name for _ in range(50)} == {"b"}
    clock.now_s += BASE_OPEN_S
    assert both.state()["a"]["state"] == "half_open"
    assert both.pick() is bad
    assert bad.begin(0, clock())
    assert {both.pick().place.name for _ in range(50)} == {"b"}  # one probe at a time
    bad.succeeded(0.1, clock(), probe=True)
    bad.end(probe=True)
    assert both.state()["a"]["state"] == "closed"
    assert bad.weight(clock()) == pytest.approx(RAMP_FROM)
    clock.now_s += RAMP_S / 2
    assert bad.weight(clock()) == pytest.approx(0.5)
    clock.now_s += RAMP_S
    assert bad.weight(clock()) == pytest.approx(1.0)


def test_a_probe_that_says_nothing_leaves_its_place_to_the_next(clock):
    both = endpoints(clock, "a", "b")
    fail(both, both.all[0], clock)
    clock.now_s += BASE_OPEN_S
    for _ in range(3):
        assert both.pick() is both.all[0]
        both.all[0].begin(0, clock())
        both.all[0].end(probe=True)
    assert both.state()["a"]["state"] == "half_open"


def test_of_two_that_fail_one_stays_to_be_asked(clock):
    both = endpoints(clock, "a", "b")
    for endpoint in both.all:
        fail(both, endpoint, clock, 50)
    assert [said["state"] for said in both.state().values()] == ["open", "closed"]
    assert both.pick() is both.all[1]


def test_an_endpoint_that_fails_every_third_call_is_an_outlier_beside_one_that_does_not(clock):
    both = endpoints(clock, "a", "b")
    for number in range(120):
        both.all[1].succeeded(0.1, clock())
        if number % 3:
            both.all[0].succeeded(0.1, clock())
        else:
            both.all[0].failed(clock())
        both.judge(both.all[0])
    assert both.state()["a"]["state"] == "open"
    assert "of calls fail, 0% elsewhere" in both.state()["a"]["reason"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "wait"]), st.sampled_from(["ok", "slow", "fail", "nothing"]), st.floats(0.0, 20.0)
    ),
    max_size=150,
)


@given(st.integers(1, 6), STEPS, st.integers(0, 2**32))
def test_never_more_than_half_are_open_one_probe_each_and_somebody_is_always_asked(count, steps, seed):
    clock = Clock()
    many = Endpoints([Place(name=str(n), base_url="http://x") for n in range(count)], clock, Random(seed))
    running = []
    for step, what, wait_s in steps:
        chosen = many.pick()
        assert chosen is not None
        assert many.free_in_s() == 0
        if step == "call":
            running.append((chosen, chosen.begin(0, clock())))
        else:
            clock.now_s += wait_s
            if running:
                endpoint, probe = running.pop(seed % len(running))
                if what in {"ok", "slow"}:
                    endpoint.succeeded(0.1 if what == "ok" else 9.0, clock(), probe=probe)
                elif what == "fail":
                    endpoint.failed(clock(), probe=probe)
                endpoint.end(probe=probe)
                many.judge(endpoint)
        assert 2 * sum(not endpoint.breaker.closed for endpoint in many.all) <= count
        for endpoint in many.all:
            assert sum(probe for one, probe in running if one is endpoint) <= 1


@settings(max_examples=30)
@given(st.integers(2, 5), st.integers(0, 2**32))
def test_whoever_recovers_is_asked_again(count, seed):
    clock = Clock()
    many = Endpoints([Place(name=str(n), base_url="http://x") for n in range(count)], clock, Random(seed))
    for endpoint in many.all:
        fail(many, endpoint, clock, 20)
    asked = Counter()
    for step in range(200):
        clock.now_s += 3.0 if step < 100 else 0.1
        endpoint = many.pick()
        probe = endpoint.begin(0, clock())
        endpoint.succeeded(0.1, clock(), probe=probe)
        endpoint.end(probe=probe)
        many.judge(endpoint)
        asked[endpoint.place.name] += step >= 100
    assert all(endpoint.breaker.closed for endpoint in many.all)
    assert min(asked[str(n)] for n in range(count)) > 100 / count / 3


def test_a_bucket_never_holds_more_than_its_burst():
    bucket = Bucket(60, 0.0)
    bucket.take(11, 1e6)
    assert bucket.free_at_s() == pytest.approx(1e6 + 2)


def test_a_place_does_not_show_its_key():
    assert "sk-1" not in repr(Place(name="a", base_url="http://x", key="sk-1"))
