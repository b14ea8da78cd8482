"""Probability matching on the quality floor: weight = P(the cheapest model that is good enough).

State: per model, kind of feedback and source, the decayed number of observations n and sum of rewards s (``decay``).

Model: on the scale of feedback kind k the baseline's mean reward is ``q_k``, another model's is ``q_k + delta``, with the
same ``delta`` for all kinds. Kinds are so compared only with themselves: that thumbs are gloomier than reviews, or that
one model's users answer twice as often, moves nothing. With ``q_k ~ Beta(1/2 + s_b, 1/2 + n_b - s_b)`` from the baseline's
observations and the (quasi-)Bernoulli likelihood of the model's,

with the margin m,

    p(delta | data) ~ N(delta; -3.5 m, m^2)  x  prod_k [ integral Beta(q) (q+delta)^s (1-q-delta)^(n-s) dq ] ^ trust_k

on a grid (numpy; deterministic; ``p_ok = P(delta >= -margin)``). The prior is sceptical (Spiegelhalter, Freedman, Parmar
1994): before any observation P(good enough) is 0.6 %. ``trust_k`` < 1 tempers kinds that say less. Rewards between 0 and 1
enter as fractions: their variance is at most the Bernoulli one, so this errs to the careful side.

    weight_i = p_ok_i prod_{j cheaper} (1 - p_ok_j),   the baseline is good enough by definition

taken as independent between models. A model without evidence gets none. Evidence of one source for a model and kind is
scaled down to ``CAPS``: a storm of one voice cannot make certain, yet its mean goes on moving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router.contract.records import FeedbackKind, FeedbackSource
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
from router.core.bandit.voices import contested, shares

Floats = npt.NDArray[np.float64]
Key = tuple[str, FeedbackKind, FeedbackSource]

#: Most observations of one source that count, per model and kind.
CAPS: Final[Mapping[FeedbackSource, float]] = {"reviewer": 4000.0, "user": 2000.0, "judge": 500.0, "system": 500.0}

#: Prior of delta in units of the margin: mean and spread. P(delta >= -margin) = P(Z >= 2.5) = 0.6 %.
PRIOR_MEAN: Final = -3.5
PRIOR_SPREAD: Final = 1.0
_LEAST_MARGIN: Final = 0.02

_DELTA_NODES: Final = 401
_Q_NODES: Final = 96
_WIDTH: Final = 6.0  # standard deviations that a grid spans to each side
_EDGE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Thompson:
    """``half_life_ms``: after this long an observation counts for half."""

    half_life_ms: int = HALF_LIFE_MS
    name: str = "thompson"

    def empty(self) -> Beliefs:
        return Beliefs()

    def update(self, state: Beliefs, observations: Iterable[Observation], at_ms: int) -> Beliefs:
        """Adds; 1.5 us an observation."""
        sums = dict(state.sums)
        clipped = state.clipped
        for seen in observations:
            when_ms, weight, over = counted(seen, state.events, at_ms)
            clipped += over
            key = (seen.model, seen.kind, seen.source)
            n, s = sums.get(key, (0, 0))
            sums[key] = (
                n + scaled(weight, when_ms, self.half_life_ms),
                s + scaled(weight * min(max(seen.reward, 0.0), 1.0), when_ms, self.half_life_ms),
            )
        return replace(state, sums=sums, clipped=clipped)

    def forget(self, state: Beliefs, model: str, keep: float, at_ms: int) -> Beliefs:
        """Cuts what was observed of ``model`` before ``at_ms``, also what is still to come of that time."""
        per_mille = round(min(max(keep, 0.0), 1.0) * 1000)
        sums = {
            key: (n * per_mille // 1000, s * per_mille // 1000) if key[0] == model else (n, s)
            for key, (n, s) in state.sums.items()
        }
        events = (*state.events, (model, at_ms, per_mille))[-MAX_EVENTS:]
        return replace(state, sums=sums, events=events)

    def joined(self, state: Beliefs, model: str, into: str) -> Beliefs:
        return replace(state, sums=relabelled(state.sums, model, into))

    def pooled(self, voices: Sequence[Beliefs], most: float, at_ms: int) -> tuple[Beliefs, dict[str, float]]:
        said = [self._said(voice, at_ms) for voice in voices]
        counts = shares(said, most, contested(said))
        sums: dict[Key, tuple[int, int]] = {}
        for voice, share in zip(voices, counts, strict=True):
            for key, (n, s) in voice.sums.items():
                part = share.get(key[0], 1.0)
                have_n, have_s = sums.get(key, (0, 0))
                sums[key] = have_n + part_of(n, part), have_s + part_of(s, part)
        return Beliefs(sums=sums, clipped=sum(voice.clipped for voice in voices)), left_out(said, counts)

    def _said(self, state: Beliefs, at_ms: int) -> dict[str, float]:
        """By model, what was observed of it, faded and by trust."""
        found: dict[str, float] = {}
        for (model, kind, _), (n, _) in state.sums.items():
            found[model] = found.get(model, 0.0) + TRUST[kind] * amount_at(n, at_ms, self.half_life_ms)
        return found

    def evidence(self, state: Beliefs, at_ms: int) -> dict[str, float]:
        """Decayed number of observations of each model, before caps and trust."""
        found: dict[str, float] = {}
        for (model, _, _), (n, _) in state.sums.items():
            found[model] = found.get(model, 0.0) + amount_at(n, at_ms, self.half_life_ms)
        return {model: round(n, 3) for model, n in sorted(found.items())}

    def weights(self, state: Beliefs, arms: Arms, at_ms: int) -> dict[str, float]:
        """See the module's text; about 1 ms a model and kind."""
        if arms.baseline not in arms.models:
            raise ValueError(f"baseline {arms.baseline!r} is no model of the pool")
        tallies = self._tallies(state, at_ms)
        baseline = tallies.get(arms.baseline, {})
        found = only(arms.baseline, arms.models)
        rest = 1.0
        for model in arms.models:
            if model == arms.baseline:
                break
            if tally := tallies.get(model):
                found[model] = rest * probability_good_enough(tally, baseline, arms.margin)
                rest -= found[model]
        found[arms.baseline] = rest
        return found

    def _tallies(self, state: Beliefs, at_ms: int) -> dict[str, Tally]:
        """Model -> kind -> (n, s), capped per source."""
        found: dict[str, Tally] = {}
        for (model, kind, source), (n_scaled, s_scaled) in sorted(state.sums.items()):
            n = amount_at(n_scaled, at_ms, self.half_life_ms)
            if n <= 0.0:
                continue
            s = amount_at(s_scaled, at_ms, self.half_life_ms)
            part = min(1.0, CAPS[source] / n)
            have_n, have_s = found.setdefault(model, {}).get(kind, (0.0, 0.0))
            found[model][kind] = (have_n + n * part, have_s + s * part)
        return found

    def dump(self, state: Beliefs) -> Any:
        return {
            "sums": [[*key, f"{n:x}", f"{s:x}"] for key, (n, s) in sorted(state.sums.items())],
            "events": [list(event) for event in state.events],
            "clipped": state.clipped,
        }

    def load(self, value: Any) -> Beliefs:
        return Beliefs(
            sums={(model, kind, source): (int(n, 16), int(s, 16)) for model, kind, source, n, s in value["sums"]},
            events=tuple((model, at_ms, per_mille) for model, at_ms, per_mille in value["events"]),
            clipped=value["clipped"],
        )


