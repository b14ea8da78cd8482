"""A pool with a budget on a real Kafka: what its requests cost, and that what was learned reaches its routers."""

import random

from benchmarks.system import PATIENCE_S, requests, wait_for

BUDGET_NANO_USD = 300_000
COUNT = 400


def of_pool(values, name):
    return [one for one in values if (one.get("router") or one)["pool"] == name]


def test_a_budget_is_kept_and_learning_goes_on(system):
    dice, spent, seen = random.Random(1), 0, 0
    for round_ in range(2):
        system.produce("requests", requests(COUNT // 2, f"paced-{round_}", model="paced", tenant="acme"))
        wanted = (round_ + 1) * COUNT // 2
        assert wait_for(lambda wanted=wanted: len(of_pool(system.values("results"), "paced")) >= wanted, PATIENCE_S)
        found = of_pool(system.values("results"), "paced")
        assert {one["error"] for one in found} == {None}
        spent = sum(one["router"]["cost_nano_usd"] for one in found)
        opinions = [
            {
                "feedback_token": one["router"]["feedback_token"],
                "kind": "review",
                "value": float(dice.random() < (0.95 if one["router"]["model"] == "large" else 0.4)),
                "source": "reviewer",
            }
            for one in found[seen:]
        ]
        seen = len(found)
        system.produce("feedback", opinions)
        assert wait_for(lambda: any(one["pool"] == "paced" for one in system.values("weights")), PATIENCE_S)

    decisions = of_pool(system.values("decisions"), "paced")
    dearest = max(one["expected_cost_nano_usd"] for each in decisions for one in each["candidates"])
    # Each of the four partitions keeps a ledger of its own, and may be one call of the dearest model behind.
    assert spent <= COUNT * BUDGET_NANO_USD + 4 * dearest
    assert {"small", "large"} == {one["model"] for one in decisions}
    assert any(one["policy_version"] != "squarecb:0" and one["features"]["quality"] for one in decisions)
    rewards = [one for one in system.values("rewards") if one["pool"] == "paced"]
    assert all(one["context"] for one in rewards)
    published = [one for one in system.values("weights") if one["pool"] == "paced"]
    assert all(set(one["regression"]["theta"]) == {"small", "large"} for one in published)
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
