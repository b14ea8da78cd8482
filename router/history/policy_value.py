"""What a candidate policy would have been worth and have cost, from the decisions and rewards in the topics.

A candidate is fixed weights, one set for all strata, others for some; or the classifier's word, request by request: the cheapest model
whose ``p_ok`` is at most a margin below that of the baseline. Of each decision they count among the models that were
open then (nothing that was excluded comes back), as its router would have had it. Only pilot traffic speaks: holdout, control, pinned and
direct requests were nobody's draw. A request's reward is that of its first choice, whoever answered in the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from router.config.toml import read_toml
from router.contract.codec import decode
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import Decision, Reward
from router.contract.topics import Names
from router.core.ope import MOST_UNSUPPORTED, EvaluationError, Judged, PolicyValue, evaluate
from router.core.reward import of_the_result
from router.kafka.client import Client
from router.kafka.scan import scan


@dataclass(frozen=True, slots=True)
class Candidate:
    """``weights`` by model, of any sum; ``strata``: those of a stratum, instead.

    ``margin``: neither counts where ``p_ok`` of the request is known: then it is the cheapest model at most this much below ``baseline``.
    """

    weights: Mapping[str, float]
    strata: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    margin: float | None = None
    baseline: str = ""

    def of(self, decision: Decision, models: list[str]) -> dict[str, float]:
        """What it would have done with this request; ``models`` that were open, cheap to dear."""
        if self.margin is not None:
            p_ok = {one.model: one.p_ok for one in decision.candidates or () if one.p_ok is not None}
            if self.baseline in p_ok:
                floor = p_ok[self.baseline] - self.margin
                good = [model for model in models if p_ok.get(model, -1.0) >= floor]
                return {model: float(model == (good or models[-1:])[0]) for model in models}
        return self.among(decision.stratum or "", models)

    def among(self, stratum: str, models: list[str]) -> dict[str, float]:
        """Of these models, cheap to dear, sum 1; the dearest where the candidate has none of them."""
        weights = self.strata.get(stratum, self.weights)
        total = sum(weights.get(model, 0.0) for model in models)
        if total <= 0.0:
            return {model: float(model == models[-1]) for model in models}
        return {model: weights.get(model, 0.0) / total for model in models}


@dataclass(slots=True)
class Found:
    """``decisions`` that count; ``unsupported`` mass 0..1; mean expected cost of a request, as logged and of the candidate."""

    decisions: int = 0
    unsupported: float = 0.0
    logged_nano_usd: float = 0.0
    candidate_nano_usd: float = 0.0
    kinds: dict[str, PolicyValue | str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """JSON values; of a kind without an estimate, why."""
        kinds = {kind: {"error": one} if isinstance(one, str) else asdict(one) for kind, one in self.kinds.items()}
        return {
            "decisions": self.decisions,
            "unsupported": self.unsupported,
            "expected_cost_nano_usd": {"logged": self.logged_nano_usd, "candidate": self.candidate_nano_usd},
            "kinds": kinds,
        }


def candidate_of(text: str, models: Mapping[str, object], baseline: str = "") -> Candidate:
    """A model's name, or a TOML file: ``[weights]`` and, for some strata, ``[strata."CLASS/BAND"]``; or ``p_ok_margin``.

    Raises:
        ConfigError: what is wrong with it.
    """
    if text in models:
        return Candidate({text: 1.0})
    try:
        found = read_toml(Path(text).read_text("utf-8"), text)
    except OSError as error:
        raise ConfigError(f"--policy {text}: neither a model nor a file: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{text}: {error}") from None
    if unknown := sorted(found.keys() - {"weights", "strata", "p_ok_margin"}):
        raise ConfigError(f"{text}: {unknown[0]}: only weights, strata and p_ok_margin are known")
    if "p_ok_margin" in found:
        return _by_p_ok(text, found, models, baseline)
    strata = found.get("strata", {})
    if not isinstance(strata, dict):
        raise ConfigError(f"{text}: strata: a table of strata is wanted")
    return Candidate(
        _weights(f"{text}: weights", found.get("weights", {}), models),
        {name: _weights(f"{text}: strata.{name}", each, models) for name, each in strata.items()},
    )


def _by_p_ok(text: str, found: Mapping[str, Any], models: Mapping[str, object], baseline: str) -> Candidate:
    margin = found["p_ok_margin"]
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not -1.0 <= margin <= 1.0:
        raise ConfigError(f"{text}: p_ok_margin: a number from -1 to 1 is wanted, not {margin!r}")
    if "strata" in found:
        raise ConfigError(f"{text}: strata: give p_ok_margin or strata, not both")
    weights = _weights(f"{text}: weights", found["weights"], models) if "weights" in found else {baseline: 1.0}
    return Candidate(weights, margin=float(margin), baseline=baseline)


def _weights(where: str, value: Any, models: Mapping[str, object]) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{where}: a table of models and their weights is wanted")
    for model, weight in value.items():
        if model not in models:
            raise ConfigError(f"{where}: there is no model {model!r}; models: {', '.join(models)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight) or weight < 0:
            raise ConfigError(f"{where}.{model}: a number of 0 or more is wanted, not {weight!r}")
    if sum(value.values()) <= 0:
        raise ConfigError(f"{where}: all weights are 0")
    return {model: float(weight) for model, weight in value.items()}


async def value_of(client: Client, names: Names, pool: str, candidate: Candidate) -> Found:
    """From all decisions and rewards that are still kept.

    Raises:
        EvaluationError: there are no decisions, or the candidate does what the log could never have done.
    """
    tally = Tally(pool, candidate, await rewards_of(client, names, pool))
    async for record in scan(client, [names.of("decisions")]):
        decision = _decoded(Decision, record.value)
        if decision is not None:
            tally.add(decision)
    return tally.found()


async def rewards_of(client: Client, names: Names, pool: str) -> dict[str, list[Reward]]:
    """By request id, of a pool's pilot."""
    rewards: dict[str, list[Reward]] = defaultdict(list)
    async for record in scan(client, [names.of("rewards")]):
        reward = _decoded(Reward, record.value)
        if reward is not None and reward.pool == pool and reward.cohort == "pilot" and of_the_result(reward):
            rewards[reward.request_id].append(reward)
    return rewards


