"""A world played through the guard: the same for the same seed, found where something is wrong, quiet where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from router.core.guard.monitor import Guard, Settings
from router.core.guard.slices import ALL
from router.simulation import run
from router.simulation import world as worlds
from router.simulation.play import START_MS, Player
from router.simulation.score import score, summary, truth_of
from router.simulation.traffic import Stream

CALM = worlds.read("calm").model_copy(update={"days": 4})
#: A strong step on the third day, when half of the traffic is the pilot's.
STEP = worlds.World.model_validate(
    {
        "name": "strong",
        "days": 6,
        "rollout": [[0, 50]],
        "changes": [{"day": 2, "bad": 0.4, "stratum": "math/hard"}],
        "dimensions": {},
    }
)


@pytest.fixture(scope="module")
def strong():
    return Player(STEP, 3).play()


def test_a_strong_step_is_found_in_its_stratum_within_days_and_given_back(strong):
    found = score(strong)
    assert found["days_to_alarm"] <= 2.5
    assert found["right_stratum"] is True
    assert [unit for _, unit, _ in found["pages"]] == ["math/hard"]
    assert found["requests_harmed"] < found["requests_harmed_unguarded"] / 2
    assert found["false_alarms_per_100_days"] == 0


def test_the_same_seed_is_the_same_story_and_another_is_not(strong):
    again, other = Player(STEP, 3).play(), Player(STEP, 4).play()
    assert score(again) == score(strong)
    assert again.findings == strong.findings
    assert [hour["pilot"] for hour in other.hours] != [hour["pilot"] for hour in strong.hours]


def test_few_calm_days_page_nobody():
    story = Player(CALM, 1).play()
    assert not [one for _, one in story.findings if one.severity == "page"]
    assert score(story)["days_to_alarm"] is None
    assert score(story)["right_stratum"] is None


def test_requests_do_not_depend_on_what_the_guard_does(strong):
    class Asleep(Guard):
        def step(self, now_ms):
            super().step(now_ms)
            return []

    asleep = Player(STEP, 3, listener=Asleep(Settings(), STEP.strata, START_MS)).play()
    assert not asleep.findings
    assert [hour["unguarded"] for hour in asleep.hours] == [hour["unguarded"] for hour in strong.hours]
    assert score(asleep)["requests_harmed"] == score(asleep)["requests_harmed_unguarded"]
    assert score(asleep)["days_to_alarm"] is None  # a miss


def test_fenced_cells_get_no_pilot_traffic_and_the_others_keep_theirs(strong):
    inside = Stream(STEP, 3).units["math/hard"]
    assert strong.moved
    assert all(inside[cell] for cell in strong.moved)
    last = strong.hours[-1]
    assert 0.7 < last["pilot"] / (last["unguarded"] / (1 - STEP.cheap_cost)) < 0.95


def test_what_was_fenced_comes_back_when_it_is_well_again():
    changes = [{"day": 1, "back": 2.5, "bad": 0.6, "stratum": "math/hard"}]
    well = STEP.model_validate(STEP.model_dump() | {"days": 12, "margin": 0.2, "changes": changes})
    story = Player(well, 3).play()
    assert [unit for _, unit in story.releases] == ["math/hard"]
    assert story.releases[0][0] > 2.5


def test_a_judge_that_guesses_lets_a_bad_unit_come_back_once_and_not_again():
    blind = STEP.model_validate(STEP.model_dump() | {"days": 14, "margin": 0.2, "judge": {"accuracy": 0.5}})
    story = Player(blind, 3).play()
    pages = [one.unit for _, one in story.findings if one.severity == "page"]
    assert pages == ["math/hard", "math/hard"]
    assert [unit for _, unit in story.releases] == ["math/hard"]


def test_an_hours_bad_share_grows_linearly_and_comes_back():
    world = STEP.model_validate(
        STEP.model_dump()
        | {"days": 30, "changes": [{"day": 10, "until": 20, "back": 25, "bad": 0.26, "stratum": "math/hard"}]}
    )
    stream = Stream(world, 0)
    found = [stream.excess("math/hard", day) for day in (9, 15, 20, 24, 25)]
    assert found == pytest.approx([0.0, 0.1, 0.2, 0.2, 0.0])
    assert stream.excess("chat/easy", 20) == 0


def test_traffic_is_what_the_world_says():
    stream = Stream(worlds.read("main"), 0)
    hours = [stream.hour(hour) for hour in range(24)]
    total = sum(int((one.pilot + one.reference).sum()) for one in hours)
    pilot = sum(int(one.pilot.sum()) for one in hours)
    assert total == pytest.approx(26_000, rel=0.03)
    assert pilot == pytest.approx(26_000 * 0.98 * 0.05, rel=0.1)


def test_runs_on_several_cores_are_those_of_one(monkeypatch):
    tiny = CALM.model_copy(update={"days": 0.25, "dimensions": {}})
    both = []
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr(run.os, "sched_getaffinity", lambda _, cores=cores: cores)
        told = []
        both.append(run.runs(tiny, 2, 5, told.append))
        assert told == [1, 1]
    assert both[0] == both[1]
    assert [one["seed"] for one in both[0]["runs"]] == [5, 6]


def test_a_run_without_an_alarm_is_infinitely_late():
    strong = score(Player(STEP, 3).play())
    never = dict(strong) | {"days_to_alarm": None}
    assert summary([strong, never])["days_to_alarm"]["median"] is None  # half of them are never found
    total = summary([strong] * 8 + [never] * 2)
    assert total["days_to_alarm"]["median"] == strong["days_to_alarm"]
    assert total["days_to_alarm"]["p90"] is None
    assert total["missed"] == 2
    assert summary([never])["days_to_alarm"] == {"median": None, "p90": None, "max": None}


def test_the_smallest_world_there_is():
    one = STEP.model_validate(
        {"days": 1 / 24, "requests_per_day": 1, "strata": {"a": 1}, "dimensions": {}, "changes": []}
    )
    story = Player(one, 0, replace(Settings(), margin=0.5)).play()
    assert len(story.hours) == 1
    assert np.isfinite(score(story)["requests_harmed"])


def test_where_everything_is_worse_no_stratum_is_the_culprit():
    world = STEP.model_validate(STEP.model_dump() | {"changes": [{"day": 2, "bad": 0.4}]})
    truth = truth_of(Stream(world, 0))
    assert (truth.unit, truth.onset, truth.passes) == (ALL, 2, 2)
    found = score(Player(world, 3).play())
    assert found["first_alarm"] is not None
    assert found["false_alarms_per_100_days"] == 0


def test_the_guard_hears_under_which_name_the_model_answers():
    class Listening(Guard):
        heard: list[str] = []  # noqa: RUF012

        def served(self, model, name, at_ms):
            self.heard.append(name)
            super().served(model, name, at_ms)

    versions = [{"day": 1.5, "served_model": "b"}, {"day": 2, "served_model": "c", "alternate": True}]
    world = worlds.World.model_validate({"days": 3, "versions": versions, "changes": [], "dimensions": {}})
    guard = Listening(Settings(), world.strata, START_MS)
    Player(world, 1, listener=guard).play()
    names = guard.heard
    assert (set(names[:36]), set(names[36:48]), names[48:52]) == ({"cheap"}, {"b"}, ["c", "b", "c", "b"])
    assert [news.name for news in guard.news()] == ["b", "c"]


def test_a_baseline_that_gets_worse_is_told_of_and_nothing_is_given_back_to_it():
    world = worlds.World(name="baseline", days=26, changes=(worlds.Change(day=16, bad=0.3, who="baseline"),))
    found = score(Player(world, 3).play())
    (day, unit), *_ = found["baseline_watches"]
    assert 16 < day < 20
    assert unit == "slice/all"
    assert found["pages"] == []
