"""What another policy would have been worth, from the log of the one that ran: off-policy evaluation.

Problem: decisions i with the probabilities ``w_i`` by which they were made and the reward ``r_i`` of the model chosen, of those that
were judged. Wanted: the mean reward had the models been chosen by ``target_i``, among the same candidates.

With rho_i = target_i(a_i) / w_i(a_i) and h_i the weight of the judgement (1 / its inclusion probability):

- **SNIPS** (self-normalised inverse propensity): sum rho h r / sum rho h. Right in the mean of what would have been judged.
- **DR** (doubly robust): sum h sum_a target(a) q(a) / sum h  +  sum rho h (r - q(a_i)) / sum rho h, with q the mean reward of stratum and
  model in the *other* half of the sessions, shrunk to the model's. Narrower where these explain the rewards; assumes that whether
  an answer is judged does not depend on which model gave it.

A conversation draws once, so sessions are the units: influences are summed over each, each as large as it would be had the mean been
made without it (the jackknife: CR3), and the interval is that of Student's t, on the scale of log odds, with as many degrees of freedom
as sessions effectively count (Kish). ``effective``: that number.

Unsupported: mass of the target on models that the log never could have chosen there. No estimate sees it; above ``MOST_UNSUPPORTED``
there is none.

Who is not judged: nothing in the log tells. If a good answer is judged up to ``GAMMA`` times as often as a bad one, or the other way
round, the odds of the truth lie within that factor of the interval's (``if_judged_unevenly``).

Sources: Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS 2015; Dudik, Erhan, Langford and
Li, Doubly Robust Policy Evaluation and Optimization, Statistical Science 2014; Cameron and Miller, Cluster-Robust Inference, JHR 2015.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt, tanh
from typing import Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from router.contract.errors import PointsmanError

Array = NDArray[np.float64]

MOST_UNSUPPORTED: Final = 0.01
#: Judgements below which there is no estimate: an interval of fewer says nothing.
LEAST: Final = 20
GAMMA: Final = 2.0
#: Judgements that a model's mean is worth beside those of a stratum.
SHRINK: Final = 10.0

#: Student's t, 97.5 %, by degrees of freedom; beyond the last 1.96 + 2.4 / df.
_T: Final = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


class EvaluationError(PointsmanError):
    """There is no estimate, and why."""

    code = "no_estimate"


class Judged(NamedTuple):
    """A decision that was judged. ``logged`` and ``target`` of the models that were open, sum 1 each; ``weight`` h."""

    session: str
    stratum: str
    model: str
    logged: Mapping[str, float]
    target: Mapping[str, float]
    reward: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean reward with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """``logged``: what was; ``snips`` and ``dr``: what the target would have been; ``gain``: dr less logged, paired."""

    judged: int
    effective: float
    logged: Estimate
    snips: Estimate
    dr: Estimate
    gain: Estimate
    if_judged_unevenly: tuple[float, float]


def unsupported(pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> float:
    """Mean mass of the targets where the log has none; ``pairs``: (logged, target) of every decision, judged or not."""
    lost = [sum(mass for model, mass in target.items() if logged.get(model, 0.0) <= 0.0) for logged, target in pairs]
    return sum(lost) / len(lost) if lost else 0.0


def evaluate(judged: Sequence[Judged]) -> PolicyValue:
    """See the module's text.

    Raises:
        EvaluationError: fewer than ``LEAST`` judgements, or none that the target could have led to.
    """
    if len(judged) < LEAST:
        raise EvaluationError(f"{len(judged)} judgements; {LEAST} at least are wanted")
    numbers = {session: number for number, session in enumerate(dict.fromkeys(one.session for one in judged))}
    cluster = np.array([numbers[one.session] for one in judged])
    reward = np.array([one.reward for one in judged])
    h = np.array([one.weight for one in judged])
    rho = np.array([one.target.get(one.model, 0.0) / one.logged[one.model] for one in judged])
    weight = rho * h
    if weight.sum() <= 0.0:
        raise EvaluationError("no judged decision was one that this policy would make")
    direct, predicted = _model(judged)
    base = Mean.of(h, reward, cluster)
    snips = Mean.of(weight, reward, cluster)
    through = Mean.of(h, direct, cluster)
    correction = Mean.of(weight, reward - predicted, cluster)
    per_cluster = np.bincount(cluster, weight)
    effective = float(per_cluster.sum() ** 2 / (per_cluster**2).sum())
    dr, influence = through.value + correction.value, through.influence + correction.influence

    def estimate(value: float, of: Array, count: float) -> Estimate:
        return _between(value, _t(count - 1.0) * sqrt(float(of @ of)))

    sessions = np.bincount(cluster, h)
    gained = _t(effective - 1.0) * sqrt(float((influence - base.influence) @ (influence - base.influence)))
    return PolicyValue(
        judged=len(judged),
        effective=effective,
        logged=estimate(base.value, base.influence, float(sessions.sum() ** 2 / (sessions**2).sum())),
        snips=estimate(snips.value, snips.influence, effective),
        dr=estimate(dr, influence, effective),
        gain=Estimate(dr - base.value, dr - base.value - gained, dr - base.value + gained),
        if_judged_unevenly=_uneven(_between(dr, _t(effective - 1.0) * sqrt(float(influence @ influence)))),
    )


def _between(value: float, half: float) -> Estimate:
    """The interval of a mean of rewards 0..1, made where it is symmetric: of its log odds."""
    inside = min(max(value, 1e-6), 1.0 - 1e-6)
    middle, reach = log(inside / (1.0 - inside)), half / (inside * (1.0 - inside))
    return Estimate(value, _share(middle - reach), _share(middle + reach))


def _share(odds: float) -> float:
    return 0.5 * (1.0 + tanh(0.5 * odds))


class Mean(NamedTuple):
    """A weighted mean, and by how much it would move without each session (clusters,)."""

    value: float
    influence: Array

    @classmethod
    def of(cls, weight: Array, values: Array, cluster: NDArray[np.intp]) -> Mean:
        total = float(weight.sum())
        value = float(weight @ values) / total
        share = np.bincount(cluster, weight) / total
        moved = np.bincount(cluster, weight * (values - value)) / total
        return cls(value, moved / np.maximum(1.0 - share, 1e-9))


def _model(judged: Sequence[Judged]) -> tuple[Array, Array]:
    """Of each: the target's mean of q, and q of the model chosen; q from the half of the sessions that it is not in."""
    halves = [xxhash.xxh3_64_intdigest(one.session.encode("utf-8", "surrogatepass")) & 1 for one in judged]
    cells: dict[tuple[int, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    models: dict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    every: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one, half in zip(judged, halves, strict=True):
        for sums in (cells[half, one.stratum, one.model], models[half, one.model], every[half]):
            sums[0] += one.weight
            sums[1] += one.weight * one.reward

    def q(half: int, stratum: str, model: str) -> float:
        other = 1 - half
        whole_n, whole_s = every[other]
        whole = whole_s / whole_n if whole_n else 0.5
        model_n, model_s = models[other, model]
        mean = (model_s + SHRINK * whole) / (model_n + SHRINK)
        n, s = cells[other, stratum, model]
        return (s + SHRINK * mean) / (n + SHRINK)

    direct, chosen = np.empty(len(judged)), np.empty(len(judged))
    known: dict[tuple[int, str, str], float] = {}
    for at, (one, half) in enumerate(zip(judged, halves, strict=True)):
        for model in {*one.target, one.model}:
            key = (half, one.stratum, model)
            if key not in known:
                known[key] = q(*key)
        direct[at] = sum(mass * known[half, one.stratum, model] for model, mass in one.target.items())
        chosen[at] = known[half, one.stratum, one.model]
    return direct, chosen


def _t(freedom: float) -> float:
    """97.5 % of Student's t."""
    if freedom < 1.0:
        return _T[0]
    return _T[int(freedom) - 1] if freedom <= len(_T) else 1.96 + 2.4 / freedom


def _uneven(found: Estimate) -> tuple[float, float]:
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    return low / (low + (1.0 - low) * GAMMA), high / (high + (1.0 - high) / GAMMA)
