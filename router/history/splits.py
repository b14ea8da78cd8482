"""Suggests finer strata from the decisions and rewards that are in the topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.contract.records import Decision, Reward
from router.core.split import Sample, Split, suggest
from router.history.policy_value import Log

#: Of a decision's features, those a request may be split by; with its unit.
TOKENS, ANSWER, NEEDS = "prompt_tokens", "answer_tokens", "needs"
GAIN = "gain"


def sample_of(decision: Decision, reward: Reward, baseline: str) -> Sample:
    """A judged decision as the search sees it."""
    features: Mapping[str, Any] = decision.features or {}
    said = features.get("p_ok") or {}
    known = {
        TOKENS: float(features.get("prompt_tokens") or 0),
        ANSWER: float(features.get("completion_tokens") or 0),
        NEEDS: float(len(features.get("needs") or ())),
    }
    cheapest = decision.candidates[0].model if decision.candidates else ""
    if baseline in said and cheapest in said:
        known[GAIN] = said[baseline] - said[cheapest]
    return Sample(
        session=f"{decision.tenant}\0{decision.session}" if decision.session else decision.request_id,
        stratum=decision.stratum or "",
        model=decision.model or "",
        reward=reward.reward,
        weight=max(reward.weight, 0.0),
        propensity=decision.propensity or 1.0,
        features=known,
    )


def suggestions(log: Log, baseline: str) -> list[Split]:
    """Splits that the log is certain of; each kind of feedback apart, since kinds have scales of their own."""
    found: list[Split] = []
    for kind in sorted({reward.kind for _, reward in log.judged}):
        samples = [sample_of(decision, reward, baseline) for decision, reward in log.judged if reward.kind == kind]
        found += suggest(samples, baseline)
    return found


def remedy(split: Split) -> str:
    """What a person may do about it."""
    if split.feature == TOKENS:
        return f'[classify] bands = [{{ name = "short", max_tokens = {split.edge:.0f} }}, {{ name = "long" }}]'
    if split.feature == GAIN:
        return "train a classifier on answers of your own (`pointsman train`): its bands go by the gain"
    return "a pool of their own for such requests, or a classifier that was trained on them (`pointsman train`)"
