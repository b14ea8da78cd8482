"""The feedback token of a result: signed facts, so that feedback joins its decision without a lookup.

Sealed with the keys of the slips for a purpose of its own: a slip is never a token, nor a token a slip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

import orjson

from router.contract.errors import PointsmanError, RejectCode
from router.contract.records import Cohort, Lane
from router.contract.releases import by_name, by_place
from router.contract.values import value
from router.core.keyring import Keyring, SealError

_FORMAT = 1


class TokenError(PointsmanError):
    """``code`` is ``forged_token`` or ``expired_token``."""

    code = RejectCode.FORGED_TOKEN


@value(frozen=True, slots=True)
class Sampled:
    """An answer of a cascade's first model: of which attempt and model, how sure, what held; ``inclusion`` > 0; when it was settled."""

    attempt: int
    model: str
    served_model: str
    confidence: float
    threshold: float | None
    inclusion: float
    calibrated: bool
    scale: str
    at_ms: int


@value(frozen=True, slots=True, kw_only=True)
class FeedbackFacts:
    """What feedback must know of the result it speaks of.

    ``first_model``, ``stratum``, ``cohort``, ``propensity``, ``policy_version`` are those of the first decision,
    ``model`` is the one that answered. ``pool`` and ``stratum`` are ``None`` for a direct request: no reward. ``context``: as in
    the slip, as ``session`` is. ``arm``: of a request that a cascade answered; ``sampled``: its cheap answer, where that is in the sample to be labelled.
    ``survey``: the result asks its user. ``slices``: as in the slip.
    """

    request_id: str
    tenant: str
    lane: Lane
    pool: str | None
    stratum: str | None
    first_model: str
    model: str
    answered_by_attempt: int
    cohort: Cohort
    propensity: float
    policy_version: str
    expires_at_ms: int
    context: tuple[float, ...] | None = None
    arm: str | None = None
    session: str | None = None
    sampled: Sampled | None = None
    survey: str | None = None
    slices: tuple[str, ...] = ()


_NAMES = tuple(field.name for field in fields(FeedbackFacts))
_VALUES = attrgetter(*_NAMES)
#: Those that an earlier release had, too: tokens live for a month.
_LEAST = _NAMES.index("context")
_AT_SAMPLED = _NAMES.index("sampled")
_SAMPLED = attrgetter(*(field.name for field in fields(Sampled)))


def issue(facts: FeedbackFacts, keyring: Keyring) -> str:
    """The token's text, 270 characters for short names. Takes 3 us."""
    values = [_FORMAT, *_VALUES(facts)]
    if facts.sampled is not None:
        values[_AT_SAMPLED + 1] = _SAMPLED(facts.sampled)
    return keyring.tokens.seal(orjson.dumps(values))


def open_token(text: str, keyring: Keyring, now_ms: int) -> FeedbackFacts:
    """The facts of a genuine token that is still alive at ``now_ms``.

    Raises:
        TokenError: ``forged_token`` for anything that ``issue`` did not make, ``expired_token`` from its expiry on.
    """
    try:
        payload = keyring.tokens.unseal(text)
    except SealError as error:
        raise TokenError(f"feedback_token: {error}") from error
    values = orjson.loads(payload)
    if values[0] != _FORMAT or len(values) <= _LEAST + 1:
        raise TokenError("feedback_token: the format of another release")
    facts = facts_of(dict(zip(_NAMES, values[1:], strict=False)))
    if now_ms >= facts.expires_at_ms:
        raise TokenError("feedback_token: expired", code=RejectCode.EXPIRED_TOKEN)
    return facts


def facts_of(values: Mapping[str, Any]) -> FeedbackFacts:
    """From JSON values by name, those of another release too: ``sampled`` may be a list or a mapping of its fields."""
    sampled = values.get("sampled")
    if sampled is not None:
        sampled = by_name(Sampled, sampled) if isinstance(sampled, Mapping) else by_place(Sampled, sampled)
    return by_name(FeedbackFacts, {**values, "sampled": sampled, "slices": tuple(values.get("slices", ()))})
