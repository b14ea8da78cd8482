"""Processes that are killed while requests are under way: each request has its one answer all the same."""

from __future__ import annotations

from collections import Counter

import orjson

from benchmarks.scenarios.kills import Submission
from benchmarks.system import PATIENCE_S, request, requests, wait_for

LINES = 600


def ids_of(reads, name):
    """Times that each request of ``name`` was answered, and the codes."""
    results = [orjson.loads(read.record.value) for read in reads]
    ours = [result for result in results if result["custom_id"].startswith(name)]
    codes = Counter((result["error"] or {"code": "ok"})["code"] for result in ours)
    return Counter(result["id"] for result in ours), codes


def test_all_are_answered_when_settle_is_killed_with_them_in_flight_and_nothing_comes_after(system):
    with system.reading("results") as reader:
        system.produce("requests", requests(200, "settle-killed", model="slow"))
        assert wait_for(lambda: system.in_hand() >= 200, PATIENCE_S)
        system.signal("settle")
        reader.until(lambda reads: len(ids_of(reads, "settle-killed")[0]) >= 200, PATIENCE_S)
        times, codes = ids_of(reader.reads, "settle-killed")
    assert codes == {"ok": 200}
    assert set(times.values()) == {1}


def test_calls_are_made_again_when_the_worker_is_killed_with_them_in_hand(system):
    before = system.calls()
    with system.reading("results") as reader:
        system.produce("requests", requests(60, "worker-killed", model="slow"))
        assert wait_for(lambda: system.in_hand() >= 60, PATIENCE_S)
        system.signal("workers")
        reader.until(lambda reads: len(ids_of(reads, "worker-killed")[0]) >= 60, PATIENCE_S)
        times, codes = ids_of(reader.reads, "worker-killed")
    assert codes == {"ok": 60}
    assert set(times.values()) == {1}
    assert system.calls().repeated - before.repeated <= 60


def test_a_submit_that_is_killed_goes_on_with_one_line_a_line(system):
    job = Submission(system, "submit-killed", LINES)
    assert job.until(LINES // 4)
    job.kill()
    with job.out.open("ab") as torn:
        torn.write(b'{"id": "half a li')
    assert job.finish() == 0
    results = job.results()
    assert len(results) == len({result["id"] for result in results}) == job.count
    assert all(result["error"] is None for result in results)


def test_cascades_and_judges_are_answered_once_whatever_is_killed(system):
    """Answers that are held, orders to escalate and to judge, shadows and pairs are in the same transactions as all else."""
    count, pools = 80, ("checked", "judged", "doubled")
    wanted = [(pool, f"{pool}-killed-{n}") for n in range(count) for pool in pools]
    sent = [request(name, model=pool, text=f"what of {name}?") for pool, name in wanted]
    with system.reading("results") as reader:
        for round_, name in enumerate(("settle", "route", "workers", "settle")):
            system.produce("requests", sent[round_ * 60 : (round_ + 1) * 60])
            assert wait_for(lambda name=name: name in system.processes, PATIENCE_S)
            system.signal(name)
        reader.until(lambda reads: sum(len(ids_of(reads, f"{pool}-killed")[0]) for pool in pools) >= 3 * count, 90)
        for pool in pools:
            times, codes = ids_of(reader.reads, f"{pool}-killed")
            assert codes == {"ok": count}
            assert set(times.values()) == {1}
        results = [orjson.loads(read.record.value) for read in reader.reads]
    ours = [one["router"] for one in results if one["custom_id"].startswith(("checked-killed", "judged-killed"))]
    assert all(one["cost_nano_usd"] == sum(each["cost_nano_usd"] or 0 for each in one["attempts"]) for one in ours)
    assert {each["reason"] for one in ours for each in one["attempts"]} >= {"routed", "escalate", "judge"}
    doubled = {one["id"] for one in results if one["custom_id"].startswith("doubled-killed")}
    drawn = {
        one["request_id"]
        for one in system.values("decisions")
        if one["request_id"] in doubled and one["attempt"] == 1 and one["sample"] is not None
    }

    def pairs():
        return Counter(one["request_id"] for one in system.values("pairs") if one["request_id"] in doubled)

    def mirrored():
        """Those that were sent: while settle has a backlog, as after a kill, none is."""
        found = [one for one in system.values("decisions") if one["reason"] == "shadow"]
        return Counter(one["request_id"] for one in found if one["request_id"] in doubled)

    assert wait_for(lambda: mirrored() and pairs() == mirrored(), PATIENCE_S)
    assert set(pairs()) <= drawn
    assert set(pairs().values()) == {1}
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
