"""Why a request went where it went, in sentences, from its records alone. No prompt text: the records have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import CascadeTrial, Decision, Outcome, Result
from router.core.cascade import too_low

#: What each rule that excludes a model means to a person.
RULES = {
    "tenant": "its tenant may not use it",
    "pin": "another model is pinned",
    "ban": "banned by an order",
    "drain": "drained by an order",
    "tried": "it had its chance in an earlier attempt",
    "capability": "lacks something that the request uses",
    "context": "the request is too long for it",
    "budget": "costs more than the request allows",
    "spent": "the pool's budget has no room for it now",
    "down": "it was down",
    "deadline": "too slow for the time that was left",
    "left": "no longer in the pool",
}

COHORTS = {
    "holdout": "holdout: always the baseline, to compare with",
    "control": "control: the policy does not reach it yet, so the baseline",
    "pilot": "pilot: under the policy",
    "pinned": "pinned: an order names the model",
    "direct": "direct: the caller named the model",
    "shadow": "shadow: answered unseen, to compare",
}

BREAKS = {"control": "control or rollout changed", "rollback": "its stratum was rolled back"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The records of one request, as far as they were found."""

    request_id: str
    decisions: Sequence[Decision] = field(default=())
    outcomes: Sequence[Outcome] = field(default=())
    result: Result | None = None


def accounts_in(file: Path) -> list[Account]:
    """The requests whose decisions a file holds, a record a line, as the topic ``decisions`` has them; in their order.

    Raises:
        ConfigError: it cannot be read, or a line is no decision.
    """
    found: dict[str, list[Decision]] = {}
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            decision = decode(Decision, line)
        except BadRecord as error:
            raise ConfigError(f"{file}, line {number}: no decision: {error}") from None
        found.setdefault(decision.request_id, []).append(decision)
    return [Account(request_id=request_id, decisions=decisions) for request_id, decisions in found.items()]


def explain(account: Account) -> list[str]:
    """Lines for a person, oldest first; one saying so where nothing was found."""
    lines = [f"request {account.request_id}"]
    decisions = sorted(account.decisions, key=lambda one: (from_rfc3339(one.at), one.attempt))
    if not decisions and account.result is None:
        return [*lines, "  no decision and no result found: not produced, not yet routed, or past retention"]
    if decisions:
        first = decisions[0]
        origin = first.origin
        session = "" if first.session is None else f", session {first.session}"
        lines.append(
            f"  tenant {first.tenant}{session}, lane {first.lane}, read from {origin.topic}/{origin.partition}@{origin.offset}"
        )
    outcomes = {(one.attempt, one.model): one for one in account.outcomes}
    for decision in decisions:
        lines += _refused(decision) if decision.attempt == 0 else _attempt(decision)
        if decision.model is not None and (outcome := outcomes.get((decision.attempt, decision.model))) is not None:
            lines.append(f"    outcome: {_outcome(outcome)}{_checked(decision.cascade, outcome)}")
    return [*lines, *_result(account.result)]


def _refused(decision: Decision) -> Iterator[str]:
    error = decision.error
    said = "without a reason" if error is None else f"{error.code}: {error.message}"
    yield f"  {decision.at} refused, {said}"


def _attempt(decision: Decision) -> Iterator[str]:
    features = decision.features or {}
    yield f"  {decision.at} attempt {decision.attempt} -> {decision.model} ({decision.reason})"
    where = "no pool" if decision.pool is None else f"pool {decision.pool}, stratum {decision.stratum}"
    yield f"    {where}; {features.get('prompt_tokens', '?')} prompt tokens{_estimated(features)}"
    if decision.cohort is not None:
        yield f"    cohort {COHORTS[decision.cohort]}"
    if features.get("assignment") is not None and decision.attempt == 1:
        broke = features.get("session_broke")
        why = "" if broke is None else BREAKS.get(broke, RULES.get(broke, broke))
        yield "    the session kept its model" if broke is None else f"    the session lost its model: {why}"
    yield from _features(features)
    yield from (f"    {line}" for line in _candidates(decision, features))
    if decision.cascade is not None:
        yield f"    {_trial(decision.cascade)}"
    yield from _beside(decision)
    if decision.draw is not None and decision.propensity is not None:
        yield f"    draw {decision.draw:.4f}; propensity {decision.propensity:.3f}"
    yield f"    policy {decision.policy_version}, snapshot {decision.snapshot_version}"
    if (would := features.get("would")) is not None:
        yield f"    the policy would have chosen {would}"


