"""What an accepted feedback is worth as evidence, and for whom.

| traffic | reward record | moves the posterior of the first model |
|---|---|---|
| pool request, cohort pilot, control, holdout | yes | yes, if the first model also answered |
| a request that a cascade answered | yes | of the cascade (``arm``), whoever answered; never of the model that was asked second |
| an answer of a cascade's sample (``label``), which the caller may not have got | yes | no; it calibrates (``core/risk``) |
| pool request, pinned by a person | yes | no: nobody chose |
| a model named directly; a shadow attempt | no | no |

Where the answer came from another model than the first (fallback, escalation), the reward speaks of neither: the
answering model had what the first could not do, the first did not answer. It is published, for evaluation, and moves no
posterior. Holdout and control are evidence for the baseline, which answers them whatever the policy says.
"""

from __future__ import annotations

from router.contract.records import CascadeLabel, FeedbackKind, FeedbackSource, Reward
from router.core.token import FeedbackFacts

LEARNS_FROM = frozenset({"pilot", "control", "holdout"})


def reward_key(pool: str, stratum: str) -> str:
    """Record key in ``rewards`` and ``weights``: all evidence of a stratum meets there."""
    return f"{pool}/{stratum}"


#: Who may label a cascade's sample, and with what: the caller is no judge of an answer that others did not get.
LABELLERS = frozenset({"reviewer", "judge", "system"})
LABELS = frozenset({"label", "review"})


def is_label(facts: FeedbackFacts, attempt: int | None, kind: FeedbackKind, source: FeedbackSource) -> bool:
    """Whether a feedback on this attempt's answer calibrates the cascade."""
    sampled = facts.sampled
    return sampled is not None and attempt == sampled.attempt and kind in LABELS and source in LABELLERS


def reward_of(
    facts: FeedbackFacts,
    *,
    kind: FeedbackKind,
    source: FeedbackSource,
    value: float,
    weight: float,
    at: str,
    attempt: int | None = None,
    asked_at: str | None = None,
) -> Reward | None:
    """The reward of one accepted feedback (``value`` 0..1, ``at`` RFC 3339), ``None`` where there is none.

    ``attempt``: whose answer it is about, if not the result's; ``asked_at``: RFC 3339.
    """
    if facts.pool is None or facts.stratum is None or facts.cohort in ("direct", "shadow"):
        return None
    sampled = facts.sampled if is_label(facts, attempt, kind, source) else None
    if sampled is None and attempt not in {None, facts.answered_by_attempt}:
        return None  # of an answer that nobody got, and that is in no sample
    return Reward(
        request_id=facts.request_id,
        pool=facts.pool,
        stratum=facts.stratum,
        first_model=facts.first_model,
        model=facts.model if sampled is None else sampled.model,
        answered_by_attempt=facts.answered_by_attempt if sampled is None else sampled.attempt,
        cohort=facts.cohort,
        propensity=facts.propensity,
        policy_version=facts.policy_version,
        kind=kind,
        source=source,
        reward=value,
        weight=weight,
        at=at,
        context=None if facts.context is None else list(facts.context),
        arm=facts.arm,
        session=facts.session,
        tenant=facts.tenant,
        asked_at=asked_at,
        slices=list(facts.slices) or None,
        label=None
        if sampled is None
        else CascadeLabel(
            confidence=sampled.confidence,
            served_model=sampled.served_model,
            threshold=sampled.threshold,
            inclusion=sampled.inclusion,
            calibrated=sampled.calibrated,
            scale=sampled.scale,
            at_ms=sampled.at_ms,
        ),
    )


def of_the_result(reward: Reward) -> bool:
    """Whether it is about what the caller got; a label may be about an answer that was not good enough to be given out."""
    return reward.label is None or reward.arm is None


def is_evidence(reward: Reward) -> bool:
    """Whether the reward may move a posterior: of its ``arm``, else of its model."""
    if reward.cohort not in LEARNS_FROM or not of_the_result(reward):
        return False
    return reward.arm is not None or reward.model == reward.first_model
