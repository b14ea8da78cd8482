"""core/rollout/gates: the confidence sequences cover, each metric clears and fails where it should, and unknown things are said to be lacking."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest

from router.core.quantiles import Sketch, add
from router.core.rollout.gates import Estimate, Evidence, Goals, gates, half_width, joined

GOALS = Goals(margin=0.1)
HOUR_MS = 3_600_000


def sketch(values: np.ndarray) -> Sketch:
    found: Sketch = {}
    for value in values:
        add(found, int(value))
    return found


def evidence(
    seed: int = 1, *, hours: int = 100, cost: float = 0.2, slower: float = 1.0, errors: float = 0.01, bad: float = 0.06
) -> Evidence:
    """The pilot beside a reference of 50 requests an hour, 1 % errors and 6 % bad answers."""
    random, found = np.random.default_rng(seed), Evidence()
    for hour in range(hours):
        for arm, price, slow, failing in (("pilot", cost, slower, errors), ("reference", 1.0, 1.0, 0.01)):
            latency = 500 * slow * random.lognormal(0, 0.5, 50)
            found.served(arm, 50, 50 - random.binomial(50, failing), sketch(latency))
            found.spent(arm, hour * HOUR_MS, 50, int(1000 * price * random.lognormal(0, 1, 50).sum()))
        for arm, share in (("pilot", bad), ("reference", 0.06)):
            found.reviewed(arm, 5, 5 - random.binomial(5, share))
    return found


def states(found: Evidence, goals: Goals = GOALS) -> dict[str, str]:
    return {gate.metric: gate.state for gate in gates(found, goals)}


def test_a_good_pilot_clears_everything() -> None:
    assert states(evidence()) == {"quality": "clear", "saving": "clear", "latency": "clear", "errors": "clear"}


@pytest.mark.parametrize(
    ("metric", "worse"),
    [("quality", {"bad": 0.4}), ("saving", {"cost": 1.5}), ("latency", {"slower": 2.5}), ("errors", {"errors": 0.1})],
)
def test_each_metric_fails_alone(metric: str, worse: dict[str, float]) -> None:
    assert [name for name, state in states(evidence(**worse)).items() if state == "failed"] == [metric]


@pytest.mark.parametrize(
    ("metric", "borderline"),
    [("quality", {"bad": 0.16}), ("saving", {"cost": 1.0}), ("latency", {"slower": 1.5}), ("errors", {"errors": 0.03})],
)
def test_what_is_right_at_the_bound_neither_clears_nor_fails(metric: str, borderline: dict[str, float]) -> None:
    assert states(evidence(**borderline))[metric] == "open"


def test_what_nobody_looked_at_is_open_and_says_what_is_lacking() -> None:
    found = gates(Evidence(), GOALS)
    assert {gate.state for gate in found} == {"open"}
    assert [gate.lacks for gate in found] == [
        "0 of 50 reviews an arm, 0 of 100 pairs",
        "0 of 30 windows",
        "0 of 200 requests an arm",
        "0 of 200 requests an arm",
    ]


def test_a_cost_that_nobody_knows_is_no_saving() -> None:
    found = evidence()
    found.unpriced("pilot", 3)
    gate = next(gate for gate in gates(found, GOALS) if gate.metric == "saving")
    assert (gate.state, gate.lacks) == ("open", "the price of 3 calls")


def test_only_what_is_asked_for_is_judged() -> None:
    few = Goals(margin=0.1, min_saving=None, latency_ratio=None, error_increase=None)
    assert list(states(evidence(), few)) == ["quality"]
    assert [gate.metric for gate in gates(evidence(), GOALS, traffic=False)] == ["quality"]


def test_pairs_speak_without_a_single_review() -> None:
    random, found = np.random.default_rng(2), Evidence()
    for _ in range(3000):
        found.pair(float(random.choice([-1, 0, 1], p=[0.1, 0.8, 0.1])))
    assert states(found)["quality"] == "clear"
    for _ in range(3000):
        found.pair(float(random.choice([-1, 0, 1], p=[0.05, 0.35, 0.6])))
    assert states(found)["quality"] == "failed"


def test_earlier_stages_count_for_quality() -> None:
    before = Estimate(0.0, 0.0004, 2000)
    gate = gates(Evidence(), GOALS, before)[0]
    assert (gate.state, gate.n) == ("clear", 2000)
    assert joined([before, before]) == Estimate(0.0, 0.0002, 4000)


def test_a_review_that_found_nothing_is_no_certainty() -> None:
    found = Evidence()
    for arm in ("pilot", "reference"):
        found.reviewed(arm, 50, 50)
    gate = gates(found, GOALS)[0]
    assert gate.high - gate.low > 0.05


def test_evidence_is_stored_exactly() -> None:
    found = evidence()
    found.pair(0.5)
    again = Evidence.load(orjson.loads(orjson.dumps(found.dump())))
    assert again == found
    assert gates(again, GOALS) == gates(found, GOALS)


def test_windows_that_differ_widen_the_interval_of_the_saving() -> None:
    even, uneven = Evidence(), Evidence()
    for hour in range(60):
        for arm, cost in (("pilot", 100), ("reference", 500)):
            even.spent(arm, hour * HOUR_MS, 50, 50 * cost)
            uneven.spent(arm, hour * HOUR_MS, 50, 50 * cost * (1 + hour % 2))
    widths = [gates(one, GOALS)[1] for one in (even, uneven)]
    assert widths[0].value == pytest.approx(0.8)
    assert widths[0].high - widths[0].low < widths[1].high - widths[1].low


def test_the_sequence_covers_at_all_times_together() -> None:
    """4,000 observations, looked at after every tenth from the 100th on: at most alpha of 400 runs ever miss the truth."""
    random, alpha, missed = np.random.default_rng(3), 0.1, 0
    at = np.arange(100, 4001, 10)
    for _ in range(400):
        sums = np.cumsum(random.random(4000) < 0.1)[at - 1]
        mean = sums / at
        errors = np.sqrt(np.maximum(mean * (1 - mean), 1e-4) / at)
        missed += any(abs(m - 0.1) > half_width(e, 0.03, alpha) for m, e in zip(mean, errors, strict=True))
    assert missed / 400 <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / 400)
    assert missed > 0
