"""``bench guard``: what others hear is the guard's own traffic, each of them finds what is strong, and figures are what they say."""

import pytest

from benchmarks import guard_power
from benchmarks.guard import poisson
from benchmarks.guard_parts import others, page, runs
from benchmarks.guard_parts.heard import REQUESTS, REVIEWS, listen
from benchmarks.guard_parts.others import KINDS, Alarm, alarms, tuned
from benchmarks.guard_parts.outcome import oracle, outcome
from router.simulation import world as worlds
from router.simulation.play import Player

STRONG = worlds.World.model_validate(
    {
        "days": 28,
        "requests_per_day": 8000,
        "rollout": [[0, 50]],
        "changes": [{"day": 10, "bad": 0.7, "stratum": "math/hard"}],
        "dimensions": {},
    }
)
CALM = STRONG.model_copy(update={"changes": ()})
BAD = list(STRONG.strata).index("math/hard")


@pytest.fixture(scope="module")
def strong():
    return listen(STRONG, 1, pairs=4.0)


@pytest.fixture(scope="module")
def calm():
    return listen(CALM, 2, pairs=4.0)


def test_the_requests_are_those_of_the_guards_run(strong):
    world = STRONG.model_copy(update={"days": 5})
    story = Player(world, 1).play()
    heard = listen(world, 1, pairs=1.0)
    assert heard.raw[:, :, REQUESTS].sum() == pytest.approx(
        sum(hour["unguarded"] for hour in story.hours) / (1 - world.cheap_cost)
    )


def test_reviews_are_spread_evenly_and_the_score_estimates_the_excess(strong):
    reviews = strong.raw[:, :, REVIEWS].sum(axis=0)
    assert reviews.max() < 1.2 * reviews.min()
    later = slice(12 * 24, None)
    estimate = strong.score[later].sum(axis=0) / strong.information[later].sum(axis=0)
    assert estimate.argmax() == BAD
    assert estimate[BAD] > 0.3
    assert all(abs(one) < 0.1 for stratum, one in enumerate(estimate) if stratum != BAD)


@pytest.mark.parametrize("kind", KINDS)
def test_each_detector_finds_what_is_strong_in_its_stratum_and_is_quiet_before(kind, strong, calm):
    knob = tuned(kind, [calm], 28, 14, 0.1, strata=True)
    assert len(alarms(kind, calm, knob, 0.1, strata=True)) <= 2
    found = [one for one in alarms(kind, strong, knob, 0.1, strata=True) if one.stratum == BAD]
    assert found
    assert 10 * 24 <= found[0].hour < 24 * 24


def test_without_strata_there_is_one_detector(strong):
    found = alarms("cusum", strong, 1.0, 0.1, strata=False)
    assert found
    assert {one.stratum for one in found} == {-1}


def test_outcomes_follow_the_definitions_of_simulate(strong):
    found = outcome(STRONG, 1, strong, [Alarm(5 * 24, 0), Alarm(12 * 24 - 1, BAD)], pairs=0.0)
    assert (found["days_to_alarm"], found["right_stratum"], found["false"]) == (2.0, True, 1)
    assert 0.6 < found["saving_kept"] < 0.9
    missed = outcome(STRONG, 1, strong, [], pairs=0.0)
    assert (missed["days_to_alarm"], missed["saving_kept"]) == (None, pytest.approx(1.0))
    assert missed["requests_harmed"] > 4 * found["requests_harmed"]
    pool = outcome(STRONG, 1, strong, [Alarm(12 * 24 - 1, -1)], pairs=0.0)
    assert (pool["days_to_alarm"], pool["right_stratum"]) == (2.0, False)
    assert pool["saving_kept"] < found["saving_kept"]
    assert oracle(STRONG, 1, strong) == pytest.approx(1 - STRONG.strata["math/hard"], abs=0.01)


def test_kept_runs_are_read_again_and_other_code_makes_others(tmp_path, monkeypatch):
    tiny = CALM.model_copy(update={"days": 0.5})
    monkeypatch.setattr(worlds, "read", lambda _: tiny)
    first = runs.guarded(tmp_path, "tiny", 0)
    monkeypatch.setattr(runs, "Player", None)  # would fail if it ran
    assert runs.guarded(tmp_path, "tiny", 0) == first
    monkeypatch.setattr(runs, "_GUARD_CODE", [])
    with pytest.raises(TypeError):
        runs.guarded(tmp_path, "tiny", 0)


def test_the_interval_of_a_count_is_exact():
    assert poisson(0) == (0.0, pytest.approx(3.689, abs=1e-3))
    assert poisson(5) == (pytest.approx(1.623, abs=1e-3), pytest.approx(11.668, abs=1e-3))


def test_the_pages_tables_are_replaced_and_nothing_else(tmp_path):
    file = tmp_path / "guard.md"
    file.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    fields = {
        "guard_days_to_alarm_median": {"main": 0.5},
        "guard_days_to_alarm_p90": {"main": None},
        "guard_missed": {"main": 2},
        "guard_right_stratum": {"main": 0.9},
        "guard_saving_kept": {"main": 0.76, "calm": None},
        "guard_requests_harmed": {"main": 400, "calm": 0},
        "guard_false_alarms_per_100_days": {"main": 0, "calm": 0.1},
        "guard_false_alarms_at_most": {"main": 0.2, "calm": 0.4},
        "others_days_to_alarm_median": {"main: cusum, strata": None},
    }
    details = {"seeds": {"main": 20, "calm": 3}, "compared": {"main": 4}, "runs": {"main": [], "calm": []}}
    for _ in range(2):
        page.write(file, fields, details)
    text = file.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| main | 20 | 0.5 | never | 2 | 90% | 76% |") == 1
    assert "| main | 0.5 | 4 | never |" in text
    assert set(others.KINDS) == {"cusum", "page-hinkley", "adwin", "dashboard"}


WATCHED = guard_power.Case("watched", 500, 500, 100, 100)


def test_a_drop_that_is_planted_is_timed_from_its_day_and_one_that_is_none_is_not_seen():
    days = guard_power.days_to_alarm(WATCHED, 0.6, even=True, most=3.0, seed=2)
    assert 0.0 < days <= 3.0
    assert guard_power.days_to_alarm(WATCHED, 0.0, even=True, most=0.5, seed=2) is None


def test_power_is_told_what_the_planted_stratum_has():
    told = guard_power.volume_of(WATCHED, guard_power.Settings())
    assert (told.pilot, told.reference, told.reviews, told.pairs) == (500, 500, 100, 100)
    assert told.bad == pytest.approx(0.95 * 0.06 + 0.02 * 0.94)
    assert guard_power.volume_of(WATCHED._replace(thumbs=False), guard_power.Settings()).thumbs_rate == 0.0


def test_the_table_of_power_has_a_row_for_each_case_and_span():
    (case, *_) = guard_power.CASES
    rows = [{"case": case.name, "days": 7, "drop": 0.1234, "how": how, "seen": 0.5} for how in ("evenly", "as it runs")]
    lines = guard_power.table(rows, 24)
    assert sum(case.name in line for line in lines) == len(guard_power.DAYS)
    assert any("| 7 d | 12.3 points | 50% | 50% |" in line for line in lines)


def test_a_page_without_marks_is_not_written(tmp_path):
    file = tmp_path / "guard.md"
    file.write_text("nothing here")
    with pytest.raises(ValueError, match="lacks"):
        page.between(file, "<!-- a -->", "<!-- b -->", [])
    assert file.read_text() == "nothing here"
