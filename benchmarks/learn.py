"""What learning is worth: reward and spending of each policy on recorded answers, when only the chosen model's reward is seen.

    python benchmarks/learn.py --answers FILE [--seeds 20] [--requests 3500] [--picture regret.png] [--json]

FILE: rows of ``docs/classifier.md`` with quality *and* ``cost_usd`` of every model (also by ``POINTSMAN_BENCH_ANSWERS``). A third of
them, by a hash of their ids, teach the classifier, the regressions of both packages and the mean cost of each model; the others are the
stream, in another order each seed, again from the start when they are used up. Nobody gave feedback: a reward is the recorded
quality, dense (each request, at once) or sparse (3 of 1,000, hours late: lognormal, median 4 h, 95 % within 24 h).

| policy | |
|---|---|
| ours | the router's own code: ``core.decide`` with policy ``squarecb``, and the budget of a lane of route |
| ParetoBandit | the package of that name from PyPI (when installed), its own parameters, pacer and clock; the same numbers as context |
| Vowpal Wabbit | ``vowpal.py`` (package ``vowpalwabbit``, when installed): its regression and inverse-gap weights on the same numbers; ledger and pacer are ours, following its choices, so money has a price in its objective as in ours |
| ..., price by hindsight | the same without a ledger, at one fixed price a stream: that which spends the budget, looked for by playing it again |
| uniform, best single, oracle | a model at random; the one with the best mean that the budget affords; the best affordable mix by hindsight |

Rewards are compared at equal budgets and *at equal realised cost*: where one of the two packages leaves more than a twentieth of its
budget unspent, ours runs again with what it spent. Vowpal Wabbit is there as a test oracle: another program that minimises the same
must not find much more of it, and in a world that is linear and stays as it is both must choose alike. Beside each reward (``--json``,
details) stands that of a blind mix of two single models that costs as much. Uniform keeps no budget. Time: one decision, everything
that the policy does for it.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import logging
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks import vowpal
from benchmarks.report import Report, finish, options
from router.core.bandit import POLICIES, Arms, Observation, SquareCB
from router.core.bandit.decay import LANDMARK_MS
from router.core.bandit.squarecb import Regression, context_of, inverse_gap, predict
from router.core.budget import Ledger, Pacer
from router.core.decide import decide
from router.core.facts import Choice, RequestFacts
from router.core.features import features_of
from router.core.mix import walk
from router.core.price import Price
from router.core.records import Spending
from router.core.snapshot import ModelFacts, PoolFacts, Snapshot, StratumWeights
from router.stages.route_budgets import Budgets
from router.train.fit import fit
from router.train.rows import read_rows

Array = NDArray[np.float64]

ANSWERS = "POINTSMAN_BENCH_ANSWERS"
NANO = 1_000_000_000
HOUR_MS = 3_600_000
#: A day of the product's main world.
STEP_MS = 2_160
#: Of the stream's time: long enough to learn by, short enough to see a model fail. 14 days where there is a month of traffic.
HALF_LIFE_MS = 3_000 * STEP_MS
#: Mean cost of a request, as multiples of the second cheapest model's.
BUDGETS = {"tight": 0.6, "medium": 1.2, "loose": 20.0}
FAILED = 0.3
#: A policy that spends less than this share of its budget is compared once more: ours with a budget of what it spent.
SPENT = 0.95
PARETO, VOWPAL, HINDSIGHT = "ParetoBandit", "Vowpal Wabbit", "Vowpal Wabbit, price by hindsight"
#: An oracle that finds more than so much reward at our cost knows something that ours does not.
ORACLE_MARGIN = 0.01
#: Prices of money among which the rows that teach Vowpal Wabbit are spread, so that it knows what a penalty is.
TAUGHT_PRICES = (1e-3, 1.0)
#: A price by hindsight is found when it spends this much of the budget; it is looked for so many times, in steps of this factor.
NEAR_BUDGET, TRIES, STEP = (0.98, 1.005), 6, 1.5
POOL, STRATUM = "auto", "all/all"
CAVEATS = [
    "rewards are judges' scores of recorded answers, no user's; a third of all prompts are ties, the dearer two models nearly equal",
    "costs are those of the recorded calls; expected cost is each model's mean on the third that teaches, times its price now",
]


@dataclass(frozen=True)
class World:
    """Answers to n prompts. ``p_ok``, ``quality``, ``cost`` (n, models), cost in nano-dollars; ``tokens`` (n,)."""

    models: tuple[str, ...]
    p_ok: Array
    quality: Array
    cost: Array
    tokens: NDArray[np.int64]
    teaching: NDArray[np.bool_]

    @property
    def expected(self) -> Array:
        """Mean cost of each model, known beforehand."""
        return self.cost[self.teaching].mean(axis=0)


@dataclass(frozen=True)
class Stream:
    """One order of requests. ``rows`` (t,); ``quality``, ``cost``, ``price`` (t, models): ``price`` times the listed one."""

    rows: NDArray[np.intp]
    quality: Array
    cost: Array
    price: Array
    seed: int


@dataclass
class Run:
    """What a policy did. ``chosen`` (t,)."""

    chosen: NDArray[np.intp]
    reward: float
    cost: float
    overshoot: float
    decision_us: float
    regret: Array = field(repr=False)


class Chooser(Protocol):
    """A policy on a stream. ``prepare`` is not part of a decision's time."""

    def prepare(self, at: int) -> None: ...
    def choose(self, at: int) -> int: ...
    def paid(self, at: int, model: int, cost: float) -> None: ...
    def learn(self, at: int, model: int, reward: float, at_ms: int) -> None: ...


