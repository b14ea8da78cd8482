"""When a process is judged to stand still."""

from __future__ import annotations

from router.web.standstill import Look, judge, shortened, stuck_s


def looks(*said: tuple[float, int | None, object]) -> list[Look]:
    return [Look(*one) for one in said]


def test_lag_without_progress_for_the_limit_is_a_standstill():
    history = looks((0.0, 5, "a"), (15.0, 6, "a"), (30.0, 9, "a"))
    assert judge(history, 30.0, 30.0) == "lag 9 and no progress for 30 s"


def test_just_short_of_the_limit_is_none():
    assert judge(looks((0.1, 5, "a"), (30.0, 5, "a")), 30.0, 30.0) is None


def test_nothing_to_do_is_no_standstill_however_long():
    assert judge(looks((0.0, 0, "a"), (9999.0, 0, "a")), 9999.0, 30.0) is None


def test_an_unknown_end_is_no_standstill():
    assert judge(looks((0.0, 5, "a"), (40.0, None, "a")), 40.0, 30.0) is None


def test_progress_starts_the_time_anew():
    history = looks((0.0, 5, "a"), (25.0, 5, "b"), (40.0, 5, "b"))
    assert stuck_s(history, 40.0) == 15.0


def test_lag_that_came_after_a_long_idle_time_is_counted_from_when_it_came():
    history = looks((0.0, 0, "a"), (100.0, 3, "a"))
    assert judge(history, 110.0, 30.0) is None


def test_a_caught_up_moment_in_between_starts_the_time_anew():
    history = looks((0.0, 5, "a"), (20.0, 0, "a"), (21.0, 5, "a"))
    assert judge(history, 40.0, 30.0) is None


def test_no_look_yet_is_no_standstill():
    assert judge([], 40.0, 30.0) is None


def test_a_shortened_history_judges_like_the_whole_one():
    said = [
        (float(at), lag, mark)
        for at, (lag, mark) in enumerate([(3, 1)] * 5 + [(0, 1)] * 3 + [(2, 1)] * 9 + [(2, 2)] * 7)
    ]
    whole, short = [], []
    for one in said:
        whole.append(Look(*one))
        short = shortened([*short, Look(*one)])
        assert stuck_s(short, one[0]) == stuck_s(whole, one[0])
        assert len(short) <= 2
