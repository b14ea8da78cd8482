"""The records of the contract as frozen dataclasses: what travels in each topic, field by field.

JSON Schemas are generated from these definitions, and ``codec`` validates against them once, at the edge. Inside the
product a record is trusted. Times are RFC 3339 in UTC or ``_ms`` since the epoch, money is integer nano-dollars.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from router.contract.values import value

Lane = Literal["interactive", "batch"]
Cohort = Literal["holdout", "control", "pilot", "pinned", "direct", "shadow"]
Reason = Literal["routed", "retry", "fallback", "hedge", "escalate", "judge", "shadow"]
Status = Literal["ok", "error", "timeout", "rate_limited", "refused", "truncated"]
FeedbackKind = Literal["thumbs", "rating", "survey", "review", "label", "retry", "abandon"]
FeedbackSource = Literal["user", "reviewer", "judge", "system"]
HealthState = Literal["up", "degraded", "down", "probing"]
Action = Literal["pin", "ban", "drain", "freeze", "rollout", "holdout", "rollback"]

#: Integers stay exact in every JSON reader (RFC 7493): 9 * 10^15 nano-dollars are nine million dollars.
MAX_INT = 2**53 - 1

# Strict: the text "5" is no number, true is no 1, and 1.0 is no integer. An integer is a number where one is expected.
Integer = Annotated[int, Field(strict=True, ge=-MAX_INT, le=MAX_INT)]
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_INT)]
NanoUsd = Annotated[int, Field(strict=True, ge=0, le=MAX_INT)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Sha = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]

#: Longest ``deadline_ms`` a request may ask for, and what it gets without asking, by lane.
MAX_DEADLINE_MS = 86_400_000
DEFAULT_DEADLINE_MS = {"interactive": 60_000, "batch": 86_400_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions:
    """The optional ``router`` object of a request. ``priority``: where models have too much to do, those below 0 are refused first, those above 0 last."""

    tenant: Annotated[str, Field(max_length=128)] = "default"
    session: Annotated[str, Field(max_length=256)] | None = None
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=MAX_DEADLINE_MS)] | None = None
    max_cost_nano_usd: NanoUsd | None = None
    priority: Integer = 0
    metadata: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``llm.requests``, ``llm.requests.batch``: one line of the OpenAI Batch input format, plus ``router``."""

    custom_id: Annotated[str, Field(min_length=1, max_length=256)]
    body: dict[str, Any]
    method: Literal["POST"] = "POST"
    url: Annotated[str, Field(pattern="^/")] = "/v1/chat/completions"
    router: RouterOptions = field(default_factory=RouterOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """``code`` is stable, ``message`` is for a person. ``retry_after_ms``: after which a new try is worth it, where that is known."""

    code: str
    message: str
    retry_after_ms: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one request on one model, as a result tells it. ``cost_nano_usd`` null: open at the deadline, or no price.

    ``confidence``: what the worker said of the answer; of an escalated one it was too low.
    """

    attempt: Count
    model: str
    endpoint: str | None
    served_model: str | None
    status: Status
    reason: Reason
    latency_ms: Count | None
    cost_nano_usd: NanoUsd | None
    price_version: str | None
    confidence: Share | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The provider's answer."""

    status_code: Integer
    request_id: Sha
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSurvey:
    """The result's user shall be asked: show ``question`` and send what is said as feedback of kind ``survey`` with the result's token.

    ``scale``: what is offered; ``value`` of the feedback is 0 at its low end and 1 at its high one. ``inclusion_probability``: with which the request was
    drawn, before it was answered.
    """

    name: str
    question: str
    scale: Literal["thumbs", "1-5", "1-7", "0-10"]
    inclusion_probability: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRouter:
    """``router`` of a result. What was never decided is null; ``model`` is the one that answered. ``survey``: only where the user shall be asked."""

    tenant: str
    pool: str | None
    model: str | None
    stratum: str | None
    cohort: Cohort | None
    propensity: Share | None
    policy_version: str | None
    cost_nano_usd: NanoUsd | None
    cost_unknown: Flag
    latency_ms: Count
    feedback_token: str | None
    metadata: Any
    attempts: list[Attempt]
    survey: ResultSurvey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``llm.results``: the OpenAI Batch output line, plus ``router``. Exactly one per request."""

    id: Sha
    custom_id: str
    response: Response | None
    error: ErrorInfo | None
    router: ResultRouter


@value(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request's body lies."""

    topic: str
    partition: Count
    offset: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model of the pool at the time of a decision; ``excluded`` says why it could not be chosen."""

    model: str
    excluded: str | None
    p_ok: Share | None
    expected_cost_nano_usd: NanoUsd | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeTrial:
    """The attempt's answer is checked: below ``threshold`` the request goes on to ``to``. Null: it is only observed.

    ``judge``: a model that is asked how good it is. ``inclusion``: the probability with which the answer is in the sample to be labelled; 0: it is not in it.
    """

    to: str
    threshold: Share | None
    inclusion: Share
    judge: str | None = None
    calibrated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSample:
    """The probability with which people look at the request's answer, and with which another model answers it unseen. 0: not in that sample."""

    review: Share
    shadow: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``llm.decisions``: one per attempt; attempt 0 is a refusal. Never any prompt text.

    ``shadow_of``: the attempt whose answer this one mirrors (its number is 100 more) or judges beside its shadow (200 more); cohort ``shadow``.
    """

    request_id: Sha
    attempt: Count
    at: Time
    tenant: str
    lane: Lane
    origin: Origin
    error: ErrorInfo | None = None
    session: str | None = None
    pool: str | None = None
    stratum: str | None = None
    features: dict[str, Any] | None = None
    candidates: list[Candidate] | None = None
    weights: dict[str, Share] | None = None
    draw: Share | None = None
    model: str | None = None
    propensity: Share | None = None
    cohort: Cohort | None = None
    policy_version: str | None = None
    snapshot_version: str | None = None
    reason: Reason | None = None
    deadline_at_ms: Integer | None = None
    shadow_of: Count | None = None
    cascade: CascadeTrial | None = None
    sample: DecisionSample | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """How sure a worker shall be of an answer: it says so as the outcome's ``confidence``, 0 where a check fails.

    ``logprobs``: the geometric mean of the probabilities of the answer's tokens, else 1. ``refusal``: no answer that refuses;
    ``length``: none that was cut at the request's limit; ``json``: the JSON that the request asks for; ``pattern``: a match of it.
    """

    logprobs: Flag = False
    refusal: Flag = False
    length: Flag = False
    json: Flag = False
    pattern: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """``llm.work.<model>[.batch]``: what a worker needs to make one attempt. ``slip`` is opaque: echo it.

    ``checks``: the answer will be given out only if the worker's ``confidence`` in it is high enough; without one it is not.
    """

    request_id: Sha
    attempt: Count
    model: str
    provider_model: str
    url: str
    body: dict[str, Any]
    deadline_at_ms: Integer
    reason: Reason
    outcome_partition: Count
    slip: str
    checks: Checks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the provider reports them. ``cached`` and ``cache_write`` are part of ``prompt``, ``reasoning`` of ``completion``."""

    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0
    #: The provider did not say: counted by the worker from what came of a stream.
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeError:
    """Free code, message for a person, and how long the provider asked us to wait."""

    code: str
    message: str = ""
    retry_after_ms: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``llm.outcomes``: what a worker says of an attempt. ``body`` is the provider's answer when ok or truncated."""

    request_id: Sha
    attempt: Count
    model: str
    status: Status
    slip: str
    body: dict[str, Any] | None = None
    usage: Usage | None = None
    served_model: str | None = None
    endpoint: str | None = None
    latency_ms: Count | None = None
    first_token_ms: Count | None = None
    confidence: Share | None = None
    error: OutcomeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """``llm.feedback``: an opinion about a result, by token or, while the settled id is kept, by request id.

    ``attempt``: about the answer of that attempt instead, which the caller may never have seen; of a cascade's labelled sample.
    """

    kind: FeedbackKind
    value: Share
    source: FeedbackSource = "user"
    feedback_token: str | None = None
    request_id: Sha | None = None
    weight: Annotated[float, Field(strict=True, ge=0.0, le=1000.0, allow_inf_nan=False)] = 1.0
    comment: str | None = None
    at: Time | None = None
    attempt: Annotated[int, Field(strict=True, ge=1, le=MAX_INT)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeLabel:
    """What is known of a labelled answer: its confidence, the model as served, the threshold that held, its inclusion probability.

    ``calibrated``: the threshold was; ``scale``: a hash of what the confidence means; ``at_ms``: when the request was settled.
    """

    confidence: Share
    served_model: str
    threshold: Share | None
    inclusion: Share
    calibrated: Flag
    scale: str
    at_ms: Integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """``llm.rewards``: one per accepted feedback of a pool request.

    ``context``: what policy ``squarecb`` looked at; null elsewhere. ``arm``: of a request that a cascade answered, like
    ``small>large``. ``session``: a hash of the conversation. ``asked_at``: when the request was settled that it is about. ``slices``: what it was in beside its stratum, like ``language=cyrillic``. ``label``: it is about an answer of the cascade's sample, whether or not the caller got it.
    """

    request_id: Sha
    pool: str
    stratum: str
    first_model: str
    model: str
    answered_by_attempt: Count
    cohort: Cohort
    propensity: Share
    policy_version: str
    kind: FeedbackKind
    source: FeedbackSource
    reward: Share
    weight: Number
    at: Time
    context: list[Number] | None = None
    arm: str | None = None
    session: str | None = None
    label: CascadeLabel | None = None
    tenant: str | None = None
    asked_at: Time | None = None
    slices: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRisk:
    """Of one served model, by its labels: the risk at the threshold as seen, and the bound that it is below.

    ``threshold`` null where there are too few. ``later_*``: what came of the thresholds that were in force.
    """

    threshold: Share | None
    labels: Count
    risk: Share
    bound: Share
    later_labels: Count
    later_risk: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeThreshold:
    """What a stratum asks of the cheap model's answers.

    ``calibrated``: every model that is served now was shown to keep the target risk; ``escalates``: share of answers below; ``scale``: a hash of what the confidence means.
    """

    to: str
    threshold: Share
    calibrated: Flag
    escalates: Share
    scale: str
    served: dict[str, ServedRisk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """``llm.weights``: per stratum the probability of each model. ``evidence``: observations behind each.

    ``regression``: of policy ``squarecb``, whose weights differ from request to request; ``weights`` are those of a usual one.
    ``cascade``: how the pool's cascade is calibrated in the stratum. ``bounded``: by model, the share of what was said of it that does not count,
    because a tenant said more than it may; null where nobody did.
    """

    pool: str
    stratum: str
    weights: dict[str, Share]
    policy_version: str
    evidence: dict[str, Number]
    at: Time
    regression: dict[str, Any] | None = None
    cascade: CascadeThreshold | None = None
    bounded: dict[str, Share] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds; null where nothing was measured."""

    p50: Number | None
    p95: Number | None
    p99: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCount:
    """Of one kind in one window: accepted, their mean value, and repeats that did not count."""

    n: Count
    mean: Share | None
    repeats: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricWindow:
    """``llm.metrics``: exact counts and sums of one tumbling window and one set of dimensions.

    ``shadows_ok``: of ``shadows``, those that gave an answer in time. ``surveys``: results that ask their user; what is said is in ``feedback``.
    """

    window_start: Time
    window_s: Annotated[int, Field(strict=True, ge=1, le=MAX_INT)]
    final: Flag
    tenant: str
    pool: str
    model: str
    stratum: str
    cohort: str
    lane: str
    requests: Count
    ok: Count
    errors: dict[str, Count]
    attempts: Count
    retries: Count
    fallbacks: Count
    hedges: Count
    escalations: Count
    shadows: Count
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count
    cost_nano_usd: NanoUsd
    baseline_cost_nano_usd: NanoUsd
    cost_unknown: Count
    latency_ms: Latency
    feedback: dict[str, FeedbackCount]
    shadows_ok: Count = 0
    surveys: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """``llm.dead-letter``: a record that could not be used, whole up to 1 MiB, and why. May hold prompt text."""

    reason: ErrorInfo
    stage: str
    topic: str
    partition: Count
    offset: Count
    at: Time
    key_base64: str | None
    value_base64: str | None
    value_bytes: Count
    truncated: Flag


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """``llm.reviews``: an answer that a person shall look at, blind to model and cohort.

    ``attempt``: whose answer it is, to be named in the feedback. ``request_at``, ``answer_at``: where request and outcome lie. ``sample``: what
    it was drawn for: ``review``, to know how good answers are; ``shadow``, to compare two answers to one request; ``cascade``, to be labelled. ``weight``: of
    an opinion on it beside others of its stratum. ``feedback_token``: feedback on this answer; it can be read, so do not show it to whoever shall be blind.
    """

    request_id: Sha
    pool: str
    stratum: str
    model_hidden: str
    inclusion_probability: Share
    due_at: Time
    prompt: Any = None
    answer: Any = None
    attempt: Count | None = None
    request_at: Origin | None = None
    answer_at: Origin | None = None
    sample: Literal["review", "shadow", "cascade"] | None = None
    weight: Annotated[float, Field(strict=True, ge=0.0, le=1000.0, allow_inf_nan=False)] = 1.0
    feedback_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """A difference and its confidence interval."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What an alert compares with, and on how many observations."""

    kind: str
    n: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """What is at stake both ways."""

    at_risk_nano_usd_per_day: NanoUsd
    saving_nano_usd_per_day: NanoUsd


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAction:
    """What was done or is proposed, the command that does it and the one that undoes it."""

    taken: str | None = None
    proposed: str | None = None
    command: str | None = None
    undo: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """``llm.alerts``: evidence that something is wrong, in its slice."""

    id: str
    state: Literal["open", "acknowledged", "closed"]
    severity: Literal["page", "watch"]
    pool: str | None
    stratum: str | None
    signal: str
    model: str | None
    effect: Effect | None
    reference: Reference | None
    since: Time
    evidence: dict[str, Any]
    traffic_share: Share | None
    money: Money | None
    action: AlertAction
    at: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """A model that has more to do than it can, at ``at_ms``: ``queued`` interactive attempts wait for a slot, ``per_s`` attempts end in a second.

    ``behind``: others wait behind those, since they exceed their tenants' shares.
    """

    at_ms: Count
    queued: Count
    per_s: Annotated[float, Field(strict=True, ge=0.001, allow_inf_nan=False)]
    behind: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """``llm.health``: the state of one model, why, and until when. Figures are of the last 30 s, ``None`` without any.

    ``queue_wait_ms``: how long an interactive request waits for a free slot, at least. ``silent``: down because nothing that is asked of it is
    answered. ``saturated``: ``None`` where it has no queue, or nobody knows. ``endpoints``: name -> ``attempts``, ``error_rate``, ``p50_ms``, ``p95_ms``, ``p99_ms``.
    """

    model: str
    state: HealthState
    reason: str
    error_rate: Share | None
    p95_ms: Number | None
    queue_wait_ms: Number | None
    endpoints: dict[str, Any]
    until: Time | None
    at: Time
    p50_ms: Number | None = None
    p99_ms: Number | None = None
    silent: bool = False
    saturated: Saturation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """``llm.control``: one standing order. ``scope``: ``model:X``, ``pool:X``, ``stratum:POOL/CLASS/BAND``, ``stratum:POOL/slice/DIMENSION=VALUE``, ``tenant:X`` or ``all``."""

    scope: Annotated[
        str,
        Field(
            pattern=r"^(all|(model|pool|tenant):[a-z0-9][a-z0-9_-]{0,63}|stratum:[a-z0-9][a-z0-9_-]{0,63}/[^/]+(/[^/]+)?)$"
        ),
    ]
    action: Action
    args: dict[str, Any] = field(default_factory=dict)
    active: Flag
    by: Annotated[str, Field(min_length=1, max_length=256)]
    reason: Annotated[str, Field(min_length=1, max_length=2048)]
    at: Time
    expires_at: Time | None = None
