"""A recorded stream: what the guard hears of it, when, and what it never hears."""

from __future__ import annotations

import json

import numpy as np
import pytest

from router.contract.errors import ConfigError
from router.core.guard.monitor import Guard, Settings
from router.core.guard.unit import HOUR_MS
from router.simulation import run, trace
from router.simulation.recorded import arm_of, events, outline
from router.simulation.trace import Replay

HOUR_S = HOUR_MS // 1000
DAY_S = 24 * HOUR_S


class Spy(Guard):
    """Notes what it is told."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.heard = []

    def opinion(self, opinion, now_ms):
        self.heard.append(("opinion", opinion.signal, opinion.arm, opinion.value, now_ms))
        super().opinion(opinion, now_ms)

    def pair(self, place, verdict, now_ms):
        self.heard.append(("pair", place.stratum, verdict, now_ms))
        super().pair(place, verdict, now_ms)

    def requests(self, place, arm, count, at_ms):
        self.heard.append(("requests", place.stratum, arm, count, at_ms))
        super().requests(place, arm, count, at_ms)

    def happened(self, signal, arm, place, now_ms):
        self.heard.append(("happened", signal, arm, now_ms))
        super().happened(signal, arm, place, now_ms)


@pytest.fixture
def spies(monkeypatch):
    """Guards that were made."""
    made = []

    def spy(*arguments):
        made.append(Spy(*arguments))
        return made[-1]

    monkeypatch.setattr(trace, "Guard", spy)
    return made


def event(number, t_s, cohort="pilot", **more):
    model = "dear" if cohort in ("holdout", "control") else "cheap"
    return {
        "t_s": t_s,
        "request_id": str(number),
        "tenant": "t",
        "stratum": "a",
        "model": model,
        "cohort": cohort,
    } | more


def said(kind, value, at_s=None):
    return {"kind": kind, "value": value} | ({} if at_s is None else {"at_s": at_s})


def replayed(found, **settings):
    return Replay(outline(found), Settings(**settings)).play(found)


def kinds(spy, kind):
    return [one[1:] for one in spy.heard if one[0] == kind]


def stream(days, bad, seed=0, a_day=240, stratum="a"):
    """Half pilot, half control, a review of each answer; ``bad``: day -> share of bad ones of the pilot. Quality is what was reviewed."""
    random, found = np.random.default_rng(seed), []
    for number in range(days * a_day):
        t_s = number * DAY_S / a_day
        cohort = ("pilot", "control")[number % 2]
        share = bad(t_s / DAY_S) if cohort == "pilot" else 0.06
        value = float(random.random() >= share)
        found.append(
            event(
                number,
                t_s,
                cohort,
                stratum=(stratum, "b")[number // 2 % 2],
                quality=1 - share,
                reference_quality=0.94,
                cost_nano_usd=(6, 100)[number % 2],
                feedback=[said("review", value, t_s + HOUR_S)],
            )
        )
    return found


def trap(day):
    return 0.06 if day < 5 else 0.4


def findings(ledger):
    return [(one.unit, one.signal, one.at_ms, one.evidence) for one, _ in ledger.findings]


def test_what_gets_worse_is_found_after_it_did():
    ledger = replayed(stream(20, trap))
    assert ledger.findings
    assert 5 * DAY_S * 1000 < ledger.findings[0][0].at_ms < 12 * DAY_S * 1000


def course(found):
    played = Replay(outline(found), Settings())
    played.play(found)
    document = played.course.document()
    return document["percent"], [(step["stratum"], step["kind"], step["reason"]) for step in document["steps"]]


def test_a_rollout_climbs_on_a_good_stream_and_falls_where_the_guard_gives_back():
    good, steps = course(stream(16, lambda _: 0.06, a_day=600))
    assert good == {"a": 100.0, "b": 100.0}
    kinds_ = [kind for stratum, kind, _ in steps if stratum == "a" and kind != "hold"]
    assert kinds_ == ["advance", "advance", "advance", "done"]
    found = [one for one in stream(10, lambda day: 0.06 if day < 5 else 0.7) if one["stratum"] == "a"]
    found += [one for one in stream(10, lambda _: 0.06) if one["stratum"] == "b"]
    percent, steps = course(sorted(found, key=lambda one: one["t_s"]))
    assert percent["a"] == 0.0
    assert percent["b"] >= 5.0
    assert ("a", "rollback", "the guard has given it back") in steps or ("a", "rollback", "failed: quality") in steps


def test_a_rollout_knows_no_saving_where_costs_are_unknown():
    found = [{key: value for key, value in one.items() if key != "cost_nano_usd"} for one in stream(12, lambda _: 0.06)]
    percent, steps = course(found)
    assert percent == {"a": 5.0, "b": 5.0}
    assert steps[-1][1:] == ("hold", "not shown yet: saving")


def test_hidden_quality_changes_nothing_that_the_guard_finds():
    found = stream(20, trap)
    random = np.random.default_rng(9)
    scrambled = [
        one | {"quality": float(random.random()), "reference_quality": float(random.random())} for one in found
    ]
    without = [{key: value for key, value in one.items() if "quality" not in key} for one in found]
    plain = findings(replayed(found))
    assert plain
    assert findings(replayed(scrambled)) == plain
    assert findings(replayed(without)) == plain


def test_the_truth_line_changes_nothing_but_the_margin(tmp_path):
    found = stream(20, trap)
    lines = [{"truth": {"stratum": "a", "onset_t_s": 5 * DAY_S, "margin": 0.1}}, *found]
    told = Replay(outline(lines), Settings()).play(lines)
    assert findings(told) == findings(replayed(found))
    file = tmp_path / "s.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in lines))
    assert run.replay(file, None, lambda _: None)["margin"] == 0.1
    assert run.replay(file, 0.3, lambda _: None)["margin"] == 0.3


def test_feedback_is_heard_at_its_time_and_never_before(spies):
    found = [event(0, 0, feedback=[said("thumbs", 0, 30 * HOUR_S), said("review", 1, 2.5 * HOUR_S)])]
    found += [event(number, number * HOUR_S) for number in range(1, 50)]
    replayed(found)
    heard = {signal: now_ms for signal, _, _, now_ms in kinds(spies[0], "opinion")}
    assert heard == {"thumbs": 30 * HOUR_MS, "review": 3 * HOUR_MS}


def test_feedback_that_claims_to_be_older_than_its_request_is_heard_with_it(spies):
    replayed([event(0, 5 * HOUR_S, feedback=[said("thumbs", 0, 0)]), event(1, 6 * HOUR_S)])
    assert kinds(spies[0], "opinion")[0][-1] == 6 * HOUR_MS


def test_feedback_after_the_end_is_never_heard(spies):
    replayed([event(0, 0, feedback=[said("thumbs", 0, 100 * DAY_S)]), event(1, HOUR_S)])
    assert kinds(spies[0], "opinion") == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_answer_and_its_shadow_are_one_verdict_and_count_in_no_other_way(spies, order):
    pilot = event(7, 0, feedback=[said("review", 0.2, HOUR_S + 5 * order[0])])
    shadow = event(8, 1, "shadow", model="dear", shadow_of="7", feedback=[said("review", 0.9, HOUR_S + 5 * order[1])])
    found = [pilot, shadow, event(9, 3 * HOUR_S, "control")]
    replayed(found)
    ((stratum, verdict, _),) = kinds(spies[0], "pair")
    assert (stratum, verdict) == ("a", pytest.approx(0.7))
    assert kinds(spies[0], "opinion") == []
    assert [one[1:3] for one in kinds(spies[0], "requests")] == [("pilot", 1), ("reference", 1)]  # a shadow is nobody's


def test_a_pair_counts_once_however_often_it_is_judged(spies):
    again = [said("review", 0, HOUR_S + number) for number in range(5)]
    pilot = event(7, 0, feedback=again)
    shadow = event(8, 1, "shadow", model="dear", shadow_of="7", feedback=[said("review", 1, HOUR_S)])
    replayed([pilot, shadow, event(9, 3 * HOUR_S, "control")])
    assert len(kinds(spies[0], "pair")) == 1


def test_what_is_said_of_one_of_a_pair_alone_is_an_opinion(spies):
    pilot = event(7, 0, feedback=[said("thumbs", 0, 100)])
    shadow = event(8, 1, "shadow", model="dear", shadow_of="7")
    replayed([pilot, shadow, event(9, 3 * HOUR_S, "control")])
    assert [one[:2] for one in kinds(spies[0], "opinion")] == [("thumbs", "pilot")]
    assert kinds(spies[0], "pair") == []


def test_refused_and_truncated_answers_are_signals(spies):
    found = [
        event(number, number, status=status) for number, status in enumerate(("refused", "truncated", "ok", "failed"))
    ]
    replayed(found)
    assert [one[:2] for one in kinds(spies[0], "happened")] == [("refused", "pilot"), ("truncated", "pilot")]


def test_after_a_page_events_of_the_fenced_stratum_are_dropped_and_others_are_not(spies):
    ledger = replayed(stream(30, trap, stratum="a"))
    first = ledger.findings[0][0]
    later = [one for one in spies[0].heard if one[0] == "requests" and one[4] > first.at_ms + HOUR_MS]
    assert first.unit in spies[0].fenced
    strata = {one[1] for one in later if one[2] == "pilot"}
    assert first.unit not in strata
    units = [one.unit for one, _ in ledger.findings]
    assert len(units) == len(set(units))  # no unit twice


def test_time_never_goes_back_and_long_gaps_are_skipped(spies):
    replayed([event(0, 10 * HOUR_S), event(1, 0), event(2, 1e7), event(3, 5)])
    times = [one[-1] for one in spies[0].heard]
    assert times == sorted(times)
    assert times[-1] >= 1e10 - HOUR_MS


def test_nobody_chose_what_was_pinned():
    assert arm_of(event(0, 0, "pilot"), "dear") == "pilot"
    assert arm_of(event(0, 0, "holdout"), "dear") == "reference"
    assert arm_of(event(0, 0, "pinned"), "dear") is None
    assert arm_of({"model": "dear"}, "dear") == "reference"
    assert arm_of({"model": "cheap"}, "dear") == "pilot"
    assert arm_of({"cohort": "shadow", "model": "dear"}, "dear") == "reference"


def test_without_cohorts_the_dearest_model_is_the_reference():
    known = outline(
        [{"t_s": 0, "request_id": "1", "model": name, "cost_nano_usd": cost} for name, cost in (("x", 3), ("y", 9))]
    )
    assert known.reference == "y"
    assert known.strata == {"none"}


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "3",
        "null",
        '{"t_s": 1}',
        '{"t_s": "1", "request_id": "a"}',
        '{"t_s": true, "request_id": "a"}',
        '{"t_s": 1, "request_id": 5}',
        '{"t_s": NaN, "request_id": "a"}',
        '{"t_s": 1e400, "request_id": "a"}',
        '{"t_s": 1e306, "request_id": "a"}',
        '{"truth": {"stratum": "a"}}',
        '{"t_s": 1, "request_id": "\\ud800"}',
    ],
)
def test_a_hostile_line_is_named_by_its_number(tmp_path, line):
    file = tmp_path / "s.jsonl"
    file.write_text(json.dumps(event(0, 0)) + "\n\n" + line + "\n")
    with pytest.raises(ConfigError, match="line 3"):
        list(events(file))


@pytest.mark.parametrize(
    "more",
    [
        {"feedback": 5},
        {"feedback": "abc"},
        {"feedback": [None, 3, {}, {"kind": "review"}, {"kind": 4, "value": 0}, {"kind": "review", "value": "0"}]},
        {"feedback": [{"kind": "review", "value": 7}, {"kind": "thumbs", "value": -1}, {"kind": "x", "value": 0}]},
        {"feedback": [{"kind": "judge", "value": 0}, {"kind": "past", "value": 0}, {"kind": "retry", "value": 1}]},
        {"feedback": [{"kind": "review", "value": 0, "at_s": 1e306}]},
        {"stratum": ["a"], "tenant": {}, "session": 4, "model": 7, "cohort": [], "features": [], "status": {}},
        {"stratum": "slice/language=en", "features": {"language": {"a": 1}, "n": None}},
        {"cost_nano_usd": "1", "quality": "0.5", "reference_quality": None, "shadow_of": 5},
        {"stratum": "x" * 100_000, "tenant": "y" * 100_000},
    ],
)
def test_odd_values_of_what_may_be_absent_are_as_if_absent(tmp_path, more):
    file = tmp_path / "s.jsonl"
    lines = [event(number, number * HOUR_S / 4) | (more if number % 3 == 0 else {}) for number in range(100)]
    file.write_text("\n".join(json.dumps(one) for one in lines))
    found = run.replay(file, None, lambda _: None)["runs"][0]
    assert found["pages"] == []


def test_an_empty_file_and_one_that_is_not_there(tmp_path):
    file = tmp_path / "s.jsonl"
    with pytest.raises(ConfigError, match="No such file"):
        run.replay(file, None, lambda _: None)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="no events"):
        run.replay(file, None, lambda _: None)


def test_the_figures_of_a_stream_with_a_trap(tmp_path):
    file = tmp_path / "s.jsonl"
    bad_a = [
        one if one["stratum"] == "a" or one["cohort"] == "control" else one | {"feedback": [], "quality": 0.94}
        for one in stream(25, trap, a_day=480)
    ]
    truth = {"truth": {"stratum": "a", "onset_t_s": 5 * DAY_S, "margin": 0.1}}
    file.write_text("\n".join(json.dumps(one) for one in [truth, *bad_a]))
    found = run.replay(file, None, lambda _: None)["runs"][0]
    assert found["first_alarm"] == "a"
    assert 0 <= found["days_to_alarm"] < 6
    assert found["right_stratum"] is True
    assert found["false_alarms_per_100_days"] == 0
    assert 0.4 < found["saving_kept"] < 0.8
    assert found["requests_harmed"] > 0


def test_feedback_that_is_due_in_the_far_future_does_not_slow_a_gap_down(spies):
    far = event(0, 0, feedback=[said("thumbs", 0, 1e11)])
    replayed([far, *(event(number, 2e7) for number in range(1, 4))])
    assert [one[-1] // 1000 for one in kinds(spies[0], "requests")] == [3599, 20_001_599]
