"""The decision record: what was known, what was decided, by which snapshot; and back to the facts, for a replay.

Beyond the contract's fields ``features`` holds all that ``decide`` was given (``facts_of`` reads it back), ``would`` where a
policy is only observed, ``session_broke``, ``fence``, and ``check``: xxh3 of everything that a replay cannot compute anew. So a record
of which one byte was changed disagrees either with its check or with its replay. No prompt text, only counts and names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import orjson
import xxhash

from router.contract.records import Decision, Lane, Origin
from router.contract.times import from_rfc3339, to_rfc3339
from router.core.cascade import Trial
from router.core.facts import Assignment, Choice, Purse, Refusal, RequestFacts, Warm
from router.core.mirror import Mirror, Sample, mirror_of
from router.core.records import First

#: All decisions of a turn have the time of the turn.
_rfc3339 = lru_cache(maxsize=16)(to_rfc3339)


def decision_record(
    facts: RequestFacts, choice: Choice, *, snapshot_version: str, lane: Lane, origin: Origin
) -> dict[str, Any]:
    """A decision as JSON values, ready to be encoded."""
    at = _rfc3339(facts.at_ms)
    where = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    features = {
        "target": facts.target,
        "stratum": facts.stratum,
        "prompt_tokens": facts.prompt_tokens,
        "tokens_estimated": facts.tokens_estimated,
        "completion_tokens": facts.completion_tokens,
        "answers": facts.answers,
        "needs": facts.needs,
        "max_cost_nano_usd": facts.max_cost_nano_usd,
        "p_ok": facts.p_ok,
        "purse": facts.purse,
        "assignment": facts.assignment,
        "warm": facts.warm,
        "first": facts.first,
        "asked_reason": facts.reason,
        "prefer": facts.prefer,
        "exclude": facts.exclude,
        "last_error": facts.last_error,
        "form": facts.form,
        "mirror": _mirror(facts.mirror),
        "pace": facts.pace,
    }
    if facts.slices:
        features["slices"] = facts.slices
    if facts.chain:
        features["chain"] = facts.chain
    given = [
        facts.request_id,
        facts.attempt,
        at,
        facts.tenant,
        facts.session,
        lane,
        facts.deadline_at_ms,
        where,
        features,
    ]
    features["quality"] = choice.quality
    features["session_broke"] = choice.session_broke
    features["would"] = choice.would
    if choice.fence is not None:
        features["fence"] = choice.fence
    features["check"] = xxhash.xxh3_64_hexdigest(orjson.dumps([snapshot_version, given]))
    return {
        "request_id": facts.request_id,
        "attempt": facts.attempt,
        "at": at,
        "tenant": facts.tenant,
        "session": facts.session,
        "lane": lane,
        "pool": choice.pool,
        "stratum": choice.stratum,
        "features": features,
        "candidates": [
            {"model": model, "excluded": excluded, "p_ok": p_ok, "expected_cost_nano_usd": cost}
            for model, excluded, p_ok, cost in choice.candidates
        ],
        "weights": choice.weights,
        "draw": choice.draw,
        "model": choice.model,
        "propensity": choice.propensity,
        "cohort": choice.cohort,
        "policy_version": choice.policy_version,
        "snapshot_version": snapshot_version,
        "reason": choice.reason,
        "deadline_at_ms": facts.deadline_at_ms,
        "origin": where,
        "shadow_of": choice.shadow_of,
        "cascade": _trial(choice.trial),
        "sample": _sample(choice.sample),
        "error": None,
    }


def _trial(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "to": trial.to,
        "threshold": trial.threshold,
        "inclusion": trial.inclusion,
        "judge": trial.judge,
        "calibrated": trial.calibrated,
    }


def _sample(sample: Sample | None) -> dict[str, Any] | None:
    return None if sample is None else {"review": sample.review, "shadow": sample.shadow}


def _mirror(mirror: Mirror | None) -> list[Any] | None:
    """Without its token: that is for those who look at the answer."""
    return None if mirror is None else replace(mirror, token=None).values()


def refusal_record(
    refusal: Refusal, *, request_id: str, tenant: str, at_ms: int, lane: Lane, origin: Origin
) -> dict[str, Any]:
    """Attempt 0: the request gets no (further) attempt. What was never decided is null."""
    return {
        "request_id": request_id,
        "attempt": 0,
        "at": _rfc3339(at_ms),
        "tenant": tenant,
        "session": None,
        "lane": lane,
        "pool": None,
        "stratum": None,
        "features": None,
        "candidates": None,
        "weights": None,
        "draw": None,
        "model": None,
        "propensity": None,
        "cohort": None,
        "policy_version": None,
        "snapshot_version": None,
        "reason": None,
        "deadline_at_ms": None,
        "origin": {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset},
        "shadow_of": None,
        "cascade": None,
        "sample": None,
        "error": error_record(refusal.code, refusal.message, refusal.retry_after_ms),
    }


def error_record(code: str, message: str, retry_after_ms: int | None) -> dict[str, Any]:
    """``contract.records.ErrorInfo`` as JSON values; a time that is not known is left out."""
    said: dict[str, Any] = {"code": code, "message": message}
    return said if retry_after_ms is None else {**said, "retry_after_ms": retry_after_ms}


def facts_of(decision: Decision) -> RequestFacts:
    """What ``decide`` was given. ``ValueError`` where the record does not say it: a refusal, or another release's record."""
    features = decision.features
    if features is None or decision.deadline_at_ms is None:
        raise ValueError("the record holds no facts: it is a refusal")
    try:
        return RequestFacts(
            request_id=decision.request_id,
            attempt=decision.attempt,
            reason=features["asked_reason"],
            tenant=decision.tenant,
            session=decision.session,
            target=features["target"],
            stratum=features["stratum"],
            prompt_tokens=features["prompt_tokens"],
            tokens_estimated=features["tokens_estimated"],
            completion_tokens=features["completion_tokens"],
            answers=features["answers"],
            needs=tuple(features["needs"]),
            max_cost_nano_usd=features["max_cost_nano_usd"],
            at_ms=from_rfc3339(decision.at),
            deadline_at_ms=decision.deadline_at_ms,
            p_ok=features["p_ok"],
            purse=_built(Purse, features["purse"]),
            assignment=_built(Assignment, features["assignment"]),
            warm=_built(Warm, features["warm"]),
            first=_built(First, features["first"]),
            prefer=features["prefer"],
            exclude=tuple(features["exclude"]),
            chain=tuple(features.get("chain", ())),
            last_error=features["last_error"],
            form=features["form"],
            mirror=mirror_of(features["mirror"]),
            pace=features["pace"],
            slices=tuple(features.get("slices", ())),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"features: not those of this release ({error!r})") from None


def _built(kind: Any, values: Mapping[str, Any] | None) -> Any:
    return None if values is None else kind(**values)
