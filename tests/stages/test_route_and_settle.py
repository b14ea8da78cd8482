"""Route, workers that answer by plan, and settle on one in-memory log: one result a request, whatever happens."""

import pytest

from router.config import loads
from router.contract.ids import request_id
from tests.stages.system import System

CONFIG = loads(
    """
    [route]
    max_inflight = 50
    [models.small]
    input_usd_per_mtok = 0.1
    output_usd_per_mtok = 0.4
    [models.large]
    input_usd_per_mtok = 2
    output_usd_per_mtok = 8
    [pools.auto]
    models = ["small", "large"]
    policy = "fixed"
    weights = { small = 0.5, large = 0.5 }
    """
)


@pytest.fixture
def system():
    return System(CONFIG)


def test_every_request_gets_one_result(system):
    for number in range(200):
        system.ask(f"r-{number}", key=str(number).encode(), lane="batch" if number % 3 else "interactive")
    system.log.run()
    for _ in range(20):
        system.log.advance(500)
    found = system.results()
    assert len(found) == 200
    assert {one.error for one in found.values()} == {None}
    assert {one.router.model for one in found.values()} == {"small", "large"}
    assert set(system.calls.values()) == {1}


def test_duplicates_in_both_lanes_under_other_keys_with_other_bodies_get_one_result(system):
    for key, lane, changed in [
        (b"a", "interactive", {}),
        (b"b", "batch", {}),
        (b"c", "interactive", {"router": {"priority": 1}}),
        (b"d", "batch", {"router": {"deadline_ms": 0}}),
    ]:
        system.ask("r-1", key=key, lane=lane, **changed)
    system.log.run()
    system.log.advance(1_000)
    system.ask("r-1", key=b"e")
    system.log.run()
    assert len(system.results()) == 1


def test_a_failing_model_is_retried_then_left(system):
    system.answers["small"] = "error"
    for number in range(40):
        system.ask(f"r-{number}", key=str(number).encode())
    system.log.run()
    for _ in range(40):
        system.log.advance(250)
    found = system.results()
    assert len(found) == 40
    assert {(one.error, one.router.model) for one in found.values()} == {(None, "large")}
    reasons = {tuple(attempt.reason for attempt in one.router.attempts) for one in found.values()}
    assert reasons == {("routed",), ("routed", "retry", "fallback")}


def test_when_every_model_fails_the_result_says_so(system):
    system.answers |= {"small": "error", "large": "error"}
    system.ask("r-1")
    system.log.run()
    for _ in range(60):
        system.log.advance(250)
    assert system.results()["r-1"].error.code == "provider_error"


def test_without_workers_the_deadline_ends_the_request(system):
    system.answers |= {"small": "silence", "large": "silence"}
    system.ask("r-1", router={"deadline_ms": 2_000})
    system.log.run()
    system.log.advance(1_999)
    assert system.results() == {}
    system.log.advance(2)
    assert system.results()["r-1"].error.code == "deadline_exceeded"


def test_restarts_of_route_and_settle_at_any_point_lose_and_double_nothing(system):
    system.answers["small"] = "error"
    for number in range(60):
        system.ask(f"r-{number}", key=str(number).encode())
        if number % 7 == 0:
            system.log.run()
            system.log.restart(system.stages[number % len(system.stages)])
    for _ in range(60):
        system.log.advance(250)
        system.log.restart(system.stages[0])
    assert len(system.results()) == 60


def test_refusals_are_results(system):
    system.ask("gone", body={"model": "nobody", "messages": [{"role": "user", "content": "x"}]})
    system.ask("empty", body={"messages": []})
    system.log.run()
    found = system.results()
    assert {name: one.error.code for name, one in found.items()} == {
        "gone": "model_not_found",
        "empty": "invalid_request",
    }
    assert found["gone"].id == request_id("default", "gone")
    assert found["gone"].router.attempts == []