@dataclass(slots=True)
class Log:
    """What was judged of a pool's pilot: first decisions and what was said of their answers."""

    judged: list[tuple[Decision, Reward]] = field(default_factory=list)


async def log_of(client: Client, names: Names, pool: str) -> Log:
    """From all decisions and rewards that are still kept."""
    rewards, found = await rewards_of(client, names, pool), Log()
    async for record in scan(client, [names.of("decisions")]):
        decision = _decoded(Decision, record.value)
        if decision is not None and decision.attempt == 1 and decision.cohort == "pilot" and decision.pool == pool:
            found.judged += [(decision, reward) for reward in rewards.get(decision.request_id, ())]
    return found


class Tally:
    """Takes decisions one by one; of those that nobody judged it keeps sums alone."""

    def __init__(self, pool: str, candidate: Candidate, rewards: Mapping[str, list[Reward]]) -> None:
        self._pool, self._candidate, self._rewards = pool, candidate, rewards
        self._found = Found()
        self._judged: defaultdict[str, list[Judged]] = defaultdict(list)

    def add(self, decision: Decision) -> None:
        """One decision; what is no pilot's first attempt in the pool does not count."""
        if decision.pool != self._pool or decision.cohort != "pilot" or decision.attempt != 1:
            return
        logged, stratum, model = decision.weights or {}, decision.stratum or "", decision.model or ""
        models = [one.model for one in decision.candidates or () if one.excluded is None and one.model in logged]
        if not logged.get(model):
            return
        found, target = self._found, self._candidate.of(decision, models or [model])
        costs = {one.model: one.expected_cost_nano_usd or 0 for one in decision.candidates or ()}
        found.decisions += 1
        found.unsupported += sum(mass for name, mass in target.items() if logged.get(name, 0.0) <= 0.0)
        found.logged_nano_usd += sum(mass * costs.get(name, 0) for name, mass in logged.items())
        found.candidate_nano_usd += sum(mass * costs.get(name, 0) for name, mass in target.items())
        session = f"{decision.tenant}\0{decision.session}" if decision.session else decision.request_id
        for reward in self._rewards.get(decision.request_id, ()):
            one = Judged(session, stratum, model, logged, target, reward.reward, max(reward.weight, 0.0))
            self._judged[reward.kind].append(one)

    def found(self) -> Found:
        """What all of it says."""
        found = self._found
        if not found.decisions:
            raise EvaluationError(f"pool {self._pool}: no decision of its pilot is kept: nothing to learn from")
        for name in ("unsupported", "logged_nano_usd", "candidate_nano_usd"):
            setattr(found, name, getattr(found, name) / found.decisions)
        if found.unsupported > MOST_UNSUPPORTED:
            raise EvaluationError(
                f"{found.unsupported:.1%} of what it would do could never have happened in this log, {MOST_UNSUPPORTED:.0%} at "
                "most: where epsilon is 0 a log says nothing of other choices"
            )
        for kind, judged in sorted(self._judged.items()):
            try:
                found.kinds[kind] = evaluate(judged)
            except EvaluationError as error:
                found.kinds[kind] = str(error)
        return found


def _decoded(kind: type[Any], value: bytes | None) -> Any:
    try:
        return None if value is None else decode(kind, value)
    except BadRecord:
        return None
