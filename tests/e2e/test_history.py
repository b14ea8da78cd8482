"""From a running installation into the archive, through a kill, to a report whose sums are those of the audit."""

import json
import signal

import pyarrow.dataset as ds

from benchmarks.system import requests, wait_for

COUNT = 120


def rows(folder, kind):
    return ds.dataset(str(folder / kind), format="parquet").to_table().to_pylist()


def test_what_was_spent_is_in_the_archive_once_to_the_nano_dollar(system, tmp_path):
    system.produce("requests", requests(COUNT, "auto", tenant="archived"))
    system.produce("requests", requests(COUNT, "shaky", model="shaky", tenant='a/b"<i>', session="s"))
    system.produce("requests", requests(20, "direct", model="small", tenant="archived"))
    wanted = 2 * COUNT + 20
    mine = {"archived", 'a/b"<i>'}
    assert wait_for(lambda: sum(one["router"]["tenant"] in mine for one in system.values("results")) >= wanted, 90)
    tokens = [
        one["router"]["feedback_token"]
        for one in system.values("results")
        if one["router"]["tenant"] == "archived" and one["router"]["pool"] == "auto"
    ]
    system.produce(
        "feedback", [{"feedback_token": one, "kind": "review", "value": 1.0, "source": "reviewer"} for one in tokens]
    )
    assert wait_for(
        lambda: sum(one["pool"] == "auto" and one["kind"] == "review" for one in system.values("rewards")) >= COUNT, 60
    )
    audited = system.audit()
    assert (audited.problems, audited.unchecked) == ((), ())

    folder = tmp_path / "archive"
    first = system.spawn("archive", "--out", str(folder))
    assert wait_for(lambda: any(folder.rglob("*.parquet")) or first.poll() is not None, 60, every_s=0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = system.run("archive", "--out", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    again = system.run("archive", "--out", str(folder))
    assert again.returncode == 0, again.stderr
    assert "nothing new" in again.stdout

    for kind, topic in (
        ("decisions", "decisions"),
        ("attempts", "usage"),
        ("results", "results"),
        ("rewards", "rewards"),
    ):
        here = sorted((row["partition"], row["offset"]) for row in rows(folder, kind))
        assert here == sorted((record.partition, record.offset) for record in system.records(topic))
    assert sum(row["cost_nano_usd"] for row in rows(folder, "attempts")) == audited.figures["cost_nano_usd"]

    page = tmp_path / "report.html"
    told = system.run("report", "--archive", str(folder), "--html", str(page), "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    windows = [one for one in system.values("metrics") if one["final"]]
    for pool in found["pools"]:
        spent = sum(one["cost_nano_usd"] for one in windows if one["pool"] == pool["pool"])
        assert pool["cost_nano_usd"] == sum(pool["cost_by_part_nano_usd"].values()) == spent
    everything = sum(pool["cost_nano_usd"] for pool in found["pools"]) + found["outside_of_pools"]["cost_nano_usd"]
    assert everything == audited.figures["cost_nano_usd"]
    (auto,) = [pool for pool in found["pools"] if pool["pool"] == "auto"]
    assert auto["requests"] >= COUNT
    assert "<svg" in page.read_text()

    targets = tmp_path / "targets.toml"
    targets.write_text('[[target]]\npool = "shaky"\nmin_saving_percent = 1\n')
    missed = system.run("report", "--archive", str(folder), "--benchmark", str(targets))
    assert missed.returncode == 1
    assert missed.stdout.startswith("MISSED: shaky: saving of 1 % at least, 95 % sure: not told")
