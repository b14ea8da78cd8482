"""Inverse-gap weighting on a regression of rewards: which model is worth its price for *this* request.

State: per model and kind of feedback decayed sums (``decay``: exact whole numbers, so order and batches change nothing) of
``x x'``, ``x r`` and ``x p`` over its observations: ``x`` the request's context, ``r`` the reward, ``p`` the classifier's ``p_ok``
of that model (one half where it has none).

Estimate: a ridge regression of what the classifier missed. With ``c_k`` the mean of r - p in kind k, the baseline's where there
is enough of it, else of all models, so that a kind is compared only with itself,

    theta_a = (RIDGE I + sum_k t_k A_ak)^-1  sum_k t_k (b_ak - c_k A_ak e_1),            b = sum x (r - p)
    f_a(x)  = p_a(x) + theta_a . x + u_a                                                (``t_k``: ``TRUST``)

``u_a`` is what the last rewards say beyond that: the mean of what is left over, of sums that forget ``QUICK`` times as fast and
with a ridge of their own. So a model that fails is seen within some tens of its rewards, whatever it was for weeks, and evidence
that fades gives the classifier its word back, so it is tried again.

Choice: with values ``v_a`` in units of reward (``worth``: quality beyond the floor counts for nothing, then price; or, under a
budget, quality less the price of money times cost), ``b`` the best,

    P(a) = 1 / (K + gamma (v_b - v_a))  for a other than b,    P(b) = the rest;    gamma = GAIN sqrt(n + PRIOR)

n being the observations that are left. The probability is closed, so it is the propensity. Under a quality floor a model with
fewer than ``RELEASED`` observations gets that much less of its share, the baseline the difference: exploring begins with epsilon.

Source: Foster and Rakhlin, Beyond UCB: Optimal and Efficient Contextual Bandits with Regression Oracles, ICML 2020;
inverse-gap weights after Abe and Long 1999.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import log2, sqrt
from typing import Any, Final

import numpy as np

from router.contract.records import FeedbackKind
from router.core.bandit.contract import (
    HALF_LIFE_MS,
    MAX_EVENTS,
    TRUST,
    Arms,
    Event,
    Observation,
    counted,
    left_out,
    only,
    part_of,
    relabelled,
)
from router.core.bandit.decay import amount_at, scaled
from router.core.bandit.voices import LEAST, contested, shares

#: Numbers of a context: one, what the classifier says, the prompt's length, whether it needs a capability.
SIZE: Final = 4
_PAIRS: Final = tuple((i, j) for i in range(SIZE) for j in range(i, SIZE))
#: Sums of a model and kind: the upper half of ``x x'``, then ``x r``, then ``x p``; then, quick: ``x``, ``r``, ``p``.
_SLOW: Final = len(_PAIRS) + 2 * SIZE
_SUMS: Final = _SLOW + SIZE + 2

#: Observations that the classifier's word is worth.
RIDGE: Final = 8.0
#: How much faster the last rewards are forgotten than all, and how many of them their mean must be worth.
QUICK: Final = 20
QUICK_RIDGE: Final = 8.0
ANCHOR: Final = 20.0
#: How sharply the best is preferred; as if so many observations had been made before the first.
GAIN: Final = 300.0
PRIOR: Final = 100.0
RELEASED: Final = 20.0
#: What a reward below the floor costs, in rewards; the whole difference of prices is worth a margin.
HINGE: Final = 4.0
UNKNOWN: Final = 0.5

Context = tuple[float, ...]


def context_of(p_ok: float | None, prompt_tokens: int, needs: Sequence[str]) -> Context:
    """(SIZE,), each within -1..1 or so; the same for all models but for its second number.

    >>> context_of(0.75, 127, ())
    (1.0, 0.5, 0.0, 0.0)
    """
    said = UNKNOWN if p_ok is None else p_ok
    return (1.0, round(2.0 * said - 1.0, 4), _length(prompt_tokens), 1.0 if needs else 0.0)


@lru_cache(maxsize=4096)
def _length(prompt_tokens: int) -> float:
    """Of a prompt as a context has it: 0 for 127 tokens, a quarter for each doubling, within -2..2."""
    return round(min(max((log2(prompt_tokens + 1) - 7.0) / 4.0, -2.0), 2.0), 3)


def said_by(context: Context) -> float:
    """The ``p_ok`` that is in a context."""
    return (context[1] + 1.0) / 2.0


@dataclass(frozen=True, slots=True)
class Regression:
    """What routers need: ``theta`` by model (SIZE,), ``n`` observations of each, ``gamma``."""

    theta: Mapping[str, Context]
    n: Mapping[str, float]
    gamma: float


def regression_of(value: Mapping[str, Any] | None) -> Regression | None:
    """From JSON values. ``TypeError`` or ``ValueError`` for anything that is none."""
    if value is None:
        return None
    theta = {model: tuple(map(float, found)) for model, found in value["theta"].items()}
    if any(len(found) != SIZE for found in theta.values()):
        raise ValueError(f"theta: {SIZE} numbers a model are wanted")
    return Regression(theta, {model: float(n) for model, n in value["n"].items()}, float(value["gamma"]))


@dataclass(frozen=True, slots=True)
class Sums:
    """State of one stratum: scaled sums by model and kind, slow ones and quick ones; the rest as ``thompson.Beliefs`` has it."""

    sums: Mapping[tuple[str, FeedbackKind], tuple[int, ...]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    clipped: int = 0


@dataclass(frozen=True, slots=True)
class SquareCB:
    """``half_life_ms``: after this long an observation counts for half."""

    half_life_ms: int = HALF_LIFE_MS
    name: str = "squarecb"

    def empty(self) -> Sums:
        return Sums()

    def update(self, state: Sums, observations: Iterable[Observation], at_ms: int) -> Sums:
        """Adds; 20 us an observation."""
        sums = dict(state.sums)
        clipped = state.clipped
        for seen in observations:
            when_ms, weight, over = counted(seen, state.events, at_ms)
            clipped += over
            reward = min(max(seen.reward, 0.0), 1.0)
            x = seen.context if len(seen.context) == SIZE else context_of(None, 127, ())
            said = said_by(x)
            slow = [x[i] * x[j] for i, j in _PAIRS] + [c * reward for c in x] + [c * said for c in x]
            quick = [*x, reward, said]
            old = sums.get((seen.model, seen.kind), (0,) * _SUMS)
            one = scaled(weight, when_ms, self.half_life_ms)
            one_quick = scaled(weight, when_ms, self.half_life_ms // QUICK)
            sums[seen.model, seen.kind] = (
                *(total + round(amount * _UNIT) * one for total, amount in zip(old, slow, strict=False)),
                *(total + round(amount * _UNIT) * one_quick for total, amount in zip(old[_SLOW:], quick, strict=True)),
            )
        return replace(state, sums=sums, clipped=clipped)

    def forget(self, state: Sums, model: str, keep: float, at_ms: int) -> Sums:
        per_mille = round(min(max(keep, 0.0), 1.0) * 1000)
        sums = {
            key: tuple(total * per_mille // 1000 for total in found) if key[0] == model else found
            for key, found in state.sums.items()
        }
        return replace(state, sums=sums, events=(*state.events, (model, at_ms, per_mille))[-MAX_EVENTS:])

    def joined(self, state: Sums, model: str, into: str) -> Sums:
        return replace(state, sums=relabelled(state.sums, model, into))

    def pooled(self, voices: Sequence[Sums], most: float, at_ms: int) -> tuple[Sums, dict[str, float]]:
        """Of the quick sums, which a storm of an hour would fill, a voice is cut by what was said lately."""
        said = [self._said(voice, at_ms, 0, self.half_life_ms) for voice in voices]
        lately = [self._said(voice, at_ms, _SLOW, self.half_life_ms // QUICK) for voice in voices]
        models = contested(said)
        counts, of_late = shares(said, most, models), shares(lately, most, models, LEAST / QUICK)
        sums: dict[tuple[str, FeedbackKind], tuple[int, ...]] = {}
        for voice, share, late in zip(voices, counts, of_late, strict=True):
            for key, totals in voice.sums.items():
                slow, quick = share.get(key[0], 1.0), late.get(key[0], 1.0)
                have = sums.get(key, (0,) * _SUMS)
                sums[key] = tuple(
                    total + part_of(one, slow if at < _SLOW else quick)
                    for at, (total, one) in enumerate(zip(have, totals, strict=True))
                )
        return Sums(sums=sums, clipped=sum(voice.clipped for voice in voices)), left_out(said, counts)

    @staticmethod
    def _said(state: Sums, at_ms: int, first: int, half_life_ms: int) -> dict[str, float]:
        """By model, what was observed of it, faded and by trust; ``first``: where among the sums that is counted."""
        found: dict[str, float] = {}
        for (model, kind), totals in state.sums.items():
            amount = amount_at(totals[first], at_ms, half_life_ms) / _UNIT
            found[model] = found.get(model, 0.0) + TRUST[kind] * amount
        return found

    def evidence(self, state: Sums, at_ms: int) -> dict[str, float]:
        found: dict[str, float] = {}
        for (model, _), totals in sorted(state.sums.items()):
            found[model] = found.get(model, 0.0) + self._amount(totals[0], at_ms)
        return {model: round(n, 3) for model, n in found.items()}

    def regression(self, state: Sums, arms: Arms, at_ms: int) -> Regression:
        """See the module's text; 80 us a model."""
        found = {key: self._unpacked(totals, at_ms) for key, totals in state.sums.items() if key[0] in arms.models}
        kinds = {kind: _offset(found, kind, arms.baseline) for kind in sorted({kind for _, kind in found})}
        theta: dict[str, Context] = {}
        n: dict[str, float] = {}
        for model in arms.models:
            matrix, vector = RIDGE * np.eye(SIZE), np.zeros(SIZE)
            lately, left_over = np.zeros(SIZE), 0.0
            for kind, offset in kinds.items():
                one, trust = found.get((model, kind)), TRUST[kind]
                if one is None:
                    continue
                matrix += trust * one.squares
                vector += trust * (one.rewarded - one.said - offset * one.squares[:, 0])
                lately += trust * one.lately
                left_over += trust * (one.lately_rewarded - one.lately_said - offset * one.lately[0])
            fitted = np.linalg.solve(matrix, vector)
            fitted[0] += (left_over - fitted @ lately) / (lately[0] + QUICK_RIDGE)
            theta[model] = tuple(float(each) for each in fitted.round(6))
            n[model] = round(float(matrix[0, 0]) - RIDGE, 3)
        return Regression(theta, n, round(GAIN * sqrt(sum(n.values()) + PRIOR), 3))

    def weights(self, state: Sums, arms: Arms, at_ms: int) -> dict[str, float]:
        """Of a request of usual length whose answers the classifier knows nothing of: for people, and where no more is known."""
        regression = self.regression(state, arms, at_ms)
        if not any(n > 0.0 for model, n in regression.n.items() if model != arms.baseline):
            return only(arms.baseline, arms.models)
        x = context_of(None, 127, ())
        quality = {model: predict(regression, model, x) for model in arms.models}
        rank = {model: (at + 1) / len(arms.models) for at, model in enumerate(arms.models)}
        values = worth(quality, rank, quality[arms.baseline], arms.margin)
        return released(inverse_gap(values, regression.gamma), regression, arms.baseline)

    def _unpacked(self, totals: Sequence[int], at_ms: int) -> _Amounts:
        slow = [self._amount(total, at_ms) for total in totals[:_SLOW]]
        quick = [amount_at(total, at_ms, self.half_life_ms // QUICK) / _UNIT for total in totals[_SLOW:]]
        squares = np.zeros((SIZE, SIZE))
        for (i, j), amount in zip(_PAIRS, slow, strict=False):
            squares[i, j] = squares[j, i] = amount
        rest = np.array(slow[len(_PAIRS) :])
        return _Amounts(squares, rest[:SIZE], rest[SIZE:], np.array(quick[:SIZE]), *quick[SIZE:])

    def _amount(self, total: int, at_ms: int) -> float:
        return amount_at(total, at_ms, self.half_life_ms) / _UNIT

    def dump(self, state: Sums) -> Any:
        return {
            "sums": [[*key, [f"{total:x}" for total in totals]] for key, totals in sorted(state.sums.items())],
            "events": [list(event) for event in state.events],
            "clipped": state.clipped,
        }

    def load(self, value: Any) -> Sums:
        return Sums(
            sums={(model, kind): tuple(int(one, 16) for one in totals) for model, kind, totals in value["sums"]},
            events=tuple((model, at_ms, per_mille) for model, at_ms, per_mille in value["events"]),
            clipped=value["clipped"],
        )


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What is left of the sums of a model and kind: ``x x'``, ``x r``, ``x p``; and of the last: ``x``, ``r``, ``p``."""

    squares: Any
    rewarded: Any
    said: Any
    lately: Any
    lately_rewarded: float
    lately_said: float


def _offset(found: Mapping[tuple[str, FeedbackKind], _Amounts], kind: FeedbackKind, baseline: str) -> float:
    """C of the module's text: what the kind itself does to rewards. ``ANCHOR`` observations of the baseline weigh as much as all."""
    count, missed = 0.0, 0.0
    of_baseline = (0.0, 0.0)
    for (model, other), one in found.items():
        if other == kind:
            n, left = float(one.squares[0, 0]), float(one.rewarded[0] - one.said[0])
            count, missed = count + n, missed + left
            if model == baseline:
                of_baseline = n, left
    pooled = missed / count if count > 0.0 else 0.0
    return (of_baseline[1] + ANCHOR * pooled) / (of_baseline[0] + ANCHOR)


#: Amounts of an observation are rounded to this part of one before they are weighted.
_UNIT: Final = 1 << 20


def predict(regression: Regression, model: str, x: Context) -> float:
    """F of the module's text, on a scale on which the baseline is what the classifier says of it: it may leave 0..1."""
    theta = regression.theta.get(model)
    if theta is None:
        return said_by(x)
    one, said, length, needs = theta
    found = (x[1] + 1.0) / 2.0 + one + said * x[1] + length * x[2] + needs * x[3]
    return -1.0 if found < -1.0 else min(found, 2.0)


def worth(
    quality: Mapping[str, float], price: Mapping[str, float], reference: float, margin: float
) -> dict[str, float]:
    """Values under a floor of ``margin`` below the reference quality: price alone above it, quality below.

    ``price`` of one request, of any unit.
    """
    dearest = max(price.values(), default=0.0) or 1.0
    floor = reference - margin
    return {model: -margin * price[model] / dearest - HINGE * max(0.0, floor - quality[model]) for model in quality}


def inverse_gap(values: Mapping[str, float], gamma: float) -> dict[str, float]:
    """P of the module's text."""
    best = max(values, key=values.__getitem__)
    most = len(values) + gamma * values[best]
    found = {model: 1.0 / (most - gamma * value) for model, value in values.items()}
    found[best] = 1.0 - (sum(found.values()) - found[best])
    return found


#: Before any reward: the classifier's word alone, and nothing is released.
UNTAUGHT: Final = Regression({}, {}, GAIN * sqrt(PRIOR))


def released(weights: Mapping[str, float], regression: Regression, baseline: str) -> dict[str, float]:
    """What models without enough evidence do not get yet is the baseline's, where that is there."""
    if baseline not in weights:
        return dict(weights)
    found = {
        model: weight if model == baseline else weight * min(1.0, regression.n.get(model, 0.0) / RELEASED)
        for model, weight in weights.items()
    }
    found[baseline] = 1.0 - sum(weight for model, weight in found.items() if model != baseline)
    return found