def _features(features: Mapping[str, Any]) -> Iterator[str]:
    """What of the request counted beside its stratum."""
    asks = [f"needs {', '.join(features['needs'])}"] if features.get("needs") else []
    if (limit := features.get("completion_tokens")) is not None:
        asks.append(f"an answer of at most {limit} tokens")
    if (most := features.get("max_cost_nano_usd")) is not None:
        asks.append(f"at most {_usd(most)}")
    if asks:
        yield f"    asks: {'; '.join(asks)}"
    if features.get("slices"):
        yield f"    slices: {', '.join(features['slices'])}"
    if features.get("fence") is not None:
        yield f"    back on the baseline by the order rollback {features['fence']}"
    if (purse := features.get("purse")) is not None:
        left, price = purse["left_nano_usd"], purse["price"]
        yield f"    the pool's budget: {_usd(left)} left, this request's share included; price of money {price:.4g}"


def _candidates(decision: Decision, features: Mapping[str, Any]) -> Iterator[str]:
    """A line a model of the pool: what is thought of it, and why it was taken or not."""
    quality, weights = features.get("quality") or {}, decision.weights or {}
    for candidate in decision.candidates or ():
        known = [f"p_ok {candidate.p_ok:.3f}"] if candidate.p_ok is not None else []
        if candidate.model in quality:
            known.append(f"expected quality {quality[candidate.model]:.3f}")
        cost = candidate.expected_cost_nano_usd
        known.append("price unknown" if cost is None else f"expected cost {_usd(cost)}")
        weight = weights.get(candidate.model)
        if candidate.excluded is not None:
            why = f"out: {RULES.get(candidate.excluded, candidate.excluded)}"
        elif candidate.model == decision.model:
            why = f"weight {weight or 0.0:.3f}, taken"
        else:
            why = f"weight {weight:.3f}, the draw fell elsewhere" if weight else "weight 0"
        yield f"{candidate.model}: {why} ({', '.join(known)})"


def _beside(decision: Decision) -> Iterator[str]:
    """What comes beside the result."""
    sample, of = decision.sample, decision.shadow_of
    if sample is not None and sample.review > 0.0:
        yield f"    drawn to be looked at by people, with probability {sample.review:.4g}"
    if sample is not None and sample.shadow > 0.0:
        yield f"    drawn to be answered by a second model, with probability {sample.shadow:.4g}"
    if of is not None:
        what = "compares it with its shadow" if decision.reason == "judge" else "answers in its shadow"
        yield f"    beside attempt {of}: {what}; the caller gets nothing of it"


def _trial(trial: CascadeTrial) -> str:
    sampled = "; in the sample to be labelled" if trial.inclusion > 0.0 else ""
    if trial.threshold is None:
        return f"cascade: its answer is checked, but goes out whatever it is: only observed{sampled}"
    how = "calibrated" if trial.calibrated else "as configured"
    judge = "" if trial.judge is None else f", as {trial.judge} judges it,"
    return f"cascade: its answer goes out at a confidence{judge} of {trial.threshold:g} or more ({how}), else {trial.to} is asked{sampled}"


def _checked(trial: CascadeTrial | None, outcome: Outcome) -> str:
    """What the check made of an answer, where the worker's word is the last one."""
    if trial is None or trial.threshold is None or outcome.status != "ok":
        return ""
    if too_low(outcome.confidence, trial.threshold):
        return f": not sure enough, so {trial.to} is asked"
    return "" if trial.judge is not None else ": sure enough"


def _usd(nano_usd: int) -> str:
    return f"{nano_usd / 1e9:.9f} USD"


def _estimated(features: dict[str, object]) -> str:
    return " (estimated)" if features.get("tokens_estimated") else ""


def _outcome(outcome: Outcome) -> str:
    parts: Iterable[str | None] = (
        outcome.status,
        None if outcome.error is None else outcome.error.code,
        None if outcome.latency_ms is None else f"{outcome.latency_ms} ms",
        None if outcome.endpoint is None else f"endpoint {outcome.endpoint}",
        None if outcome.served_model is None else f"served by {outcome.served_model}",
        None if outcome.confidence is None else f"confidence {outcome.confidence:.3f}",
    )
    return ", ".join(part for part in parts if part is not None)


def _result(result: Result | None) -> Iterator[str]:
    if result is None:
        yield "  no result found"
        return
    router = result.router
    cost = "cost unknown" if router.cost_nano_usd is None else _usd(router.cost_nano_usd)
    if result.error is not None:
        yield f"  failed after {router.latency_ms} ms, {cost}: {result.error.code}: {result.error.message}"
    else:
        yield f"  answered by {router.model} after {router.latency_ms} ms, {cost}, {len(router.attempts)} attempt(s)"