def world_of(file: Path) -> World:
    rows = read_rows([file])
    models = tuple(sorted(rows[0].arms, key=lambda model: sum(row.arms[model].cost_usd or 0.0 for row in rows)))
    teaching = np.array([xxhash.xxh3_64_intdigest(row.id.encode()) % 3 == 0 for row in rows])
    fitted = fit([row for row, teaches in zip(rows, teaching, strict=True) if teaches])
    read = [row.prompt.read() for row in rows]
    heads = fitted.artefact.heads
    p_ok = heads.p_ok(features_of([ids for _, ids in read]))
    return World(
        models=models,
        p_ok=p_ok[:, [heads.models.index(model) for model in models]],
        quality=np.array([[row.arms[model].quality for model in models] for row in rows]),
        cost=np.array([[(row.arms[model].cost_usd or 0.0) * NANO for model in models] for row in rows]),
        tokens=np.array([tokens.tokens for tokens, _ in read]),
        teaching=teaching,
    )


def stream_of(world: World, seed: int, requests: int, *, fails: int | None = None, dearer: int | None = None) -> Stream:
    """``fails``: the model whose quality is ``FAILED`` in the middle third; ``dearer``: that costs five times as much from half-way on."""
    draw, rows = np.random.default_rng(seed), np.flatnonzero(~world.teaching)
    passes = [draw.permutation(rows) for _ in range(-(-requests // len(rows)))]
    order = np.concatenate(passes)[:requests]
    quality, cost = world.quality[order].copy(), world.cost[order].copy()
    price = np.ones_like(cost)
    if fails is not None:
        middle = slice(requests // 3, 2 * requests // 3)
        quality[middle, fails] = np.minimum(quality[middle, fails], FAILED)
    if dearer is not None:
        price[requests // 2 :, dearer] = 5.0
    return Stream(order, quality, cost * price, price, seed)


class Ours:
    """The router's own decision, its learner and its budget."""

    def __init__(self, world: World, stream: Stream, budget: float) -> None:
        self._world, self._stream = world, stream
        self._policy = SquareCB(half_life_ms=HALF_LIFE_MS)
        self._arms = Arms(models=world.models, baseline=world.models[-1])
        self._state = self._policy.empty()
        self._budget = int(budget * NANO)
        self._budgets = Budgets([])
        self._news = True
        self._charged: dict[int, int] = {}
        self._price: tuple[float, ...] = ()

    def prepare(self, at: int) -> None:
        """The request as the router has read it. Snapshots are made at most once a second, and not by its decisions."""
        if self._news or tuple(self._stream.price[at]) != self._price:
            self._publish(at)
        world, row = self._world, self._stream.rows[at]
        self._pool = self._snapshot.pools[POOL]
        self._facts = RequestFacts(
            request_id=f"{self._stream.seed}-{at}",
            attempt=1,
            reason="routed",
            tenant="default",
            session=None,
            target=POOL,
            stratum=STRATUM,
            prompt_tokens=int(world.tokens[row]),
            tokens_estimated=False,
            completion_tokens=None,
            answers=1,
            needs=(),
            max_cost_nano_usd=None,
            at_ms=LANDMARK_MS,
            deadline_at_ms=LANDMARK_MS + HOUR_MS,
            p_ok=dict(zip(world.models, world.p_ok[row].tolist(), strict=True)),
            purse=self._budgets.purse(self._pool),
        )

    def choose(self, at: int) -> int:
        choice = decide(self._facts, self._snapshot)
        assert isinstance(choice, Choice)
        self._charged[at] = self._budgets.charge(self._pool, choice)
        return self._world.models.index(choice.model)

    def paid(self, at: int, model: int, cost: float) -> None:  # noqa: ARG002 - the protocol's
        done = Spending(pool=POOL, requests=1, charged=self._charged.pop(at), cost=int(cost))
        self._budgets.correct(self._snapshot.pools[POOL], done)

    def learn(self, at: int, model: int, reward: float, at_ms: int) -> None:
        world, row = self._world, self._stream.rows[at]
        seen = Observation(
            model=world.models[model],
            kind="label",
            source="reviewer",
            reward=reward,
            at_ms=at_ms,
            context=context_of(round(float(world.p_ok[row, model]), 4), int(world.tokens[row]), ()),
        )
        self._state = self._policy.update(self._state, [seen], at_ms)
        self._news = True

    def _publish(self, at: int) -> None:
        """As ``learn`` and the snapshot do, at most once a second: a request of the stream takes two."""
        self._news, self._price = False, tuple(self._stream.price[at])
        regression = self._policy.regression(self._state, self._arms, _time_ms(at))
        models = {
            name: ModelFacts(
                name=name,
                provider_model=name,
                context_window=10**9,
                max_output_tokens=256,
                capabilities=frozenset(),
                # One price for all: a call of usual length costs what the model's calls cost in the mean.
                price=Price(output_nano_usd_per_token=max(1, round(cost * dearer / 256))),
            )
            for name, cost, dearer in zip(self._world.models, self._world.expected, self._stream.price[at], strict=True)
        }
        pool = PoolFacts(
            name=POOL,
            models=self._world.models,
            baseline=self._world.models[-1],
            policy="squarecb",
            weights={},
            epsilon=0.0,
            rollout_percent=100.0,
            holdout_percent=0.0,
            sticky=False,
            objective="budget",
            budget_nano_usd=self._budget,
        )
        learned = StratumWeights(weights={}, policy_version="squarecb:1", regression=regression)
        self._snapshot = Snapshot.build(models=models, pools={POOL: pool}, weights={(POOL, STRATUM): learned})


class ParetoBandit:
    """The package as its users have it; taught with the same rows that taught the classifier."""

    def __init__(self, world: World, stream: Stream, budget: float) -> None:
        from pareto_bandit.budget_pacer import BudgetPacer  # noqa: PLC0415 - when installed
        from pareto_bandit.config import BEST_K3_HPARAMS  # noqa: PLC0415
        from pareto_bandit.feature_service import FeatureService  # noqa: PLC0415
        from pareto_bandit.router import BanditRouter  # noqa: PLC0415

        self._world, self._stream = world, stream
        self._per_m = {name: cost / NANO / 700 * 1e6 for name, cost in zip(world.models, world.expected, strict=True)}
        self._router = BanditRouter.create(
            model_registry={
                name: {"input_cost_per_m": cost, "output_cost_per_m": cost} for name, cost in self._per_m.items()
            },
            feature_service=FeatureService.for_precomputed(len(world.models) + 2),
            priors="none",
            budget_pacer=BudgetPacer(budget),
            bandit_seed=stream.seed,
            alpha=BEST_K3_HPARAMS["alpha"],
            forgetting_factor=BEST_K3_HPARAMS["forgetting_factor"],
        )
        for row in np.flatnonzero(world.teaching):
            for at, name in enumerate(world.models):
                self._router.bandit.update(name, self._context(row), float(world.quality[row, at]), advance_time=False)
        self._price = tuple(np.ones(len(world.models)))

    def prepare(self, at: int) -> None:
        """Prices as they are now."""
        price = tuple(self._stream.price[at])
        if price != self._price:
            self._price = price
            for name, times in zip(self._world.models, price, strict=True):
                cost = self._per_m[name] * times
                self._router.update_model_pricing(name, input_cost_per_m=cost, output_cost_per_m=cost)

    def choose(self, at: int) -> int:
        model, _ = self._router.route(self._context(self._stream.rows[at]), input_tokens=100)
        return self._world.models.index(model)

    def paid(self, at: int, model: int, cost: float) -> None:  # noqa: ARG002 - the protocol's
        self._router.budget_pacer.observe(cost / NANO)

    def learn(self, at: int, model: int, reward: float, at_ms: int) -> None:  # noqa: ARG002
        context = self._context(self._stream.rows[at])
        self._router.bandit.update(self._world.models[model], context, reward, advance_time=False)

    def _context(self, row: int) -> Array:
        return context(self._world, row)


def context(world: World, row: int) -> Array:
    """The same numbers as ours, in one: what the classifier says of each model, the length; its bias last."""
    length = context_of(None, int(world.tokens[row]), ())[2]
    return np.array([*(2.0 * world.p_ok[row] - 1.0), length, 1.0])


class VowpalWabbit:
    """Its learner and its choice. Ledger and price of money are ours; with ``price`` there is none but that, and no ledger."""

    def __init__(self, world: World, stream: Stream, budget: float, price: float | None = None) -> None:
        self._world, self._stream, self._fixed = world, stream, price
        self._learner = vowpal.Vowpal()
        self._budget = budget * NANO
        self._ledger = Ledger(int(self._budget))
        self._pacer = Pacer(self._ledger)
        self._draw = np.random.default_rng(stream.seed + 2)
        self._penalties: dict[int, dict[int, float]] = {}
        self._owed = 0
        self._known = [tuple(context(world, row).tolist()) for row in range(len(world.tokens))]
        draw, count = np.random.default_rng(stream.seed + 3), len(world.models)
        low, high = np.log(TAUGHT_PRICES)
        for row in draw.permutation(np.flatnonzero(world.teaching)):
            for model in draw.permutation(count):
                drawn = math.exp(draw.uniform(low, high)) if draw.random() < 0.8 else 0.0
                penalties = self._priced(drawn if price is None else price, world.expected)
                self._learner.learn(self._known[row], penalties, int(model), float(world.quality[row, model]))

    def prepare(self, at: int) -> None: ...

    def choose(self, at: int) -> int:
        known = self._known[self._stream.rows[at]]
        expected = self._world.expected * self._stream.price[at]
        price = self._pacer.price if self._fixed is None else self._fixed
        penalties = self._penalties[at] = self._priced(price, expected)
        chances = self._learner.chances(known, penalties)
        if self._fixed is None:
            quality = self._learner.values(chances) + np.array(list(penalties.values()))
            models = self._world.models
            self._pacer.note(
                dict(zip(models, quality.tolist(), strict=True)),
                dict(zip(models, expected.tolist(), strict=True)),
                self._learner.gamma,
            )
            affordable = {model: penalties[model] for model in np.flatnonzero(self._affordable(expected)).tolist()}
            if len(affordable) < len(penalties):
                chances = np.zeros(len(penalties))
                chances[list(affordable)] = self._learner.chances(known, affordable)
        chosen = min(int(np.searchsorted(np.cumsum(chances), self._draw.random(), "right")), len(chances) - 1)
        self._owed = int(expected[chosen])
        self._ledger.charge(self._owed)
        return chosen

    def paid(self, at: int, model: int, cost: float) -> None:  # noqa: ARG002 - the protocol's
        self._ledger.correct(1, self._owed, int(cost))

    def learn(self, at: int, model: int, reward: float, at_ms: int) -> None:  # noqa: ARG002
        self._learner.learn(self._known[self._stream.rows[at]], self._penalties.pop(at), model, reward)

    def _priced(self, price: float, expected: Array) -> dict[int, float]:
        return dict(enumerate((price / self._budget * expected).tolist()))

    def _affordable(self, expected: Array) -> NDArray[np.bool_]:
        """As ``core.decide`` has it."""
        ledger = self._ledger
        room = ledger.left + ledger.budget + max(ledger.burst, ledger.dearer * float(expected.max()))
        return expected <= max(room / ledger.dearer, float(expected.min()))


class Uniform:
    """Any model."""

    def __init__(self, world: World, stream: Stream, budget: float) -> None:  # noqa: ARG002 - as all
        self._draw, self._count = np.random.default_rng(stream.seed + 1), len(world.models)

    def prepare(self, at: int) -> None: ...
    def choose(self, at: int) -> int:  # noqa: ARG002
        return int(self._draw.integers(self._count))

    def paid(self, at: int, model: int, cost: float) -> None: ...
    def learn(self, at: int, model: int, reward: float, at_ms: int) -> None: ...


def _time_ms(at: int) -> int:
    return LANDMARK_MS + 10_000 * HOUR_MS + at * STEP_MS


def play(kind: Any, world: World, stream: Stream, budget: float, *, sparse: bool) -> Run:
    """One policy on one stream."""
    chooser: Chooser = kind(world, stream, budget)
    draw = np.random.default_rng(stream.seed + 1000)
    count = len(stream.rows)
    chosen, spent_s = np.zeros(count, np.intp), 0.0
    waiting: list[tuple[float, int, int]] = []
    for at in range(count):
        chooser.prepare(at)
        began_s = time.perf_counter()
        model = chooser.choose(at)
        spent_s += time.perf_counter() - began_s
        chosen[at] = model
        chooser.paid(at, model, float(stream.cost[at, model]))
        if not sparse:
            chooser.learn(at, model, float(stream.quality[at, model]), _time_ms(at))
        elif draw.random() < 0.003:
            late_ms = HOUR_MS * draw.lognormal(math.log(4.0), math.log(6.0) / 1.645)
            heapq.heappush(waiting, (_time_ms(at) + late_ms, at, model))
        while waiting and waiting[0][0] <= _time_ms(at):
            came_ms, old, of = heapq.heappop(waiting)
            chooser.learn(old, of, float(stream.quality[old, of]), int(came_ms))
    every = np.arange(count)
    reward, cost = stream.quality[every, chosen], stream.cost[every, chosen] / NANO
    best = stream.quality[every, oracle(stream, budget)]
    return Run(
        chosen=chosen,
        reward=float(reward.mean()),
        cost=float(cost.mean()),
        overshoot=max(0.0, float(cost.sum()) / (budget * count) - 1.0),
        decision_us=spent_s / count * 1e6,
        regret=np.cumsum(best - reward),
    )


def oracle(stream: Stream, budget: float) -> NDArray[np.intp]:
    """By hindsight: of each request the model that a price of money would choose with which the budget is kept."""
    scaled = stream.cost / NANO / budget
    every = np.arange(len(scaled))

    def chosen(price: float) -> NDArray[np.intp]:
        return np.asarray((stream.quality - price * scaled).argmax(axis=1))

    low, high = -1e-9, 1e6
    for _ in range(60):
        price = (low + high) / 2.0
        over = scaled[every, chosen(price)].mean() > 1.0
        low, high = (price, high) if over else (low, price)
    return chosen(max(high, 0.0))


def mix_at(stream: Stream, cost: float) -> float:
    """Reward of the best blind mix of two single models (or one) that costs no more."""
    rewards, costs = stream.quality.mean(axis=0), stream.cost.mean(axis=0) / NANO
    found = [reward for reward, each in zip(rewards, costs, strict=True) if each <= cost]
    for one in range(len(costs)):
        for other in range(len(costs)):
            if costs[one] < cost < costs[other]:
                share = (cost - costs[one]) / (costs[other] - costs[one])
                found.append((1 - share) * rewards[one] + share * rewards[other])
    return float(max(found, default=rewards[int(np.argmin(costs))]))


def by_hindsight(world: World, stream: Stream, budget: float, *, sparse: bool, guess: float) -> tuple[Run, float]:
    """Vowpal Wabbit at a fixed price with which it keeps the budget, the dearest such run of ``TRIES``; that price."""
    low, high, price = 0.0, math.inf, guess
    best: tuple[Run, float] | None = None
    for _ in range(TRIES):
        run = play(partial(VowpalWabbit, price=price), world, stream, budget, sparse=sparse)
        spent = run.cost / budget
        if spent > NEAR_BUDGET[1]:
            low = price or TAUGHT_PRICES[0] / STEP
        else:
            high = price
            if best is None or run.cost > best[0].cost:
                best = run, price
            if spent > NEAR_BUDGET[0] or price == 0.0:
                break
        price = between(low, high)
    return best or (run, price)


def between(low: float, high: float) -> float:
    """The next price to try when the last ones were too low (0: none was) and too high."""
    if high == math.inf:
        return STEP * low
    if low == 0.0:
        return high / STEP if high > STEP * TAUGHT_PRICES[0] else 0.0
    return math.sqrt(low * high)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 %, of the mean."""
    mean = statistics.mean(values)
    half = 2.1 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean - half, mean + half


def kinds() -> dict[str, Any]:
    found: dict[str, Any] = {"ours": Ours}
    if importlib.util.find_spec("pareto_bandit"):
        found[PARETO] = ParetoBandit
    if vowpal.INSTALLED:
        found[VOWPAL] = VowpalWabbit
    return found | {"uniform": Uniform}


def updates_per_s(name: str, rewards: int = 3_000) -> float:
    """Rewards a second that a policy takes in, in batches of 100."""
    policy, context = POLICIES[name], context_of(0.7, 200, ())
    seen = [
        Observation(
            model="ab"[at % 2], kind="label", source="reviewer", reward=1.0, at_ms=_time_ms(at), context=context
        )
        for at in range(rewards)
    ]
    state, began_s = policy.empty(), time.perf_counter()
    for at in range(0, rewards, 100):
        state = policy.update(state, seen[at : at + 100], _time_ms(rewards))
    return rewards / (time.perf_counter() - began_s)


def policy_alone_us(world: World, times: int = 5_000) -> float:
    """Of a decision only what is the policy's: contexts, predictions, values, probabilities, the choice."""
    theta = dict.fromkeys(world.models, (0.01, 0.2, -0.03, 0.0))
    regression, cost = Regression(theta, {}, 1000.0), dict(zip(world.models, world.expected.tolist(), strict=True))
    rows = [dict(zip(world.models, row.tolist(), strict=True)) for row in world.p_ok[:100]]
    best_s = math.inf
    for _ in range(5):
        began_s = time.perf_counter()
        for at in range(times):
            said, tokens = rows[at % 100], 50 + at % 400
            quality = {model: predict(regression, model, context_of(p, tokens, ())) for model, p in said.items()}
            values = {model: q - 1e-7 * cost[model] for model, q in quality.items()}
            walk(inverse_gap(values, regression.gamma), 0.5)
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s / times * 1e6


def single(stream: Stream, budget: float) -> Run:
    """The one model with the best mean that the budget affords."""
    costs = stream.cost.mean(axis=0) / NANO
    fits = [at for at in range(len(costs)) if costs[at] <= budget] or [int(np.argmin(costs))]
    best = max(fits, key=lambda at: stream.quality[:, at].mean())
    chosen = np.full(len(stream.rows), best)
    return _fixed(stream, budget, chosen)


def _fixed(stream: Stream, budget: float, chosen: NDArray[np.intp]) -> Run:
    every = np.arange(len(chosen))
    reward, cost = stream.quality[every, chosen], stream.cost[every, chosen] / NANO
    best = stream.quality[every, oracle(stream, budget)]
    return Run(chosen, float(reward.mean()), float(cost.mean()), 0.0, 0.0, np.cumsum(best - reward))


def cases() -> Iterator[tuple[str, float, bool, dict[str, Any]]]:
    """(name, budget's multiple, sparse feedback, what happens)."""
    for name, times in BUDGETS.items():
        yield f"{name} budget, dense feedback", times, False, {}
    for name in ("tight", "medium"):
        yield f"{name} budget, sparse feedback", BUDGETS[name], True, {}
    for name in ("tight", "loose"):
        yield f"{name} budget, a model fails and comes back", BUDGETS[name], False, {"fails": 1}
    yield "medium budget, a price rises fivefold", BUDGETS["medium"], False, {"dearer": 1}


def played(world: World, streams: Sequence[Stream], budget: float, *, sparse: bool) -> dict[str, list[Run]]:
    """Each policy on each stream."""
    runs = {
        policy: [play(kind, world, stream, budget, sparse=sparse) for stream in streams]
        for policy, kind in kinds().items()
    }
    if VOWPAL in runs:
        runs[HINDSIGHT], guess = [], 0.05
        for stream in streams:
            run, price = by_hindsight(world, stream, budget, sparse=sparse, guess=guess)
            guess = price or guess
            runs[HINDSIGHT].append(run)
    runs["best single"] = [single(stream, budget) for stream in streams]
    runs["oracle"] = [_fixed(stream, budget, oracle(stream, budget)) for stream in streams]
    return runs


def measure(file: Path, *, seeds: int, requests: int, picture: Path | None) -> Report:
    report = Report("learn", caveats=CAVEATS)
    world = world_of(file)
    curves: dict[str, dict[str, Array]] = {}
    table: dict[str, Any] = {}
    for name, times, sparse, happens in cases():
        budget = float(times * world.expected[1] / NANO)
        count = requests * (10 if sparse else 1)
        streams = [stream_of(world, seed, count, **happens) for seed in range(seeds)]
        runs = played(world, streams, budget, sparse=sparse)
        curves[name] = {policy: np.mean([run.regret for run in found], axis=0) for policy, found in runs.items()}
        table[name] = {policy: _summary(world, streams, found) for policy, found in runs.items()}
        for other in (PARETO, VOWPAL):
            theirs = table[name].get(other)
            if theirs is not None and theirs["cost_usd"] < SPENT * budget:
                again = runs[at_cost_of(other)] = [
                    play(Ours, world, stream, theirs["cost_usd"], sparse=sparse) for stream in streams
                ]
                table[name][at_cost_of(other)] = _summary(world, streams, again)
        _say(
            report,
            name,
            budget,
            table[name],
            runs,
            dearest_usd=float(world.expected.max() / NANO),
            fails=happens.get("fails"),
        )
    alone_us = policy_alone_us(world)
    theirs = next(iter(table.values())).get(PARETO)
    if theirs is not None:
        report.add(
            "what of a decision is the policy's, ours",
            round(alone_us, 1),
            "us",
            reference=theirs["decision_us"],
            reference_is=PARETO,
            goal="<= 1/3 of it",
            met=alone_us <= theirs["decision_us"] / 3,
        )
    for name in ("thompson", "squarecb"):
        report.add(f"updates a second, {name}", round(updates_per_s(name)), "rewards")
    if vowpal.INSTALLED:
        _agree(report, seeds)
    report.details["table"] = table
    for field_name, other in (("learn_reward_to_paretobandit", PARETO), ("learn_reward_to_vowpalwabbit", VOWPAL)):
        report.fields[field_name] = {
            name: round(found["ours"]["reward"] / found[other]["reward"], 4)
            for name, found in table.items()
            if other in found
        }
    report.details["seeds"], report.details["requests"] = seeds, requests
    if picture is not None:
        _draw(picture, curves)
    return report


def at_cost_of(other: str) -> str:
    return f"ours, with what {other} spent"


def _agree(report: Report, seeds: int) -> None:
    """Ours and Vowpal Wabbit in a world that is linear and stays as it is."""
    worlds = [vowpal.agreement(seed) for seed in range(seeds)]
    agree, ours, theirs = (statistics.mean(each[name] for each in worlds) for name in worlds[0])
    name = "a linear world that stays as it is"
    report.add(f"{name}: choices that agree", round(agree, 4), "of all", goal=">= 0.95", met=agree >= 0.95)
    report.add(
        f"{name}: reward lost to the truth, ours", round(ours, 5), "", reference=round(theirs, 5), reference_is=VOWPAL
    )


def _summary(world: World, streams: Sequence[Stream], runs: Sequence[Run]) -> dict[str, Any]:
    above = [run.reward - mix_at(stream, run.cost) for run, stream in zip(runs, streams, strict=True)]
    return {
        "reward": round(statistics.mean(run.reward for run in runs), 4),
        "cost_usd": round(statistics.mean(run.cost for run in runs), 7),
        "above_blind_mix": round(statistics.mean(above), 4),
        "overshoot_max": round(max(run.overshoot for run in runs), 4),
        "decision_us": round(statistics.median(run.decision_us for run in runs), 1),
        "share": {
            model: round(float(np.mean([np.mean(run.chosen == at) for run in runs])), 3)
            for at, model in enumerate(world.models)
        },
    }


def _say(
    report: Report,
    name: str,
    budget: float,
    found: dict[str, Any],
    runs: dict[str, list[Run]],
    *,
    dearest_usd: float,
    fails: int | None,
) -> None:
    ours, theirs = found["ours"], found.get(PARETO)
    allowed = max(0.01, dearest_usd / (budget * len(runs["ours"][0].chosen)))
    for policy, one in found.items():
        how: dict[str, Any] = {}
        if policy in ("ours", at_cost_of(PARETO)) and theirs is not None:
            how = {
                "reference": theirs["reward"],
                "reference_is": PARETO,
                "goal": ">= its reward",
                "met": one["reward"] >= theirs["reward"],
            }
        report.add(f"{name}: reward, {policy}", one["reward"], f"at ${one['cost_usd']:.6f} of ${budget:.6f}", **how)
    for other in (PARETO, VOWPAL):
        if other not in found:
            report.add(f"{name}: reward, {other}", None, "not installed")
    if VOWPAL in found:
        at = at_cost_of(VOWPAL) if at_cost_of(VOWPAL) in found else "ours"
        less = [one.reward - other.reward for one, other in zip(runs[at], runs[VOWPAL], strict=True)]
        low, high = interval(less)
        report.add(
            f"{name}: reward, ours less {VOWPAL} at equal cost",
            round(statistics.mean(less), 4),
            f"[{low:.4f}, {high:.4f}] by seeds",
            goal=f">= -{ORACLE_MARGIN}",
            met=statistics.mean(less) >= -ORACLE_MARGIN,
        )
    report.add(
        f"{name}: overshoot, ours, largest of all seeds",
        ours["overshoot_max"],
        "of the budget",
        goal=f"<= {allowed:.3g} or one call of the dearest model",
        met=ours["overshoot_max"] <= allowed,
    )
    if theirs is not None:
        report.add(
            f"{name}: a decision, ours",
            ours["decision_us"],
            "us",
            reference=theirs["decision_us"],
            reference_is=PARETO,
            goal="<= 1/3 of it",
            met=ours["decision_us"] <= theirs["decision_us"] / 3,
        )
    if fails is not None:
        thirds = [[float(np.mean(part == fails)) for part in np.array_split(run.chosen, 3)] for run in runs["ours"]]
        before, during, after = np.mean(thirds, axis=0)
        report.add(f"{name}: share of that model before", round(float(before), 3), "of the requests")
        report.add(f"{name}: share of it while it fails", round(float(during), 3), "of the requests")
        report.add(f"{name}: share of it afterwards", round(float(after), 3), "of the requests")


def _draw(file: Path, curves: dict[str, dict[str, Array]]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only to draw

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    lines = {
        "ours": ("#1f5fa8", "-"),
        PARETO: ("#c2571a", "-"),
        VOWPAL: ("#7b4fa3", "-"),
        HINDSIGHT: ("#7b4fa3", ":"),
        "uniform": ("#9aa0a6", "-"),
        "best single": ("#3a8a4d", "-"),
    }
    figure, axes = plt.subplots(2, 4, figsize=(16, 7.2), constrained_layout=True)
    for one, (name, found) in zip(axes.flat, curves.items(), strict=False):
        for policy, curve in found.items():
            if policy in lines:
                colour, style = lines[policy]
                one.plot(np.arange(1, len(curve) + 1), curve, color=colour, linestyle=style, label=policy, linewidth=2)
        top = max(float(found[policy].max()) for policy in found if policy not in ("uniform", "oracle"))
        one.set_ylim(min(0.0, *(float(found[policy].min()) for policy in found)), 1.15 * top)
        one.set_title(name, loc="left", fontsize=10)
        one.set_xlabel("requests")
        one.set_ylabel("regret to the oracle, summed")
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        one.grid(alpha=0.25)
    axes.flat[0].legend(frameon=False)
    figure.savefig(file, dpi=130)


def parsed_with_answers(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """With ``answers``, a file: as the option says, or the variable; one of the two is wanted."""
    named = os.environ.get(ANSWERS)
    parser.add_argument("--answers", type=Path, default=Path(named) if named else None)
    asked = parser.parse_args()
    if asked.answers is None:
        parser.error(f"--answers FILE, or {ANSWERS}: recorded answers of several models are wanted")
    return asked


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=3_500)
    parser.add_argument("--picture", type=Path)
    asked = parsed_with_answers(parser)
    logging.disable(logging.CRITICAL)  # of others
    finish(measure(asked.answers, seeds=asked.seeds, requests=asked.requests, picture=asked.picture), asked.json)


if __name__ == "__main__":
    main()
