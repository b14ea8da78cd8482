"""Shadow answers, their judge and people's reviews on a real Kafka."""

import json
from collections import Counter

from benchmarks.system import PATIENCE_S, request, wait_for
from router.contract.ids import request_id

COUNT = 80


def of_pool(values, name):
    """Of this file's requests: others ask the same pools."""
    ours = {request_id("default", f"{name}-{n}") for n in range(COUNT)}
    return [one for one in values if (one["id"] if "router" in one else one["request_id"]) in ours]


def asked(pool, count):
    return [request(f"{pool}-{n}", model=pool, text=f"what is {n}?") for n in range(count)]


def test_the_baseline_answers_in_the_shadow_and_a_judge_compares(system):
    system.produce("requests", asked("doubled", COUNT))
    assert wait_for(lambda: len(of_pool(system.values("results"), "doubled")) >= COUNT, PATIENCE_S)
    found = of_pool(system.values("results"), "doubled")
    assert {(one["error"], one["router"]["model"]) for one in found} == {(None, "small")}
    assert {len(one["router"]["attempts"]) for one in found} == {1}
    first = [one for one in of_pool(system.values("decisions"), "doubled") if one["attempt"] == 1]
    drawn = {one["request_id"] for one in first if one["sample"] is not None}
    names = {one["custom_id"] for one in asked("doubled", COUNT)}
    mine = {one["id"] for one in found if one["custom_id"] in names}  # others ask this pool, too
    chances = {
        one["sample"]["shadow"] for one in first if one["sample"] is not None
    }  # half of them, or what the guard wants to see more of
    assert (min(chances) - 0.25) * COUNT < len(drawn & mine) < (max(chances) + 0.25) * COUNT

    def mirrored():
        """Those that were sent: on a busy machine settle may have fallen behind for a moment."""
        found = of_pool(system.values("decisions"), "doubled")
        return sorted(one["request_id"] for one in found if one["reason"] == "shadow")

    def compared():
        return sorted(one["request_id"] for one in of_pool(system.values("pairs"), "doubled"))

    assert wait_for(lambda: mirrored() and compared() == mirrored(), PATIENCE_S)
    sent = mirrored()
    assert len(sent) == len(set(sent))
    assert set(sent) <= drawn
    pairs = of_pool(system.values("pairs"), "doubled")
    for pair in pairs:
        assert (pair["model"], pair["reference_model"], pair["judge"]) == ("small", "large", "umpire")
        assert pair["inclusion"] in chances
        assert pair["verdict"] == (1.0 if pair["swapped"] else -1.0)  # the umpire likes what it sees first
    assert {one["verdict"] for one in pairs} == {1.0, -1.0}

    beside = of_pool(system.values("usage"), "doubled")
    found = Counter((one["model"], one["reason"]) for one in beside if one["cohort"] == "shadow")
    assert found == {("large", "shadow"): len(sent), ("umpire", "judge"): len(sent)}
    told = system.run("review", "rates", "--pool", "doubled")
    assert told.returncode == 0, told.stderr
    assert "worse than the baseline's answer, as a judge found them" in told.stdout
    chosen = sent[0]
    explained = system.run("explain", chosen).stdout
    assert "attempt 101 -> large (shadow)" in explained
    assert "compares it with its shadow" in explained
    assert system.run("replay").returncode == 0


def test_people_look_at_answers_in_the_terminal_and_by_files(system, tmp_path):
    system.produce("requests", asked("looked", 12))
    assert wait_for(lambda: len(of_pool(system.values("reviews"), "looked")) >= 12, PATIENCE_S)
    items = of_pool(system.values("reviews"), "looked")
    assert {one["inclusion_probability"] for one in items} == {1.0}
    assert {(one["prompt"], one["answer"]) for one in items} == {(None, None)}

    seen = system.run("review", "--pool", "looked", input="s\nc\nrather thin\nb\ng\nq\n")
    assert seen.returncode == 0, seen.stderr
    assert "user: what is " in seen.stdout
    assert "The simulated model answers" in seen.stdout
    assert "2 opinions sent, 10 answers wait" in seen.stdout

    def judged():
        return [one for one in of_pool(system.values("rewards"), "looked") if one["kind"] == "review"]

    assert wait_for(lambda: len(judged()) == 2, PATIENCE_S)
    assert sorted(one["reward"] for one in judged()) == [0.0, 1.0]
    file = tmp_path / "answers.jsonl"
    drawn = system.run("review", "export", str(file), "--pool", "looked")
    assert drawn.returncode == 0, drawn.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 10
    assert set(lines[0]) == {"id", "pool", "stratum", "due_at", "prompt", "answer", "value", "comment"}
    assert "small" not in file.read_text()
    assert "large" not in file.read_text()
    file.write_text("".join(json.dumps(line | {"value": 1.0}) + "\n" for line in lines[:9]) + json.dumps(lines[9]))
    sent = system.run("review", "import", str(file))
    assert (sent.returncode, sent.stderr) == (0, "9 sent, 1 without a value passed over\n")
    assert wait_for(lambda: len(judged()) == 11, PATIENCE_S)

    found = json.loads(system.run("review", "rates", "--pool", "looked", "--json").stdout)
    assert sum(one["bad"]["n"] for one in found["strata"]) == 11
    assert {one["model"] for one in found["strata"]} == {one["model"] for one in judged()}
    for one in found["strata"]:
        assert 0.0 <= one["bad"]["low"] <= one["bad"]["value"] <= one["bad"]["high"] <= 1.0
    first, second = (system.run("review", "--pool", "looked", "--shard", part, input="q\n") for part in ("1/2", "2/2"))
    assert sorted(("1 answers wait" in one.stdout) for one in (first, second)) == [False, True]
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
