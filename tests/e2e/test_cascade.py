"""A cascade on a real Kafka: doubtful answers escalate, a labelled sample calibrates it, and the plan says what it costs."""

import json

from benchmarks.system import PATIENCE_S, request, wait_for

COUNT = 240


def checked(values):
    return [one for one in values if (one.get("router") or one)["pool"] == "checked"]


def asked(name, count):
    return [request(f"{name}-{n}", model="checked", text=f"{name}: what is {n} and why?") for n in range(count)]


def test_a_cascade_escalates_is_labelled_and_calibrated(system, tmp_path):
    system.produce("requests", asked("first", COUNT))
    assert wait_for(lambda: len(checked(system.values("results"))) >= COUNT, PATIENCE_S)
    found = checked(system.values("results"))
    assert {one["error"] for one in found} == {None}
    attempts = [one["router"]["attempts"] for one in found]
    escalated = [each for each in attempts if len(each) > 1]
    assert 0.1 * COUNT < len(escalated) < 0.6 * COUNT
    for one in escalated:
        assert [(each["model"], each["reason"]) for each in one] == [("unsure", "routed"), ("large", "escalate")]
        assert one[0]["confidence"] < 0.5
    assert all(each[0]["confidence"] >= 0.5 for each in attempts if len(each) == 1)
    for one in found:
        assert one["router"]["cost_nano_usd"] == sum(each["cost_nano_usd"] for each in one["router"]["attempts"])
        assert all(choice["logprobs"] is None for choice in one["response"]["body"]["choices"])

    file = tmp_path / "labels.jsonl"
    drawn = system.run("cascade", "sample", "--pool", "checked", "--most", "1000", "--out", str(file))
    assert drawn.returncode == 0, drawn.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == COUNT
    assert all(line["prompt"][0]["content"].startswith("first: ") and line["answer"] for line in lines)
    assert all("unsure" not in json.dumps(line) for line in lines)
    truth = {
        one["request_id"]: one["body"]["sim"]["good"]
        for one in system.values("outcomes")
        if one["model"] == "unsure" and one["body"]
    }
    file.write_text("".join(json.dumps(line | {"value": float(truth[line["request_id"]])}) + "\n" for line in lines))
    assert system.run("feedback", str(file)).returncode == 0

    def calibrated():
        known = [one for one in system.values("weights") if one["pool"] == "checked" and one["cascade"]]
        strata = {one["stratum"]: one["cascade"] for one in known}
        return (
            strata
            if sum(each["labels"] for one in strata.values() for each in one["served"].values()) >= COUNT
            else None
        )

    assert wait_for(calibrated, PATIENCE_S)
    strata = calibrated()
    assert any(one["calibrated"] for one in strata.values())
    for one in strata.values():
        assert set(one["served"]) == {"unsure-2026-11"}

    told = system.run("cascade", "plan", "--pool", "checked")
    assert told.returncode == 0, told.stderr
    assert "unsure answers first, large where that is not sure enough" in told.stdout
    assert "labels" in told.stdout
    assert "of cascades" in system.run("status").stdout
    plan = json.loads(system.run("cascade", "plan", "--pool", "checked", "--json").stdout)
    for one in plan["strata"]:
        costs = one["cost_nano_usd"]
        assert costs["unsure"] < costs["cascade"] < costs["unsure"] + costs["large"]
    nothing = system.run("cascade", "sample", "--pool", "checked")
    assert (nothing.returncode, nothing.stdout) == (0, "")

    system.produce("requests", asked("second", 40))
    assert wait_for(lambda: len(checked(system.values("results"))) >= COUNT + 40, PATIENCE_S)
    decisions = [one for one in checked(system.values("decisions")) if one["attempt"] == 1 and one["cascade"]]
    held = {one["stratum"]: one["cascade"]["threshold"] for one in decisions}
    assert held == {stratum: strata[stratum]["threshold"] for stratum in held}

    chosen = next(one for one in found if len(one["router"]["attempts"]) > 1)
    explained = system.run("explain", chosen["id"]).stdout
    assert (
        "cascade: its answer goes out at a confidence of 0.5 or more (as configured), else large is asked" in explained
    )
    assert "attempt 2 -> large (escalate)" in explained
    assert system.run("replay").returncode == 0
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())


def test_a_judge_is_given_the_request_and_the_answer(system):
    """The simulated judge says no number, so every request goes on."""
    system.produce("requests", [request(f"judged-{n}", model="judged", text=f"judge {n}") for n in range(40)])
    wanted = [one["custom_id"] for one in asked("judged", 40)]

    def found():
        return [one for one in system.values("results") if one["custom_id"] in wanted]

    assert wait_for(lambda: len(found()) >= 40, PATIENCE_S)
    for one in found():
        steps = [(each["attempt"], each["model"], each["reason"]) for each in one["router"]["attempts"]]
        assert steps == [(1, "small", "routed"), (2, "arbiter", "judge"), (3, "large", "escalate")]
        assert one["router"]["cost_nano_usd"] == sum(each["cost_nano_usd"] for each in one["router"]["attempts"])
    works = [one for one in system.values("work.arbiter") if one["model"] == "arbiter"]
    for work in works[-40:]:
        text = work["body"]["messages"][1]["content"]
        assert "judge " in text
        assert "The simulated model answers" in text
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
