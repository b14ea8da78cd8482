"""What can be seen: more of anything never makes it less, and simulation agrees with the formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.guard.detector import DAY_MS
from router.core.guard.grid import Grid
from router.core.guard.power import Volume, power
from router.core.guard.unit import HOUR_MS, Unit

USUAL = Volume(pilot=2600, reference=2600, reviews=25, pairs=20, thumbs_rate=0.003, bad=0.07, threshold=7.7)

volumes = st.builds(
    Volume,
    pilot=st.floats(0, 1e6),
    reference=st.floats(0, 1e6),
    reviews=st.floats(0, 1e4),
    pairs=st.floats(0, 1e4),
    thumbs_rate=st.floats(0, 1),
    bad=st.floats(0, 1),
    threshold=st.floats(0, 20),
)


@given(volume=volumes, margin=st.floats(0.01, 0.5), field=st.sampled_from(("reviews", "pairs")))
def test_more_judgements_never_make_it_later(volume, margin, field):
    more = replace(volume, **{field: 2 * getattr(volume, field) + 1})
    less_days, more_days = power(volume, margin).days, power(more, margin).days
    assert less_days is None or more_days <= less_days * (1 + 1e-9)


@given(volume=volumes, margin=st.floats(0.01, 0.5))
def test_smaller_drops_need_longer(volume, margin):
    drops = [power(volume, margin).drops[days] for days in (1, 7, 30)]
    known = [1.0 if one is None else one for one in drops]
    assert known == sorted(known, reverse=True)


def test_what_would_make_it_one_day_does():
    one = power(USUAL, 0.1)
    assert one.days > 1
    for field, count in (("reviews", one.reviews_for_one_day), ("pairs", one.pairs_for_one_day)):
        assert power(replace(USUAL, **{field: count}), 0.1).days <= 1.0
        assert power(replace(USUAL, **{field: count - 2}), 0.1).days > 1.0


def test_a_unit_without_anything_is_blind_for_ever():
    one = power(Volume(pilot=0, reference=0, reviews=0, pairs=0, thumbs_rate=0, bad=0, threshold=7.7), 0.1)
    assert (one.days, one.blind, one.pairs_for_one_day) == (None, True, None)
    assert set(one.drops.values()) == {None}


def test_a_small_holdout_alone_is_blind():
    thumbs_only = replace(USUAL, pilot=5100, reference=104, reviews=0, pairs=0)
    assert power(thumbs_only, 0.1).blind
    assert power(thumbs_only, 0.1).days > 30


def test_the_drop_that_is_seen_within_a_week_takes_a_week():
    drop = power(USUAL, 0.1).drops[7]
    assert power(USUAL, drop).days == pytest.approx(7, rel=0.01)


def test_simulation_agrees_within_a_factor_of_two():
    volume = replace(USUAL, pilot=0, reference=0, pairs=0, reviews=60)
    random, days = np.random.default_rng(11), []
    for _ in range(15):
        unit, day = Unit("x", Grid.of(0.1), 0), 0
        while unit.evidence < volume.threshold and day < 90:
            for arm, bad in (("pilot", 0.27), ("reference", 0.07)):
                for value in random.random(30) < bad:
                    unit.judgement("review", arm, float(value), day * DAY_MS)
            unit.step(day * DAY_MS + HOUR_MS, judge_power=0.7, judge_bias=0.0)
            day += 1
        days.append(day)
    told = power(volume, 0.2).days
    assert told / 2 < np.median(days) < told * 2
