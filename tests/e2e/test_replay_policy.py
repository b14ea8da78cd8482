"""What another policy would have been worth, asked of a running installation."""

import json

from benchmarks.system import requests, wait_for

COUNT = 120


def test_a_candidate_is_evaluated_from_the_log(system, tmp_path):
    system.produce("requests", requests(COUNT, "shaky", model="shaky", tenant="replayed"))
    system.produce("requests", requests(COUNT, "auto", tenant="replayed"))
    assert wait_for(
        lambda: sum(one["router"]["tenant"] == "replayed" for one in system.values("results")) >= 2 * COUNT, 90
    )
    done = system.run("replay", "--policy", "large", "--pool", "auto", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["decisions"] >= COUNT * 0.9
    assert found["unsupported"] == 0.0
    assert found["expected_cost_nano_usd"]["candidate"] >= found["expected_cost_nano_usd"]["logged"]

    file = tmp_path / "candidate.toml"
    file.write_text("[weights]\nlarge = 1.0\n")
    refused = system.run("replay", "--policy", str(file), "--pool", "shaky")
    assert refused.returncode == 1
    assert "could never have happened in this log" in refused.stderr

    told = system.run("replay", "--policy", "large", "--pool", "auto")
    assert "expected cost of a request" in told.stdout
    assert system.run("replay").returncode == 0
    suggested = system.run("strata", "suggest")
    assert suggested.returncode == 0, suggested.stderr
    assert "judgements" in suggested.stdout
