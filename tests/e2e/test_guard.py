"""The guard on a real Kafka: a stratum, or a slice that is none, whose answers are bad is given back by an order that routers obey, and comes back when it is released."""

from __future__ import annotations

import random
import re

from benchmarks.system import PATIENCE_S, request, requests, wait_for

POOL = "guarded"
BAD = {"small": 0.7, "large": 0.05}


def results(system):
    return [one for one in system.values("results") if one["router"]["pool"] == POOL]


def send(system, name, count):
    before = len(results(system))
    system.produce("requests", requests(count, name, model=POOL, tenant="acme"))
    assert wait_for(lambda: len(results(system)) >= before + count, PATIENCE_S)
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
    assert wait_for(lambda: any(one["pool"] == POOL for one in system.values("alerts")), PATIENCE_S)
    alert = next(one for one in system.values("alerts") if one["pool"] == POOL)
    assert (alert["state"], alert["severity"]) == ("open", "page")
    assert alert["effect"]["low"] > 0.1
    assert alert["reference"]["n"] > 10
    assert wait_for(lambda: [one for one in system.values("control") if one.get("by") == "pointsman guard"], PATIENCE_S)
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


#: In each of two strata, code and math, one half of the requests.
CODE = "```python\ndef f(x):\n    return x\n```\n"
LATIN = (CODE + "Why does it fail?", "What is 12 + 7 * 3 - 5?")
CYRILLIC = (CODE + "Почему функция всё время падает на этой строке?", "Сколько будет 12 + 7 * 3 - 5?")
FENCE = "stratum:sliced/slice/language=cyrillic"


def test_a_bad_language_is_given_back_in_all_strata_and_nothing_else_is(system):
    dice = random.Random(5)

    def answers(name, texts, count):
        sent = [
            request(f"{name}-{number}", model="sliced", text=texts[number % len(texts)], tenant="acme")
            for number in range(count)
        ]
        system.produce("requests", sent)
        mine = {one["custom_id"] for one in sent}

        def found():
            return {one["custom_id"]: one for one in system.values("results") if one["custom_id"] in mine}

        assert wait_for(lambda: len(found()) == count, PATIENCE_S)
        return list(found().values())

    def opinion(one, bad):
        value = float(dice.random() >= bad)
        token = one["router"]["feedback_token"]
        return {"feedback_token": token, "kind": "review", "value": value, "source": "reviewer"}

    def ordered():
        return [one for one in system.values("control") if one["scope"].startswith("stratum:sliced/")]

    for round_ in range(6):
        fine, poor = answers(f"latin-{round_}", LATIN, 160), answers(f"cyrillic-{round_}", CYRILLIC, 160)
        said = [opinion(one, 0.05) for one in fine]
        said += [opinion(one, 0.7 if one["router"]["model"] == "small" else 0.05) for one in poor]
        system.produce("feedback", said)
        if wait_for(ordered, 5):
            break
    assert wait_for(ordered, PATIENCE_S)
    assert [(one["scope"], one["action"], one["by"]) for one in ordered()] == [(FENCE, "rollback", "pointsman guard")]
    assert {one["router"]["stratum"] for one in poor} == {one["router"]["stratum"] for one in fine}

    def models(name, texts):
        return {one["router"]["model"] for one in answers(f"sliced-{name}-{dice.random()}", texts, 40)}

    assert wait_for(lambda: models("after", CYRILLIC) == {"large"}, 20)
    shown = system.run("rollback", "pool:sliced", "--by", "ann", "--reason", "all of it?", "--dry-run").stdout
    assert re.search(
        r"of the [\d,]+ requests of the last hour [\d,]+ would go elsewhere\n +[\d,]+  small -> large\n", shown
    )
    assert models("beside", LATIN) == {"small", "large"}
    system.run("release", FENCE, "rollback", "--by", "ann", "--reason", "mended")
    assert wait_for(lambda: "small" in models("again", CYRILLIC), 20)
