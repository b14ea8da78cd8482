"""Limits of tenants on a real Kafka, with two processes that route, one of which is killed: the limit is one, and the money exact."""

from collections import Counter

import pytest

from benchmarks.system import PATIENCE_S, requests, wait_for
from router.up import SECRET_FILE, says_ready
from router.web.registry import running

LIMIT, BUDGET_NANO_USD = 60, 2_000_000


@pytest.fixture
def second(system, monkeypatch):
    """A second process that routes, beside that of ``up``; it has partitions of its own once it is ready."""
    monkeypatch.setitem(system.env, "POINTSMAN_SECURITY__SECRET_FILE", str(system.data_dir / SECRET_FILE))
    with system.spawn("run", "route", "--broker", system.bootstrap) as process:
        assert wait_for(
            lambda: any(one.pid == process.pid and says_ready(one) for one in running(system.data_dir)), PATIENCE_S
        )
        yield process
        process.kill()


def of(system, tenant):
    return [one for one in system.values("results") if one["router"]["tenant"] == tenant]


def test_limits_are_one_for_all_processes_also_when_one_is_killed(system, second):
    for round_ in range(3):
        for tenant in ("metered", "thrifty"):
            system.produce("requests", requests(100, f"{tenant}-{round_}", model="small", tenant=tenant))
        if round_ == 1:
            second.kill()
        wanted = 100 * (round_ + 1)
        assert wait_for(
            lambda wanted=wanted: all(len(of(system, one)) >= wanted for one in ("metered", "thrifty")), PATIENCE_S
        )

    metered, thrifty = of(system, "metered"), of(system, "thrifty")
    assert {(one["error"] or {"code": "ok"})["code"] for one in metered} == {"ok", "rate_limited"}
    decisions = [one for one in system.values("decisions") if one["attempt"]]
    minutes = Counter(one["at"][:16] for one in decisions if one["tenant"] == "metered")
    assert sum(minutes.values()) == sum(one["error"] is None for one in metered)
    assert max(minutes.values()) <= LIMIT

    assert {(one["error"] or {"code": "ok"})["code"] for one in thrifty} == {"ok", "budget_exceeded"}
    spent = sum(one["router"]["cost_nano_usd"] for one in thrifty)
    assert 0 < spent <= BUDGET_NANO_USD

    def used():
        states = [one for one in system.values("tenants") if one["tenant"] == "thrifty"]
        return states[-1]["limits"][0]["used"] if states else None

    assert wait_for(lambda: used() == spent, 20), (used(), spent)
    alerts = [one for one in system.values("alerts") if one["evidence"].get("tenant") == "thrifty"]
    assert {one["signal"] for one in alerts} == {"budget_day", "budget_day_spent"}
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
