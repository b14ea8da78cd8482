"""What a decision is made of, beside the snapshot: the request as the router understood it. No prompt text.

All of it goes into the decision record (``audit``), so that ``decide`` can be asked again, years later, and must say the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from router.contract.errors import Code
from router.contract.records import Cohort, Reason
from router.contract.values import value
from router.core.cascade import Trial
from router.core.mirror import Mirror, Sample
from router.core.records import First


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a session was given at its first request in a pool; kept until it is idle for long, or must break."""

    model: str
    stratum: str
    cohort: Cohort
    weights: Mapping[str, float]
    policy_version: str


@value(frozen=True, slots=True, kw_only=True)
class Warm:
    """What the provider of ``model`` has in its cache: ``tokens`` of the session's last prompt, since ``at_ms``."""

    model: str
    tokens: int
    at_ms: int


@value(frozen=True, slots=True, kw_only=True)
class Purse:
    """Of a pool with a budget, as its ledger stands (``core.budget``).

    ``price`` of money; ``left_nano_usd`` of what all requests have brought, this one included; ``burst_nano_usd`` beyond it;
    calls cost ``dearer`` times what is expected of them.
    """

    price: float
    left_nano_usd: int
    burst_nano_usd: int
    dearer: float = 1.0


#: Length of an answer where the request sets no limit: only to compare costs.
USUAL_COMPLETION_TOKENS: Final = 256

#: Shorter prompts are in no provider's cache.
CACHED_FROM_TOKENS: Final = 1024

#: What is asked for: a text, a text as it is written, or something that no check of a cascade reads.
Form = Literal["text", "stream", "other"]


@value(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """One attempt to be decided.

    ``target``: the pool or model that the body names. ``stratum``: as classified. ``completion_tokens``: the longest answer
    asked for, ``None`` without a limit; of ``answers`` answers. ``at_ms``: the time of the decision, by which orders expire
    and deadlines pass. ``p_ok`` as the classifier has it.

    A further attempt has ``first``, what the first decision said; ``prefer``, the model to try again; ``exclude``, those
    that had their chance; ``chain``, the only ones that may be asked, in this order, where it is not empty; ``last_error``, the code that stands if nothing is left. A shadow, and the judge of a pair, have ``mirror``.

    ``slices``: those that it is in beside its stratum (``core.slicing``). ``pace``: how often answers of the pool are looked at (``core.review_sample``), ``None`` where none are.
    """

    request_id: str
    attempt: int
    reason: Reason
    tenant: str
    session: str | None
    target: str
    stratum: str
    prompt_tokens: int
    tokens_estimated: bool
    completion_tokens: int | None
    answers: int
    needs: tuple[str, ...]
    max_cost_nano_usd: int | None
    at_ms: int
    deadline_at_ms: int
    p_ok: Mapping[str, float] = field(default_factory=dict)
    purse: Purse | None = None
    assignment: Assignment | None = None
    warm: Warm | None = None
    first: First | None = None
    prefer: str | None = None
    exclude: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    last_error: str | None = None
    form: Form = "text"
    mirror: Mirror | None = None
    pace: float | None = None
    slices: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Whose draws these are: the session's where one is given."""
        return self.session or self.request_id


class Candidate(NamedTuple):
    """A model of the pool; ``excluded``: the rule that took it out. A tuple: it is made for each model of each request."""

    model: str
    excluded: str | None
    p_ok: float | None
    expected_cost_nano_usd: int | None


@value(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where the attempt goes. ``propensity`` = ``weights[model]``; ``weights`` are those used and sum to 1.

    ``quality``: expected of each candidate, and ``context`` of the model chosen, by policy ``squarecb``; ``gamma``: how sharply
    it prefers the best. ``session_broke``: why the session's assignment did not hold. ``would``: what the policy would have done, where it is
    only observed. ``trial``: the answer will be checked, by the pool's cascade. ``sample``: what the request was drawn for;
    ``shadow_of``: the attempt that it mirrors, or that is judged beside its shadow; ``fence``: the slice's order that gave it back to the baseline. ``pool``, ``stratum``, ``baseline`` are ``None`` where the request named a model.
    """

    model: str
    pool: str | None
    stratum: str | None
    baseline: str | None
    candidates: tuple[Candidate, ...]
    weights: Mapping[str, float]
    draw: float
    propensity: float
    cohort: Cohort
    policy_version: str
    reason: Reason
    quality: Mapping[str, float] | None = None
    context: tuple[float, ...] | None = None
    gamma: float | None = None
    session_broke: str | None = None
    would: str | None = None
    trial: Trial | None = None
    sample: Sample | None = None
    shadow_of: int | None = None
    fence: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request gets no (further) attempt: ``code`` for the result, ``message`` for a person; ``retry_after_ms`` until a new try is worth it, if known."""

    code: Code | str
    message: str
    retry_after_ms: int | None = None
