"""A budget is kept whatever calls cost, and money is spent where it is worth most."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.bandit.squarecb import inverse_gap
from router.core.budget import BURST, Ledger, Pacer

USD = 10**9
COSTS = {"small": 0.00003 * USD, "mid": 0.0005 * USD, "large": 0.015 * USD}


def stream(budget, requests, *, costs=lambda _: COSTS, noise=0.0, gamma=200.0, delay=0, seed=1):
    """Requests whose quality is known exactly; returns ledger, mean quality, share of each model."""
    dice = random.Random(seed)
    ledger = Ledger(int(budget * USD))
    pacer = Pacer(ledger)
    total, share, waiting, real = 0.0, dict.fromkeys(COSTS, 0), [], 0
    for number in range(requests):
        hard = dice.random() < 0.2
        quality = {"small": 0.4 if hard else 0.9, "mid": 0.8 if hard else 0.92, "large": 0.95}
        cost = costs(number)
        room = ledger.left + ledger.budget + max(ledger.burst, int(max(cost.values())))
        open_ones = [model for model in cost if cost[model] <= max(room, min(cost.values()))]
        values = {model: quality[model] - pacer.price * cost[model] / ledger.budget for model in open_ones}
        weights = inverse_gap(values, gamma)
        (model,) = dice.choices(list(weights), list(weights.values()))
        pacer.note(quality, cost, gamma)
        ledger.charge(int(cost[model]))
        waiting.append((int(cost[model]), int(cost[model] * (1 + noise * dice.uniform(-0.5, 1.5)))))
        real += waiting[-1][1]
        if len(waiting) > delay:
            expected, paid = waiting.pop(0)
            ledger.correct(1, expected, paid)
        total += quality[model]
        share[model] += 1
    overshoot = max(0.0, real / (ledger.budget * requests) - 1.0)
    return real / requests / USD, overshoot, total / requests, {model: n / requests for model, n in share.items()}


@pytest.mark.parametrize("budget", [0.0001, 0.0003, 0.002, 0.008])
@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("delay", [0, 50])
def test_it_is_kept_and_used(budget, noise, delay):
    spent, overshoot, _, _ = stream(budget, 4000, noise=noise, delay=delay)
    assert overshoot <= max(BURST, COSTS["large"] / USD / (budget * 4000))
    assert spent > 0.95 * budget


def test_a_price_that_rises_fivefold_in_mid_stream_is_kept_within_the_budget():
    def costs(number):
        return COSTS if number < 2000 else COSTS | {"mid": 5 * COSTS["mid"]}

    spent, overshoot, _, _ = stream(0.0006, 4000, costs=costs)
    assert overshoot <= max(BURST, COSTS["large"] / USD / (0.0006 * 4000))
    assert spent > 0.95 * 0.0006


def test_more_money_buys_better_answers_and_money_goes_where_it_helps():
    qualities = [stream(budget, 4000)[2] for budget in (0.0001, 0.0003, 0.002, 0.008)]
    assert qualities == sorted(qualities)
    _, _, quality, share = stream(0.0003, 4000)
    # The same money spread blindly: mid for some of all requests.
    blind = (0.0003 - 0.00003) / (0.0005 - 0.00003)
    assert quality > 0.8 + blind * (0.896 - 0.8) + 0.02
    assert share["large"] < 0.02


def test_with_money_enough_it_costs_nothing():
    _, _, _, share = stream(0.05, 500)
    assert share["large"] > 0.8


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=200))
def test_a_ledger_is_a_sum(calls):
    ledger = Ledger(1000)
    for expected, _ in calls:
        ledger.charge(expected)
    for expected, cost in calls:
        ledger.correct(1, expected, cost)
    assert (ledger.spent, ledger.owed) == (sum(cost for _, cost in calls), 0)
    assert ledger.left == 1000 * len(calls) - ledger.spent


@pytest.mark.parametrize("times", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("delay", [0, 100])
def test_calls_that_cost_other_than_was_expected_are_expected_so(times, delay):
    """An answer may be 4,000 tokens long, and is 200: the ledger learns it, also while a hundred are open."""
    dice, ledger = random.Random(3), Ledger(USD // 1000)
    pacer, waiting, real = Pacer(ledger), [], 0
    for _ in range(4000):
        quality, cost = {"a": 0.5 + dice.random() / 4, "b": 0.9}, {"a": 100_000.0 / times, "b": 2_000_000.0 / times}
        most = max(ledger.left + ledger.budget + ledger.burst, min(cost.values()) * ledger.dearer)
        values = {
            model: quality[model] - pacer.price * cost[model] / ledger.budget
            for model in cost
            if ledger.dearer * cost[model] <= max(most, ledger.dearer * cost["a"])
        }
        weights = inverse_gap(values, 300.0)
        (model,) = dice.choices(list(weights), list(weights.values()))
        pacer.note(quality, cost, 300.0)
        ledger.charge(int(cost[model]))
        waiting.append((int(cost[model]), int(cost[model] * times)))
        real += waiting[-1][1]
        if len(waiting) > delay:
            ledger.correct(1, *waiting.pop(0))
    assert 0.93 < real / (4000 * ledger.budget) < 1.02


def test_models_that_come_and_go_are_no_error():
    pacer = Pacer(Ledger(1000))
    for models in ({"a": 10.0}, {"a": 10.0, "b": 5000.0}, {"b": 5000.0}):
        for _ in range(100):
            pacer.note(dict.fromkeys(models, 0.5), models, 100.0)
    assert pacer.price >= 0.0
