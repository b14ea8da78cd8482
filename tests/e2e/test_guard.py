"""The guard on a real Kafka: a stratum whose answers are bad is given back by an order that routers obey, and comes back when it is released."""

from __future__ import annotations

import random

from benchmarks.system import requests, wait_for

POOL = "guarded"
BAD = {"small": 0.7, "large": 0.05}


def results(system):
    return [one for one in system.values("results") if one["router"]["pool"] == POOL]


def send(system, name, count):
    before = len(results(system))
    system.produce("requests", requests(count, name, model=POOL, tenant="acme"))
    assert wait_for(lambda: len(results(system)) >= before + count, 60)
    return results(system)[before:]


def test_a_bad_stratum_is_given_back_and_released(system):
    dice = random.Random(4)
    for round_ in range(4):
        found = send(system, f"guarded-{round_}", 200)
        opinions = [
            {
                "feedback_token": one["router"]["feedback_token"],
                "kind": "review",
                "value": float(dice.random() >= BAD[one["router"]["model"]]),
                "source": "reviewer",
            }
            for one in found
        ]
        system.produce("feedback", opinions)
        if wait_for(lambda: any(one["pool"] == POOL for one in system.values("alerts")), 5):
            break
    assert wait_for(lambda: any(one["pool"] == POOL for one in system.values("alerts")), 30)
    alert = next(one for one in system.values("alerts") if one["pool"] == POOL)
    assert (alert["state"], alert["severity"]) == ("open", "page")
    assert alert["effect"]["low"] > 0.1
    assert alert["reference"]["n"] > 10
    assert wait_for(lambda: [one for one in system.values("control") if one.get("by") == "pointsman guard"], 10)
    order = next(one for one in system.values("control") if one.get("by") == "pointsman guard")
    assert order["scope"].startswith(f"stratum:{POOL}/")

    def after(name):
        return {one["router"]["model"] for one in send(system, name, 30)}

    shown = system.run("alerts").stdout
    assert f"page: {POOL}/{alert['stratum']}" in shown
    assert "undo       pointsman release" in shown
    assert system.run("alerts", "ack", alert["id"][:8], "--by", "ann", "--reason", "on it").returncode == 0
    assert wait_for(
        lambda: any(one["id"] == alert["id"] and one["state"] == "acknowledged" for one in system.values("alerts")), 20
    )
    assert wait_for(lambda: after(f"guarded-after-{dice.random()}") == {"large"}, 20)
    system.run("release", order["scope"], "rollback", "--by", "ann", "--reason", "mended")
    assert wait_for(
        lambda: any(one["id"] == alert["id"] and one["state"] == "closed" for one in system.values("alerts")), 90
    )
    assert wait_for(lambda: "small" in after(f"guarded-again-{dice.random()}"), 20)
