"""Records of the internal topics: what stages say to each other. Trusted: only our own transactions write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from router.contract.records import Cohort, FeedbackKind, FeedbackSource, Lane, Origin, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """What the first decision of a request said; results and later attempts repeat it."""

    stratum: str | None
    cohort: Cohort
    propensity: float
    policy_version: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``llm.redispatch[.batch]``: settle orders one more attempt; route fetches the body and dispatches it.

    ``prefer`` is the model to try again (reason ``retry``), ``exclude`` the models that have had their chance.
    ``answer``: where the outcome lies that a judge (reason ``judge``) is to look at.
    ``last_error`` is the code that the result will carry if nothing is left to try.
    """

    request_id: str
    attempt: int
    reason: Reason
    lane: Lane
    origin: Origin
    at_ms: int
    deadline_at_ms: int
    first: First
    prefer: str | None = None
    exclude: tuple[str, ...] = ()
    last_error: str | None = None
    answer: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedAttempt:
    """``llm.usage``: one unique outcome, priced once by settle. ``at_ms``: the outcome record's timestamp.

    ``cost_nano_usd`` is ``None`` where no price is known. ``pool``, ``stratum``, ``baseline`` are ``None`` for a direct request.
    ``baseline_output_nano_usd_per_token``: what its answers cost by length, then; ``None`` where it has no price.
    """

    request_id: str
    attempt: int
    model: str
    tenant: str
    lane: Lane
    pool: str | None
    stratum: str | None
    cohort: Cohort
    reason: Reason
    status: Status
    error_code: str | None
    at_ms: int
    latency_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int | None
    baseline_cost_nano_usd: int
    price_version: str | None
    late: bool
    baseline: str | None = None
    baseline_output_nano_usd_per_token: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """``llm.spending[.batch]``: ``requests`` of a pool with a budget are done; they were ``charged`` so much.

    ``cost``: of the outcomes read meanwhile, whosoever's; nano-dollars both. In the partition of the requests.
    """

    pool: str
    requests: int
    charged: int
    cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFeedback:
    """``llm.feedback.verified``: feedback whose token is genuine, or that names a request id; re-keyed by request id.

    ``facts`` is the verified token's content, ``None`` when the feedback came by request id and must be joined.
    ``source_*``: the feedback record itself, for its dead letter. ``attempt``: whose answer it is about, if not the result's.
    """

    request_id: str
    kind: FeedbackKind
    source: FeedbackSource
    value: float
    weight: float
    at_ms: int
    facts: dict[str, Any] | None
    source_topic: str
    source_partition: int
    source_offset: int
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedFeedback:
    """``llm.feedback.counted``: one feedback as the metric windows see it; ``repeat`` did not count."""

    request_id: str
    tenant: str
    lane: Lane
    pool: str | None
    stratum: str | None
    model: str
    cohort: Cohort
    kind: FeedbackKind
    value: float
    repeat: bool
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """``llm.load`` (compacted, key ``stage/partition``): how a stage's partition stands, at most ten times a second.

    ``open`` and ``oldest_at_ms`` (request time of the oldest unfinished one) by lane; ``overdue``: open past deadline
    plus 10 s; ``doubled``: results seen twice; ``ids``: settled ids kept. A stage fills what it knows.
    """

    stage: str
    partition: int
    at_ms: int
    read_to_ms: int
    open: dict[str, int] = field(default_factory=dict)
    oldest_at_ms: dict[str, int] = field(default_factory=dict)
    overdue: int = 0
    doubled: int = 0
    ids: int = 0
