"""Vowpal Wabbit's SquareCB as an oracle of ours: written by others, the same choice rule, another regression (package ``vowpalwabbit``).

``--cb_explore_adf --squarecb`` predicts the cost of each action by online gradient descent and chooses by inverse-gap weights with
gamma = scale x sqrt(rewards seen). A cost here is ``penalty - reward``: the penalty, price of money times expected cost, is known
beforehand, so it is a feature of its own, whose weight is soon one; all other features are the context, crossed with the action.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.core.bandit import Arms, Observation, SquareCB
from router.core.bandit.decay import LANDMARK_MS
from router.core.bandit.squarecb import GAIN, context_of, predict

Array = NDArray[np.float64]

INSTALLED = importlib.util.find_spec("vowpalwabbit") is not None
#: Steps of gradients that do not shrink, so that what is old is forgotten: of two scales of gamma (its default, 10, and ours) times
#: four ways to step (its default, 0.02, 0.05, 0.1) the one with the most reward for it over all cases, on seeds 100 to 103.
FORGETTING = "--power_t 0 --learning_rate 0.05"
#: In a world that stays as it is; its default of 0.5 is still restless after 10,000 rewards.
STILL = "--learning_rate 0.1"


#: Of graded rewards in the world in which both must agree: standard deviation.
NOISE = 0.05


class Vowpal:
    """Actions 0, 1, ...; contexts of one length."""

    def __init__(self, options: str = FORGETTING, *, scale: float = GAIN) -> None:
        import vowpalwabbit  # noqa: PLC0415 - when installed

        self._scale, self._seen = scale, 0
        self._vw: Any = vowpalwabbit.Workspace(
            f"--cb_explore_adf --squarecb --gamma_scale {scale} -q sa --ignore_linear s --noconstant --quiet {options}"
        )

    @property
    def gamma(self) -> float:
        """Of the next choice."""
        return self._scale * float(np.sqrt(self._seen + 1))

    def chances(self, context: tuple[float, ...], penalties: Mapping[int, float]) -> Array:
        """Of the actions that have a penalty, in their order."""
        found = np.array(self._vw.predict([_shared(context), *(_action(*each) for each in penalties.items())]))
        return np.asarray(found / found.sum())

    def learn(self, context: tuple[float, ...], penalties: Mapping[int, float], action: int, reward: float) -> None:
        told = {each: f"0:{penalty - reward:.5f}:1 " if each == action else "" for each, penalty in penalties.items()}
        self._vw.learn([_shared(context), *(told[each] + _action(each, penalties[each]) for each in penalties)])
        self._seen += 1

    def values(self, chances: Array) -> Array:
        """What the chances were made of, up to what all have in common: P(a) = 1 / (K + gamma gap)."""
        gaps = (1.0 / np.maximum(chances, 1e-9) - len(chances)) / self.gamma
        gaps[chances.argmax()] = 0.0
        return np.asarray(-gaps)


@lru_cache(maxsize=8192)
def _shared(context: tuple[float, ...]) -> str:
    return "shared |s " + " ".join(f"x{at}:{one:.4f}" for at, one in enumerate(context))


def _action(number: int, penalty: float) -> str:
    return f"|a is{number} |c penalty:{penalty:.5f}"


def agreement(seed: int, *, rewards: int = 10_000, asked: int = 1_000) -> dict[str, float]:
    """Both learn from the same rewards of models drawn blindly, in a world that is linear and stays as it is; then both are greedy.

    ``agree``: share of new requests of which both choose the same model; ``ours_loses``, ``theirs_loses``: mean reward to the best.
    """
    draw, models = np.random.default_rng(seed), ("a", "b", "c")
    truth = draw.uniform(-0.2, 0.2, (len(models), 4))
    policy, state, oracle = SquareCB(half_life_ms=10**15), SquareCB().empty(), Vowpal(STILL)
    free = dict.fromkeys(range(len(models)), 0.0)

    def request() -> tuple[list[tuple[float, ...]], tuple[float, ...], Array]:
        """Ours for each model, theirs for all, what is true of each."""
        p, tokens, needs = draw.uniform(0.3, 0.7, len(models)), int(draw.integers(10, 2_000)), draw.random() < 0.3
        own = [context_of(float(each), tokens, ("tools",) if needs else ()) for each in p]
        mean = np.array([(x[1] + 1) / 2 + weights @ x for x, weights in zip(own, truth, strict=True)])
        return own, (1.0, *(x[1] for x in own), own[0][2], own[0][3]), np.clip(mean, 0.0, 1.0)

    seen = []
    for _ in range(rewards):
        own, shared, mean = request()
        model = int(draw.integers(len(models)))
        reward = float(np.clip(mean[model] + draw.normal(0.0, NOISE), 0.0, 1.0))
        oracle.learn(shared, free, model, reward)
        seen.append(
            Observation(
                model=models[model],
                kind="label",
                source="reviewer",
                reward=reward,
                at_ms=LANDMARK_MS,
                context=own[model],
            )
        )
    state = policy.update(state, seen, LANDMARK_MS)
    regression = policy.regression(state, Arms(models=models, baseline="c"), LANDMARK_MS)
    agree, lost = 0, np.zeros(2)
    for _ in range(asked):
        own, shared, mean = request()
        ours = int(np.argmax([predict(regression, model, x) for model, x in zip(models, own, strict=True)]))
        theirs = int(oracle.chances(shared, free).argmax())
        agree += ours == theirs
        lost += mean.max() - mean[[ours, theirs]]
    return {"agree": agree / asked, "ours_loses": float(lost[0] / asked), "theirs_loses": float(lost[1] / asked)}
