"""How far behind a group is, and since when."""

from __future__ import annotations

from router.web.lag import MAX_LOOKS, Track
from router.web.lanes import NOBODY, rows, stage_and_lane


def test_lag_is_what_lies_between_the_commit_and_the_stable_end():
    track = Track(0)
    track.look(0, committed=40, begin=0, end=100)
    assert track.lag == 60


def test_without_a_commit_all_that_is_retained_waits():
    track = Track(0)
    track.look(0, committed=None, begin=30, end=100)
    assert track.lag == 70


def test_markers_alone_are_no_lag_until_something_new_comes():
    track = Track(0)
    track.look(0, committed=99, begin=0, end=100)
    track.verified_empty(99, 100)
    assert (track.lag, track.waiting_since_ms) == (0, None)
    track.look(1000, committed=99, begin=0, end=102)
    assert track.lag == 3


def test_the_oldest_unread_record_waits_since_the_end_first_lay_beyond_the_commit():
    track = Track(0)
    track.look(1000, committed=10, begin=0, end=10)
    track.look(2000, committed=10, begin=0, end=15)
    track.look(3000, committed=10, begin=0, end=30)
    assert track.waiting_since_ms == 2000
    track.look(4000, committed=20, begin=0, end=40)
    assert track.waiting_since_ms == 3000


def test_a_group_that_catches_up_waits_for_nothing():
    track = Track(0)
    track.look(1000, committed=10, begin=0, end=15)
    track.look(2000, committed=15, begin=0, end=15)
    assert (track.waiting_since_ms, track.stuck_s(9000)) == (None, 0.0)


def test_stuck_counts_from_the_last_commit_or_from_when_there_was_something_to_do():
    track = Track(0)
    track.look(1000, committed=10, begin=0, end=10)
    track.look(50_000, committed=10, begin=0, end=12)
    assert track.stuck_s(60_000) == 10.0
    track.look(61_000, committed=11, begin=0, end=12)
    assert track.stuck_s(63_000) == 2.0


def test_a_worker_that_commits_only_its_holes_makes_progress():
    track = Track(0)
    track.look(1000, committed=10, begin=0, end=90, metadata="50:10")
    track.look(2000, committed=10, begin=0, end=90, metadata="60:10")
    assert track.progress_ms == 2000


def test_a_first_look_is_no_progress():
    track = Track(1000)
    track.look(1000, committed=10, begin=0, end=10)
    assert (track.progress_ms, track.still_s(5000)) == (None, 4.0)


def test_a_group_that_stands_still_for_hours_takes_no_more_memory_and_keeps_the_oldest_look():
    track = Track(0)
    for second in range(10_000):
        track.look(second * 1000, committed=1, begin=0, end=2 + second)
    assert len(track._ends) <= MAX_LOOKS + 1
    assert track.waiting_since_ms == 0


def test_stages_and_lanes_are_told_by_group_and_topic():
    assert stage_and_lane("llm", "llm-settle", "llm.outcomes") == ("settle", "all", None)
    assert stage_and_lane("llm", "llm-route", "llm.redispatch") == ("route", "interactive", None)
    assert stage_and_lane("llm", "llm-route-batch", "llm.redispatch.batch") == ("route", "batch", None)
    assert stage_and_lane("llm", "llm-workers", "llm.work.a-b.batch") == ("worker", "batch", "a-b")
    assert stage_and_lane("llm", NOBODY, "llm.rewards") == ("learn", "all", None)


def test_rows_add_up_partitions_and_keep_the_worst():
    slow, quick = Track(0), Track(0)
    slow.look(0, committed=0, begin=0, end=5)
    quick.look(9000, committed=0, begin=0, end=1)
    (row,) = rows(
        "llm", [(("llm-settle", "llm.outcomes", 0), slow), (("llm-settle", "llm.decisions", 0), quick)], 10_000
    )
    assert (row.lag, row.waiting_s, row.stuck_s, row.title) == (6, 10.0, 10.0, "settle")


def test_rows_come_in_the_order_of_the_flow():
    def behind() -> Track:
        track = Track(0)
        track.look(0, committed=0, begin=0, end=1)
        return track

    places = [
        ("llm-watch", "llm.usage", 0),
        ("llm-settle", "llm.outcomes", 0),
        ("llm-workers", "llm.work.small", 0),
        ("llm-route", "llm.requests.batch", 0),
        ("llm-route", "llm.requests", 0),
    ]
    found = [row.title for row in rows("llm", [(place, behind()) for place in places], 1000)]
    assert found == ["route (interactive)", "route (batch)", "worker small (interactive)", "settle", "watch"]
