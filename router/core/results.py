"""What leaves settle: the result of a request, and the usage record of each priced outcome.

Plain JSON values, field by field those of ``contract.records.Result`` and ``core.records.PricedAttempt``: making and
writing frozen dataclasses instead takes five times as long (12 us for both records), on the path of every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash

from router.contract.records import Origin, Outcome
from router.contract.times import to_rfc3339
from router.core.attempts import Charge, Try, total_cost_nano_usd
from router.core.audit import error_record
from router.core.cascade import arm_of
from router.core.settlement import Row, Verdict
from router.core.slip import Keyring, Slip
from router.core.token import FeedbackFacts, Sampled, issue


def result_record(
    row: Row,
    verdict: Verdict,
    *,
    now_ms: int,
    keyring: Keyring,
    token_ttl_ms: int,
    survey: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The one result of a request, settled at ``now_ms``. Only an answer carries a feedback token, a model, and a ``survey``."""
    slip, answered_by, error = row.slip, verdict.answered_by, verdict.error
    cost_nano_usd = total_cost_nano_usd(row.tries)
    response = token = None
    if answered_by is not None:
        response = {"status_code": 200, "request_id": slip.request_id, "body": verdict.body or {}}
        token = _token(
            row, answered_by, now_ms, token_ttl_ms, keyring, survey=None if survey is None else survey["name"]
        )
    asks = {} if answered_by is None or survey is None else {"survey": survey}
    return {
        "id": slip.request_id,
        "custom_id": slip.custom_id,
        "response": response,
        "error": None if error is None else error_record(error.code, error.message, error.retry_after_ms),
        "router": {
            "tenant": slip.tenant,
            "pool": slip.pool,
            "model": answered_by.model if answered_by is not None else None,
            "stratum": slip.stratum,
            "cohort": slip.cohort,
            "propensity": slip.propensity,
            "policy_version": slip.policy_version,
            "cost_nano_usd": cost_nano_usd,
            "cost_unknown": cost_nano_usd is None,
            "latency_ms": max(0, now_ms - slip.at_ms),
            "feedback_token": token,
            "metadata": slip.metadata,
            "attempts": [each.as_record() for each in row.tries],
            **asks,
        },
    }


def result_token(result: Mapping[str, Any]) -> str | None:
    """The feedback token of a result."""
    token: str | None = result["router"]["feedback_token"]
    return token


def _token(row: Row, answered_by: Try, now_ms: int, token_ttl_ms: int, keyring: Keyring, *, survey: str | None) -> str:
    slip, attempt, model = row.slip, answered_by.number, answered_by.model
    tried = next((each for each in row.tries if each.trial is not None), None)
    facts = FeedbackFacts(
        request_id=slip.request_id,
        tenant=slip.tenant,
        lane=slip.lane,
        pool=slip.pool,
        stratum=slip.stratum,
        first_model=slip.first_model or model,
        model=model,
        answered_by_attempt=attempt,
        cohort=slip.cohort or "direct",
        propensity=1.0 if slip.propensity is None else slip.propensity,
        policy_version=slip.policy_version or "",
        expires_at_ms=now_ms + token_ttl_ms,
        context=slip.context,
        arm=_arm(tried),
        session=slip.session,
        sampled=_sampled(tried, now_ms),
        survey=survey,
        slices=slip.slices,
    )
    return issue(facts, keyring)


def _arm(tried: Try | None) -> str | None:
    """What a cascade is called that was asked, and not only observed."""
    if tried is None or tried.trial is None or tried.trial.threshold is None:
        return None
    return arm_of(tried.model, tried.trial.to)


def _sampled(tried: Try | None, now_ms: int) -> Sampled | None:
    if tried is None or tried.trial is None or tried.trial.inclusion <= 0.0 or tried.confidence is None:
        return None
    trial = tried.trial
    return Sampled(
        attempt=tried.number,
        model=tried.model,
        served_model=tried.served_model or tried.model,
        confidence=tried.confidence,
        threshold=trial.threshold,
        inclusion=trial.inclusion,
        calibrated=trial.calibrated,
        scale=trial.scale,
        at_ms=now_ms,
    )


def review_item(
    slip: Slip,
    attempt: int,
    answer_at: Origin,
    *,
    sample: str,
    inclusion: float,
    due_at_ms: int,
    weight: float = 1.0,
    token: str | None = None,
) -> dict[str, Any]:
    """An answer to be looked at: ``contract.records.ReviewItem``. ``slip``: of any attempt of the request."""
    hidden = xxhash.xxh3_64_hexdigest(f"{slip.request_id}/{attempt}".encode())[:8]
    return {
        "request_id": slip.request_id,
        "pool": slip.pool,
        "stratum": slip.stratum,
        "model_hidden": hidden,
        "inclusion_probability": inclusion,
        "due_at": to_rfc3339(due_at_ms),
        "prompt": None,
        "answer": None,
        "attempt": attempt,
        "request_at": _place(slip.origin),
        "answer_at": _place(answer_at),
        "sample": sample,
        "weight": weight,
        "feedback_token": token,
    }


def shadow_token(slip: Slip, outcome: Outcome, now_ms: int, token_ttl_ms: int, keyring: Keyring) -> str:
    """Feedback on a shadow's answer, for those who are to look at it: it counts, and is evidence of nothing."""
    facts = FeedbackFacts(
        request_id=slip.request_id,
        tenant=slip.tenant,
        lane=slip.lane,
        pool=slip.pool,
        stratum=slip.stratum,
        first_model=slip.first_model or outcome.model,
        model=outcome.model,
        answered_by_attempt=outcome.attempt,
        cohort="shadow",
        propensity=1.0,
        policy_version=slip.policy_version or "",
        expires_at_ms=now_ms + token_ttl_ms,
    )
    return issue(facts, keyring)


def _place(origin: Origin) -> dict[str, Any]:
    return {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}


def usage_record(
    slip: Slip,
    outcome: Outcome,
    charge: Charge,
    *,
    at_ms: int,
    baseline_cost_nano_usd: int,
    baseline_output_nano_usd_per_token: int | None,
) -> dict[str, Any]:
    """The usage record of a unique outcome; ``at_ms`` is its record's timestamp."""
    usage = outcome.usage
    return {
        "request_id": slip.request_id,
        "attempt": outcome.attempt,
        "model": outcome.model,
        "tenant": slip.tenant,
        "lane": slip.lane,
        "pool": slip.pool,
        "stratum": slip.stratum,
        "cohort": "shadow" if slip.beside else slip.cohort or "direct",
        "reason": slip.reason or "routed",
        "status": outcome.status,
        "error_code": outcome.error.code if outcome.error is not None else None,
        "at_ms": at_ms,
        "latency_ms": outcome.latency_ms,
        "prompt_tokens": usage.prompt_tokens if usage is not None else 0,
        "completion_tokens": usage.completion_tokens if usage is not None else 0,
        "cached_tokens": usage.cached_tokens if usage is not None else 0,
        "reasoning_tokens": usage.reasoning_tokens if usage is not None else 0,
        "cost_nano_usd": charge.cost_nano_usd,
        "baseline_cost_nano_usd": baseline_cost_nano_usd,
        "price_version": charge.price_version,
        "late": at_ms >= slip.deadline_at_ms,
        "baseline": slip.baseline,
        "baseline_output_nano_usd_per_token": baseline_output_nano_usd_per_token,
        "served_model": outcome.served_model,
        "slices": slip.slices,
        "endpoint": outcome.endpoint,
    }
