"""The feedback token of a result: signed facts, so that feedback joins its decision without a lookup.

Sealed with the keys of the slips for a purpose of its own: a slip is never a token, nor a token a slip.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import orjson

from router.contract.errors import PointsmanError, RejectCode
from router.contract.records import Cohort, Lane
from router.contract.values import value
from router.core.keyring import Keyring, SealError

_FORMAT = 1


class TokenError(PointsmanError):
    """``code`` is ``forged_token`` or ``expired_token``."""

    code = RejectCode.FORGED_TOKEN


@value(frozen=True, slots=True, kw_only=True)
class FeedbackFacts:
    """What feedback must know of the result it speaks of.

    ``first_model``, ``stratum``, ``cohort``, ``propensity``, ``policy_version`` are those of the first decision,
    ``model`` is the one that answered. ``pool`` and ``stratum`` are ``None`` for a direct request: no reward. ``context``: as in
    the slip.
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


_NAMES = tuple(field.name for field in fields(FeedbackFacts))
_VALUES = attrgetter(*_NAMES)


def issue(facts: FeedbackFacts, keyring: Keyring) -> str:
    """The token's text, 270 characters for short names. Takes 3 us."""
    return keyring.tokens.seal(orjson.dumps([_FORMAT, *_VALUES(facts)]))


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
    if values[0] != _FORMAT or len(values) != len(_NAMES) + 1:
        raise TokenError("feedback_token: the format of another release")
    facts = FeedbackFacts(**dict(zip(_NAMES, values[1:], strict=True)))
    if now_ms >= facts.expires_at_ms:
        raise TokenError("feedback_token: expired", code=RejectCode.EXPIRED_TOKEN)
    return facts
