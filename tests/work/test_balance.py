"""In the benchmark's worlds the choice of endpoints is better than what it replaced. Simulated time, fixed seeds."""

from __future__ import annotations

import pytest

from benchmarks.balance import WORLDS, LeastOfTwo, Ours, RoundRobin, run

CALLS = 3000


def of_all(world):
    return [run(WORLDS[world](), make(4, 7), CALLS, 7) for make in (RoundRobin, LeastOfTwo, Ours)]


@pytest.mark.parametrize("world", ["one takes 4 times as long", "one has 4 slots"])
def test_a_slow_or_small_server_makes_fewer_calls_slow(world):
    (robin_s, _), (least_s, _), (ours_s, _) = of_all(world)
    assert ours_s < least_s < robin_s


@pytest.mark.parametrize("world", ["one fails at once", "one fails half of its calls"])
def test_a_failing_server_spoils_fewer_calls(world):
    (_, robin), (_, least), (_, ours) = of_all(world)
    assert ours < robin / 4
    assert ours < least / 4


def test_where_all_are_alike_nothing_is_lost():
    (robin_s, _), _, (ours_s, failures) = of_all("four alike")
    assert ours_s < 1.1 * robin_s
    assert failures == 0
