"""How a stage's app is read by the watchdog."""

from __future__ import annotations

from types import SimpleNamespace

from router.web.probes import FreshProbe, StageProbe


def partition(lag: int | None, age_s: float, position: int | None = 10) -> dict[str, object]:
    end = None if lag is None or position is None else position + lag
    return {"position": position, "end": end, "lag": lag, "progress_age_s": age_s, "commit_age_s": age_s}


def probe(partitions: dict[str, object], readable=lambda _: True, **said) -> StageProbe:
    whole = {"ready": True, "rebalancing": False, "partitions": partitions} | said
    app = SimpleNamespace(stage=SimpleNamespace(name="llm-settle"), readable=readable, liveness=lambda: whole)
    return StageProbe(app)


def test_the_partition_that_is_worst_off_speaks_for_the_stage():
    said = probe({"t/0": partition(0, 99.0), "t/1": partition(5, 40.0), "t/2": partition(900, 0.1)}).liveness()
    assert (said["lag"], said["worst"], said["lag_total"]) == (5, "t/1", 905)


def test_what_a_stage_has_done_is_told_as_numbers():
    said = probe({}, done={"transactions": 2, "commit_seconds": 0.5}).liveness()
    assert (said["done_transactions"], said["done_commit_seconds"]) == (2, 0.5)


def test_a_stage_at_its_end_has_no_lag():
    assert probe({"t/0": partition(0, 99.0)}).liveness()["lag"] == 0


def test_what_is_held_back_on_purpose_is_no_lag():
    said = probe(
        {"t.batch/0": partition(5, 99.0), "t/0": partition(0, 1.0)}, lambda tp: tp.topic != "t.batch"
    ).liveness()
    assert said["lag"] == 0


def test_a_stage_that_is_not_ready_has_no_lag_to_be_blamed_for():
    said = probe({"t/0": partition(5, 99.0)}, ready=False).liveness()
    assert (said["lag"], said["ready"]) == (None, False)


def test_ends_that_are_too_old_are_unknown():
    assert probe({"t/0": partition(5, 99.0)}, ends_age_s=20.0).liveness()["lag"] is None


def test_a_rebalance_that_goes_on_is_work_without_progress():
    first, second = (probe({}, rebalancing=True, ready=False).liveness() for _ in range(2))
    assert first["lag"] == 1
    assert first["progress"] == second["progress"]


def test_a_partition_that_is_never_fetched_is_behind():
    said = probe({"t/0": partition(None, 40.0, None) | {"end": 7}}).liveness()
    assert (said["lag"], said["worst"]) == (1, "t/0")


def test_progress_is_seen_by_the_position():
    before, after = (probe({"t/0": partition(5, 1.0, position)}).liveness() for position in (10, 11))
    assert before["progress"] != after["progress"]


def test_a_follower_is_ready_while_it_is_fresh():
    assert FreshProbe("weights", lambda: True).liveness() == {"lag": 0, "progress": None, "ready": True}
    assert FreshProbe("weights", lambda: False).liveness()["ready"] is False
