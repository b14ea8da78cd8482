"""What every routing policy can do, and what it may rely on.

A policy holds one state per pool and stratum and is a pure function of it:

- ``update`` is associative and commutative: any split of the same observations into batches, in any order, gives the
  *same* state. Rewards come hours late and out of order; each counts by its own time.
- A model may join or leave the pool at any time: it is a name in an observation and in ``Arms``, nothing is declared.
- ``dump``/``load`` lose nothing. Learning never stops: caps scale evidence, they do not refuse it.
- ``weights`` is deterministic: posteriors are integrated, not sampled. The exploration floor is not in it; ``decide``
  adds that, so that the propensity it records is the probability actually used.

A new policy is one file beside this one and one line in the registry (``bandit/__init__.py``); the tests in
``tests/core/test_bandit_contract.py`` then run on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from router.contract.records import FeedbackKind, FeedbackSource, Reward

State = TypeVar("State")

#: Cohorts whose answers say nothing of a model in its stratum: chosen by the caller, or never shown to anyone.
UNUSED_COHORTS = frozenset({"direct", "shadow"})

#: After this long an observation counts for half.
HALF_LIFE_MS: Final = 14 * 86_400_000

#: How much of an observation of this kind counts: reviews and labels judge quality, the others hint at it.
TRUST: Final[Mapping[FeedbackKind, float]] = {
    "review": 1.0,
    "label": 1.0,
    "survey": 0.5,
    "rating": 0.5,
    "thumbs": 0.25,
    "retry": 0.25,
    "abandon": 0.25,
}

#: A review stands for 1 / (inclusion probability) requests; beyond this one voice would drown the others.
MAX_WEIGHT: Final = 50.0

#: Labelled events that are remembered per state, so that late rewards are cut by them too.
MAX_EVENTS: Final = 32

#: A labelled event: model, when, and how much per mille of what was observed of it before remains.
Event = tuple[str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One reward of the model that was chosen and answered: ``reward`` 0..1, ``weight`` >= 0, ``at_ms`` of the feedback.

    ``context``: of the request, where the policy that decided looks at one; empty otherwise.
    """

    model: str
    kind: FeedbackKind
    source: FeedbackSource
    reward: float
    weight: float = 1.0
    at_ms: int
    context: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The models of a pool as it is now, from cheap to dear, and what the policy shall reach.

    ``margin``: how much worse than the baseline's the mean reward may be, 0..1. ``weights``: as configured.
    """

    models: tuple[str, ...]
    baseline: str
    margin: float = 0.05
    weights: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol[State]):
    """See the module's text."""

    @property
    def name(self) -> str:
        """First part of ``policy_version``."""
        ...

    def empty(self) -> State:
        """Nothing observed."""
        ...

    def update(self, state: State, observations: Iterable[Observation], at_ms: int) -> State:
        """The state with these observations in it; ``state`` stays as it was. What is newer than ``at_ms`` counts as now."""
        ...

    def forget(self, state: State, model: str, keep: float, at_ms: int) -> State:
        """A labelled event (a new version, an incident): of what was observed of ``model`` before, ``keep`` 0..1 remains."""
        ...

    def joined(self, state: State, model: str, into: str) -> State:
        """The state in which all that was observed of ``model`` was observed of ``into``."""
        ...

    def pooled(self, voices: Sequence[State], most: float, at_ms: int) -> tuple[State, dict[str, float]]:
        """The sum of what several tenants have said, none for more than ``most`` of it (``voices``): a state to look at, not to add to.

        Of each model that somebody was cut in, what did not count, 0..1.
        """
        ...

    def weights(self, state: State, arms: Arms, at_ms: int) -> dict[str, float]:
        """Probability of each model of the pool; sum 1. Without evidence all of it is the baseline's."""
        ...

    def evidence(self, state: State, at_ms: int) -> dict[str, float]:
        """Observations behind each model, as much as is left of them."""
        ...

    def dump(self, state: State) -> Any:
        """The state as plain JSON values, exactly."""
        ...

    def load(self, value: Any) -> State:
        """The inverse of ``dump``."""
        ...


def observation_of(reward: Reward, at_ms: int) -> Observation | str:
    """What a policy may learn from a reward, or why nothing.

    Where the model that answered is not the one chosen first (a fallback), the answer was given to a request that another model
    had failed: no fair sample of the answering model. What a cascade answered, by whichever model, is the cascade's.
    """
    if reward.cohort in UNUSED_COHORTS:
        return f"cohort {reward.cohort}"
    if reward.arm is None and reward.model != reward.first_model:
        return "answered by a model that was not chosen first"
    return Observation(
        model=reward.arm or reward.model,
        kind=reward.kind,
        source=reward.source,
        reward=reward.reward,
        weight=reward.weight,
        at_ms=at_ms,
        context=tuple(reward.context or ()),
    )


def counted(seen: Observation, events: Iterable[Event], now_ms: int) -> tuple[int, float, int]:
    """When an observation counts as made, its weight after clipping and events, and what was clipped off, in 1/1000."""
    when_ms, given = min(seen.at_ms, now_ms), max(seen.weight, 0.0)
    weight = min(given, MAX_WEIGHT)
    return when_ms, weight * kept(events, seen.model, when_ms), round((given - weight) * 1000)


def kept(events: Iterable[Event], model: str, at_ms: int) -> float:
    """What the labelled events since ``at_ms`` leave of an observation of that time."""
    share = 1.0
    for name, event_ms, per_mille in events:
        if name == model and at_ms < event_ms:
            share *= per_mille / 1000
    return share


def only(model: str, models: Iterable[str]) -> dict[str, float]:
    """All weight on one model."""
    return {name: float(name == model) for name in models}


def left_out(said: Sequence[Mapping[str, float]], counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each model that a voice was cut in, the share of all that was said of it that does not count. ``counts``: ``voices.shares``."""
    found: dict[str, float] = {}
    for model in sorted({model for one in counts for model in one}):
        total = sum(one.get(model, 0.0) for one in said)
        kept_of_it = sum(one.get(model, 0.0) * share.get(model, 1.0) for one, share in zip(said, counts, strict=True))
        found[model] = 1.0 - kept_of_it / total
    return found


def part_of(total: int, share: float) -> int:
    """A scaled sum times ``share`` 0..1; 1 leaves it exactly as it is."""
    return total if share >= 1.0 else total * round(share * _WHOLE) // _WHOLE


_WHOLE: Final = 1 << 40


def relabelled(sums: Mapping[Any, tuple[int, ...]], model: str, into: str) -> dict[Any, Any]:
    """Sums whose keys begin with a model's name, those of ``model`` added to those of ``into``."""
    found: dict[Any, tuple[int, ...]] = {}
    for key, totals in sums.items():
        name = (into, *key[1:]) if key[0] == model else key
        have = found.get(name)
        found[name] = totals if have is None else tuple(a + b for a, b in zip(have, totals, strict=True))
    return found