Tally = dict[FeedbackKind, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Beliefs:
    """State of one stratum.

    ``sums``: scaled n and s. ``events``: (model, at_ms, kept per mille). ``clipped``: weight cut off so far, in 1/1000.
    """

    sums: Mapping[Key, tuple[int, int]] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    clipped: int = 0


def probability_good_enough(model: Tally, baseline: Tally, margin: float) -> float:
    """P(delta >= -margin | data) for one model against the baseline, 0..1."""
    scale = max(margin, _LEAST_MARGIN)
    centre, spread = PRIOR_MEAN * scale, PRIOR_SPREAD * scale
    # The grid reaches from far below the margin to as far above it: evidence may pull a long way from the prior.
    delta = np.linspace(centre - _WIDTH * spread, max(centre + _WIDTH * spread, 0.5), _DELTA_NODES)
    log_density = -0.5 * ((delta - centre) / spread) ** 2
    for kind, (n, s) in sorted(model.items()):
        log_density += TRUST[kind] * _log_likelihood(delta, n, s, *baseline.get(kind, (0.0, 0.0)))
    density = np.exp(log_density - log_density.max())
    return min(float(density[delta >= -margin].sum() / density.sum()), 1.0)  # two sums of the same may round apart


def _log_likelihood(delta: Floats, n: float, s: float, baseline_n: float, baseline_s: float) -> Floats:
    """Log of the integral over the baseline's quality of (its posterior x the model's likelihood), up to a constant."""
    alpha, beta = 0.5 + baseline_s, 0.5 + baseline_n - baseline_s
    mean = alpha / (alpha + beta)
    deviation = np.sqrt(mean * (1.0 - mean) / (alpha + beta + 1.0))
    low, high = max(_EDGE, mean - _WIDTH * deviation), min(1.0 - _EDGE, mean + _WIDTH * deviation)
    q = np.linspace(low, high, _Q_NODES)
    log_prior = (alpha - 1.0) * np.log(q) + (beta - 1.0) * np.log1p(-q)
    theirs = np.clip(q + delta[:, None], _EDGE, 1.0 - _EDGE)
    log_joint = log_prior + s * np.log(theirs) + (n - s) * np.log1p(-theirs)
    peak = log_joint.max()
    found: Floats = peak + np.log(np.maximum(np.exp(log_joint - peak).sum(axis=1), 1e-300))
    return found
