"""A rollout on a real Kafka: the pilot's share rises as reviews show what was declared, a person overrules it, and the journal says it all."""

from __future__ import annotations

import json

from benchmarks.system import PATIENCE_S, requests, wait_for

POOL = "climbing"


def results(system):
    return [one for one in system.values("results") if one["router"]["pool"] == POOL]


def send(system, name, count):
    before = len(results(system))
    system.produce("requests", requests(count, name, model=POOL))
    assert wait_for(lambda: len(results(system)) >= before + count, PATIENCE_S)
    return results(system)[before:]


def shares(system):
    """What the rollout has ordered, by scope."""
    return {
        one["scope"]: one["args"]["percent"]
        for one in system.values("control")
        if one.get("by") == "pointsman rollout" and one["active"]
    }


def test_a_pilot_climbs_on_what_reviews_say_until_a_person_ends_it(system):
    assert wait_for(lambda: shares(system).get(f"pool:{POOL}") == 40, 20)
    for round_ in range(3):
        found = send(system, f"climbing-{round_}", 600)
        opinions = [
            {"feedback_token": one["router"]["feedback_token"], "kind": "review", "value": 1.0, "source": "reviewer"}
            for one in found
        ]
        system.produce("feedback", opinions)
        if wait_for(lambda: 60 in shares(system).values(), 15):
            break
    assert 60 in shares(system).values()
    scope = next(scope for scope, share in shares(system).items() if share == 60)
    assert scope.startswith(f"stratum:{POOL}/")
    shown = system.run("journal", "--scope", scope)
    assert shown.returncode == 0
    assert "advance 40 -> 60 %" in shown.stdout
    assert "ok quality" in shown.stdout
    ended = system.run("rollout", f"pool:{POOL}", "0", "--by", "ann", "--reason", "a launch today")
    assert ended.returncode == 0, ended.stderr

    def after(name):
        return {one["router"]["model"] for one in send(system, name, 20)}

    rounds = iter(range(100))
    assert wait_for(lambda: after(f"climbing-after-{next(rounds)}") == {"large"}, PATIENCE_S)
    entries = json.loads(system.run("journal", "--scope", f"pool:{POOL}", "--json").stdout)["entries"]
    kinds = [(one["kind"], one["scope"], one["by"], one["reason"]) for one in entries]
    assert ("order", f"pool:{POOL}", "ann", "a launch today") in kinds
    assert any(kind == "overruled" and "by ann: a launch today" in reason for kind, _, _, reason in kinds)
    assert system.run("freeze", f"pool:{POOL}", "--by", "ann", "--reason", "look first").returncode == 0
    assert system.run("freeze", "tenant:acme", "--by", "ann", "--reason", "look first").returncode == 2
