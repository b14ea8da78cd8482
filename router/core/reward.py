"""What an accepted feedback is worth as evidence, and for whom.

| traffic | reward record | moves the posterior of the first model |
|---|---|---|
| pool request, cohort pilot, control, holdout | yes | yes, if the first model also answered |
| pool request, pinned by a person | yes | no: nobody chose |
| a model named directly; a shadow attempt | no | no |

Where the answer came from another model than the first (fallback, escalation), the reward speaks of neither: the
answering model had what the first could not do, the first did not answer. It is published, for evaluation, and moves no
posterior. Holdout and control are evidence for the baseline, which answers them whatever the policy says.
"""

from __future__ import annotations

from router.contract.records import FeedbackKind, FeedbackSource, Reward
from router.core.token import FeedbackFacts

LEARNS_FROM = frozenset({"pilot", "control", "holdout"})


def reward_key(pool: str, stratum: str) -> str:
    """Record key in ``rewards`` and ``weights``: all evidence of a stratum meets there."""
    return f"{pool}/{stratum}"


def reward_of(
    facts: FeedbackFacts, *, kind: FeedbackKind, source: FeedbackSource, value: float, weight: float, at: str
) -> Reward | None:
    """The reward of one accepted feedback (``value`` 0..1, ``at`` RFC 3339), ``None`` where there is none."""
    if facts.pool is None or facts.stratum is None or facts.cohort in ("direct", "shadow"):
        return None
    return Reward(
        request_id=facts.request_id,
        pool=facts.pool,
        stratum=facts.stratum,
        first_model=facts.first_model,
        model=facts.model,
        answered_by_attempt=facts.answered_by_attempt,
        cohort=facts.cohort,
        propensity=facts.propensity,
        policy_version=facts.policy_version,
        kind=kind,
        source=source,
        reward=value,
        weight=weight,
        at=at,
        context=None if facts.context is None else list(facts.context),
    )


def is_evidence(reward: Reward) -> bool:
    """Whether the reward may move the posterior of its model."""
    return reward.cohort in LEARNS_FROM and reward.model == reward.first_model
