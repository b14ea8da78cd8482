"""The slip: what settle must know of an attempt, signed, carried by the work and echoed by the worker.

A slip alone is enough to settle a request, so an outcome may come before its decision and settle never looks back at
the request. Its text is opaque to workers. The payload is a JSON array; its first item is the format's number, so a
later release still reads slips that are on their way; fields that were added since have their default, and an earlier one passes over them.
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter
from typing import Any

import orjson

from router.contract.errors import PointsmanError, RejectCode
from router.contract.records import Cohort, Lane, Origin, Reason
from router.contract.values import value
from router.core.cascade import Trial, trial_of
from router.core.keyring import Keyring, SealError
from router.core.mirror import Mirror, Sample, mirror_of, sample_of
from router.core.survey import Ask, ask_of

__all__ = ["Keyring", "Slip", "SlipError", "sign", "verify"]

_FORMAT = 1


class SlipError(PointsmanError):
    """Not a slip of this installation."""

    code = RejectCode.WRONG_SLIP


@value(frozen=True, slots=True)
class Slip:
    """One attempt and the request it belongs to. Its fields go by name, except into ``from_list``, by their order.

    ``attempt`` 0 is a refusal: no model, no reason. ``stratum``, ``cohort``, ``propensity``, ``policy_version`` and
    ``first_model`` are those of the request's first decision. ``key`` is the request record's key; ``at_ms`` its
    timestamp. ``pool`` and ``baseline`` are ``None`` where the request names a model directly. Texts and ``metadata`` are
    what ``contract.codec`` has read, so they can be written again. ``of_order``: the attempt, or its refusal, answers an
    order of settle's, so settle has had a row of the request. ``charged``: what the pool's budget was charged, in nano-dollars;
    ``context``: what the policy looked at of the first model (``core.bandit.squarecb``); ``trial``: how the answer is checked; ``session``: a hash of it;
    ``sample``: what the request was drawn for; ``mirror``: the answer that this attempt mirrors, or judges beside its shadow: it comes after
    the result and changes nothing of it; ``survey``: what its result asks the user; ``slices``: those that the request is in (``core.slicing``). ``None`` where there is no such thing.
    """

    request_id: str
    attempt: int
    model: str | None
    reason: Reason | None
    origin: Origin
    at_ms: int
    deadline_at_ms: int
    key: bytes | None
    tenant: str
    custom_id: str
    metadata: Any
    lane: Lane
    pool: str | None = None
    stratum: str | None = None
    cohort: Cohort | None = None
    propensity: float | None = None
    policy_version: str | None = None
    first_model: str | None = None
    baseline: str | None = None
    of_order: bool = False
    charged: int | None = None
    context: tuple[float, ...] | None = None
    trial: Trial | None = None
    session: str | None = None
    sample: Sample | None = None
    mirror: Mirror | None = None
    survey: Ask | None = None
    slices: tuple[str, ...] = ()
    behind: bool = False

    @property
    def beside(self) -> bool:
        """Whether the attempt comes beside the request's result: a shadow, or the judge of a pair."""
        return self.mirror is not None or self.reason == "shadow"


_NAMES = tuple(field.name for field in fields(Slip))
_VALUES = attrgetter(*_NAMES)
#: What an earlier release had not yet, and the values that stand for it: slips are on their way while a router is replaced.
_LEAST = _NAMES.index("of_order")
_ABSENT = [field.default for field in fields(Slip)]
_ORIGIN, _KEY, _CONTEXT, _TRIAL = map(_NAMES.index, ("origin", "key", "context", "trial"))
_SAMPLE, _MIRROR, _SURVEY, _SLICES = map(_NAMES.index, ("sample", "mirror", "survey", "slices"))


def sign(slip: Slip, keyring: Keyring) -> str:
    """The slip as opaque text, 350 characters for short names without metadata. Takes 5 us."""
    return keyring.slips.seal(orjson.dumps(to_list(slip)))


def verify(text: str, keyring: Keyring) -> Slip:
    """The slip that ``sign`` made into this text. Takes 7 us.

    Raises:
        SlipError: Anything else, whatever it holds.
    """
    try:
        payload = keyring.slips.unseal(text)
    except SealError as error:
        raise SlipError(f"slip: {error}") from error
    return from_list(orjson.loads(payload))  # genuine from here on, at most of another release


def to_list(slip: Slip) -> list[Any]:
    """A slip as JSON values: rows of settle's table hold it like this."""
    origin, key = slip.origin, slip.key
    values = [_FORMAT, *_VALUES(slip)]
    values[_ORIGIN + 1] = [origin.topic, origin.partition, origin.offset]
    values[_KEY + 1] = None if key is None else key.decode("latin-1")
    if (trial := slip.trial) is not None:
        values[_TRIAL + 1] = trial.values()
    if (sample := slip.sample) is not None:
        values[_SAMPLE + 1] = sample.values()
    if (mirror := slip.mirror) is not None:
        values[_MIRROR + 1] = mirror.values()
    if (survey := slip.survey) is not None:
        values[_SURVEY + 1] = survey.values()
    return values


def from_list(values: Any) -> Slip:
    """The inverse of ``to_list``; ``SlipError`` for another format. What a later release says beyond is passed over."""
    if values[0] != _FORMAT or len(values) <= _LEAST + 1:
        raise SlipError("slip: the format of another release")
    found = [*values[1 : len(_NAMES) + 1], *_ABSENT[len(values) - 1 :]]
    topic, partition, offset = found[_ORIGIN]
    found[_ORIGIN] = Origin(topic=topic, partition=partition, offset=offset)
    if (key := found[_KEY]) is not None:
        found[_KEY] = key.encode("latin-1")
    if (context := found[_CONTEXT]) is not None:
        found[_CONTEXT] = tuple(context)
    found[_TRIAL] = trial_of(found[_TRIAL])
    found[_SAMPLE] = sample_of(found[_SAMPLE])
    found[_MIRROR] = mirror_of(found[_MIRROR])
    found[_SURVEY] = ask_of(found[_SURVEY])
    found[_SLICES] = tuple(found[_SLICES])
    return Slip(*found)
