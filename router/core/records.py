"""Records of the internal topics: what stages say to each other. Trusted: only our own transactions write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from router.contract.records import Cohort, FeedbackKind, FeedbackSource, Lane, Origin, Reason, Status
from router.core.lease import Ask, Grant, Kind
from router.core.mirror import Mirror

#: Signal of a record of ``alerts`` that is no alarm, and closed: a model answers under a name that its provider never gave before.
NEW_NAME: Final = "served_model"


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
    ``chain``: the models that may be asked, in this order; empty: whom the policy chooses.
    ``answer``: where the outcome lies that a judge (reason ``judge``) is to look at. ``mirror``: of a shadow, and of the judge of a pair;
    such an order comes after the result, and what becomes of it changes nothing.
    ``last_error`` is the code that the result will carry if nothing is left to try.

    Route gives itself one, too (``parked_ms``: when the request began to wait for its tenant's lease): settle's again, or that of a first attempt, with
    reason ``routed`` and without ``first``. One whose prompt was counted meanwhile says so: ``counted`` prompt tokens, by estimate where ``counted_inexact``.
    """

    request_id: str
    attempt: int
    reason: Reason
    lane: Lane
    origin: Origin
    at_ms: int
    deadline_at_ms: int
    first: First | None
    prefer: str | None = None
    exclude: tuple[str, ...] = ()
    last_error: str | None = None
    answer: Origin | None = None
    mirror: Mirror | None = None
    parked_ms: int | None = None
    chain: tuple[str, ...] = ()
    counted: int | None = None
    counted_inexact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedAttempt:
    """``llm.usage``: one unique outcome, priced once by settle. ``at_ms``: the outcome record's timestamp.

    ``cost_nano_usd`` is ``None`` where no price is known. ``pool``, ``stratum``, ``baseline`` are ``None`` for a direct request.
    ``baseline_output_nano_usd_per_token``: what its answers cost by length, then; ``None`` where it has no price. ``served_model``: what the
    provider calls what answered, cut by settle; ``None`` where it did not say. ``slices``: those that the request is in (``core.slicing``). ``endpoint``: as the worker calls it, cut by settle.
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
    served_model: str | None = None
    slices: tuple[str, ...] = ()
    endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """``llm.spending[.batch]``: ``requests`` of a pool with a budget are done; they were ``charged`` so much.

    ``cost``: of the outcomes read meanwhile, whosoever's; nano-dollars both. In the partition of the requests. ``shadow``: of
    shadows and their judges instead, which have an allowance of their own.
    """

    pool: str
    requests: int
    charged: int
    cost: int
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """``llm.leases.wanted`` (key: the tenant's table): what a lane of route says to the owner of a tenant's limits (``core.lease``)."""

    tenant: str
    lane: Lane
    partition: int
    asks: list[Ask]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantNews:
    """``llm.leases[.batch]``, into the partition of the lane: of a tenant's limits, ``grants`` by their owner, or ``charges`` by settle.

    A charge is offset of the request, attempt, and the nano-dollars that the attempt has cost.
    """

    tenant: str
    grants: list[Grant] = field(default_factory=list)
    charges: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """One limit, in the window that ends at ``ends_ms``: ``lent`` to lanes, ``used`` of that. ``limit``, ``soft``: ``None`` where there is none."""

    kind: Kind
    ends_ms: int
    limit: int | None
    soft: int | None
    lent: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantState:
    """``llm.tenants`` (compacted, key: the tenant's table): how a tenant's limits stand, told by their owner. Empty: it has none any more."""

    tenant: str
    limits: list[LimitState]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """``llm.pairs`` (key ``pool/stratum``): a judge has compared a model's answer with one of the pool's baseline to the same request.

    ``model`` is the one that is not the baseline, whichever of the two the caller got; ``reference_model`` the baseline. ``verdict`` -1..1: above
    0 the model's answer is worse than the reference's, below 0 better, 0 neither. ``session``: a hash of it. ``cohort`` of the request. ``asked_ms``: when
    the request was made; ``at_ms``: when the judge had spoken. ``inclusion``: probability with which the pair was drawn. ``swapped``: which of the two answers the judge was shown first.
    ``slices``: those that the request is in (``core.slicing``).
    """

    request_id: str
    pool: str
    stratum: str
    tenant: str
    session: str | None
    model: str
    served_model: str
    reference_model: str
    cohort: Cohort
    verdict: float
    judge: str
    asked_ms: int
    at_ms: int
    inclusion: float
    swapped: bool = False
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """``days`` until the guard would see a drop of the margin there, ``None``: never; ``blind``: that is more than a week.

    ``reviews_for_one_day``, ``pairs_for_one_day``: how many a day would make it one day, each alone; ``None``: no number would.
    """

    stratum: str
    blind: bool
    days: float | None
    reviews_for_one_day: int | None
    pairs_for_one_day: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """``llm.guard.sight`` (compacted, key ``pool``): what the guard can see of each stratum, by what the last week brought."""

    pool: str
    margin: float
    strata: list[Stratum]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Focus:
    """``llm.focus`` (compacted, key ``pool/stratum``): the guard wants to see more of a stratum, or less, or more of a slice (``stratum`` is ``slice/NAME`` then).

    Factors of 0 or more on the inclusion probabilities that would hold otherwise; 1 is as usual, as is no record. A slice's are added to those of the
    stratum, so there 0 is as usual (``core.guard.focus``). Of reviews the budget a day stays what it is: what one gets more, others get less.
    """

    pool: str
    stratum: str
    reviews: float
    shadow: float
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """``llm.paces`` (compacted, key ``lane/partition/pool``): what a lane of route has of a pool a day, as reviews are drawn.

    The sum of focus x score (``core.review_sample``) of a day's requests; all lanes' together make how often an answer is looked at.
    """

    lane: Lane
    partition: int
    pool: str
    per_day: float
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """``llm.shares`` (compacted, key: partition): prompt tokens a second by tenants' tables, lately, as an interactive lane of route gets them."""

    partition: int
    rates: dict[str, float]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """``llm.journal`` (key: the pool, or the order's scope): something was decided. What was known, what came of it, by whom, until when.

    ``kind``: of a rollout ``start advance hold rollback overruled resume done``; of what was ordered ``order release``. Percentages of what the
    holdout leaves. ``known``: the gates of ``core.rollout``, as they stood.
    """

    at: str
    kind: str
    scope: str
    by: str
    reason: str
    action: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    before_percent: float | None = None
    after_percent: float | None = None
    until: str | None = None
    known: list[dict[str, Any]] = field(default_factory=list)


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
    """``llm.feedback.counted``: one feedback as the metric windows see it; ``repeat`` did not count. ``attempt``: whose answer it is about."""

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
    attempt: int | None = None
    source: FeedbackSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyEvent:
    """``llm.surveys`` (key: request id): a result asks its user, or the user has answered.

    ``user``: a hash; of an answer it is not known. ``inclusion``: probability with which the request was drawn. ``value`` 0..1 of an answer.
    """

    event: Literal["asked", "answered"]
    survey: str
    request_id: str
    pool: str
    stratum: str
    cohort: Cohort
    at_ms: int
    user: str | None = None
    inclusion: float | None = None
    value: float | None = None


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
