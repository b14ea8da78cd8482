"""So many answers a day are looked at, whatever the traffic; those less sure to be good sooner."""

import random

import pytest

from router.core.review_sample import DAY_MS, Flow, inclusion_of, pace_of, score_of, weight_of

START = 20_000 * DAY_MS
P_OKS = [None, 0.1, 0.5, 0.95]


def looked_at(per_day, rates, *, days, seed=1, focus=None):
    """Reviews of each day, of Poisson traffic at ``rates`` requests a day (a function of the day)."""
    dice, flow, now_ms = random.Random(seed), Flow(START, START), float(START)
    found = [0] * days
    while (day := int((now_ms - START) // DAY_MS)) < days:
        p_ok, factor = dice.choice(P_OKS), 1.0 if focus is None else focus(day)
        flow.note(factor * score_of(p_ok), int(now_ms))
        pace = pace_of(per_day, flow.per_day(int(now_ms)))
        found[day] += dice.random() < inclusion_of(pace, p_ok, factor)
        now_ms += dice.expovariate(rates(day)) * DAY_MS
    return found


def test_steady_traffic_gets_the_reviews_of_a_day_from_the_first_day_on():
    for day in looked_at(200, lambda _: 4_000, days=6):
        assert 150 < day < 260


def test_where_little_comes_all_of_it_is_looked_at():
    assert sum(looked_at(200, lambda _: 100, days=4)) == pytest.approx(400, rel=0.2)


def test_when_traffic_grows_tenfold_the_budget_holds_again_within_days():
    found = looked_at(100, lambda day: 500 if day < 3 else 5_000, days=9)
    assert found[3] > 120
    assert all(70 < day < 140 for day in found[6:])


def test_a_focus_moves_reviews_and_costs_none():
    found = looked_at(200, lambda _: 4_000, days=8, focus=lambda day: 10.0 if day >= 3 else 1.0)
    assert all(140 < day < 270 for day in found[6:])


def test_the_less_sure_the_sooner_but_nobody_is_left_out():
    found = [inclusion_of(0.01, p_ok) for p_ok in (1.0, 0.5, 0.0)]
    assert found == pytest.approx([0.005, 0.01, 0.015])


@pytest.mark.parametrize("pace", [0.001, 0.3, 5.0])
@pytest.mark.parametrize("focus", [0.1, 1.0, 30.0])
def test_weights_make_the_mean_that_of_all(pace, focus):
    drawn = [(inclusion_of(pace, p_ok, focus), weight_of(pace, p_ok, focus)) for p_ok in P_OKS]
    shares = [inclusion * weight for inclusion, weight in drawn]
    assert shares == pytest.approx([shares[0]] * len(shares))
    assert all(0.0 < inclusion <= 1.0 and 0.5 <= weight <= 2.0 for inclusion, weight in drawn)


def test_nothing_is_drawn_where_nothing_is_asked_for():
    assert pace_of(0, 100.0) is None
    assert pace_of(10, 0.0) is None
    assert inclusion_of(0.5, None, focus=0.0) == 0.0


def test_an_idle_pool_is_forgotten():
    flow = Flow(START, START)
    flow.note(1000.0, START)
    assert flow.per_day(START + 30 * DAY_MS) < 1e-6


def test_a_slice_that_is_looked_at_more_closely_weighs_no_more_in_its_stratum():
    """A tenth of a stratum is in a slice that is drawn eight times as often; the weighted mean is that of the stratum."""
    pace, usual, more = 0.01, 1.5, 12.0
    drawn = [(inclusion_of(pace, 0.4, usual), weight_of(pace, 0.4, usual, usual), 0.9, 0.1)]
    drawn.append((inclusion_of(pace, 0.4, more), weight_of(pace, 0.4, more, usual), 0.1, 0.7))
    seen = sum(inclusion * weight * share for inclusion, weight, share, _ in drawn)
    bad = sum(inclusion * weight * share * rate for inclusion, weight, share, rate in drawn)
    assert bad / seen == pytest.approx(0.9 * 0.1 + 0.1 * 0.7)
