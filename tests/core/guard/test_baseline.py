"""The baseline's own past: what lasts for a while is seen, in the pool or the one stratum, and no unchanged baseline is called worse."""

from __future__ import annotations

import numpy as np

from router.core.guard.baseline import Baseline
from router.core.guard.detector import DAY_MS
from router.core.guard.slices import ALL

T0 = 20_000 * DAY_MS
HOURS = 24
STRATA = ("a", "b", "c", "d")


def days(one, count, *, first, bad, seed, step_h=1):
    """``bad``: stratum -> share, 6 % elsewhere; on which day and unit it alarms."""
    random = np.random.default_rng(seed)
    for hour in range(first * HOURS, (first + count) * HOURS, step_h):
        now_ms = T0 + hour * DAY_MS // HOURS
        for stratum in STRATA:
            for _ in range(random.poisson(0.6 * step_h)):
                one.judgement("review", stratum, float(random.random() < bad.get(stratum, 0.06)), now_ms)
        one.step(now_ms)
        if (worse := one.worse(now_ms)) is not None:
            yield (now_ms - T0) / DAY_MS, worse


def test_a_worse_baseline_is_the_pools_and_one_worse_stratum_its_own():
    for bad, unit in ((dict.fromkeys(STRATA, 0.25), ALL), ({"b": 0.5}, "b")):
        one = Baseline(0.1, 200.0)
        assert not list(days(one, 20, first=0, bad={}, seed=1))
        day, worse = next(days(one, 20, first=20, bad=bad, seed=2))
        assert day < 23
        assert worse.unit == unit
        assert worse.effect.value > 0.05
        assert worse.evidence >= worse.threshold
        assert T0 + 19 * DAY_MS <= worse.since_ms <= worse.at_ms


def test_twenty_baselines_that_stay_as_they_are_for_fifty_days_are_hardly_ever_called_worse():
    """1,000 days: five false words would be one in ``arl_days``."""
    told = [next(days(Baseline(0.1, 200.0), 50, first=0, bad={}, seed=seed, step_h=24), None) for seed in range(20)]
    assert sum(one is not None for one in told) <= 3


def test_what_is_over_is_quiet_within_some_days_though_it_lasted_long():
    one = Baseline(0.1, 200.0)
    list(days(one, 20, first=0, bad={}, seed=1, step_h=24))
    told = [day for day, _ in days(one, 10, first=20, bad=dict.fromkeys(STRATA, 0.4), seed=2, step_h=24)]
    assert len(told) > 6
    assert [day for day, _ in days(one, 20, first=30, bad={}, seed=3, step_h=24) if day > 34] == []
    assert one.evidence(ALL) < 0.0


def test_other_signals_and_too_little_past_say_nothing():
    one = Baseline(0.1, 200.0)
    for day in range(30):
        for _ in range(50):
            one.judgement("thumbs", "a", 1.0, T0 + day * DAY_MS)
    assert one.units == {}
    assert not list(days(Baseline(0.1, 200.0), 7, first=0, bad={"a": 0.9}, seed=3))


def test_it_comes_back_as_it_was():
    one, other = Baseline(0.1, 200.0), Baseline(0.1, 200.0)
    list(days(one, 12, first=0, bad={}, seed=1))
    one.judgement("label", "a", 0.5, T0 + 12 * DAY_MS)
    other.load(one.dump())
    for each in (one, other):
        each.step(T0 + 13 * DAY_MS)
    assert other.dump() == one.dump()
