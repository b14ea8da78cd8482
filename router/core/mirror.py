"""What is drawn of a request at its first decision, and what its second answer must know: values that travel in slips and orders.

A *shadow* is a second answer to a request that has its result: another model's, to the same body, which nobody is given. Its attempt has
the number 100 + that of the answer it mirrors; the judge who compares the two, 200 + it.
"""

from __future__ import annotations

from typing import Any, Final

from router.contract.records import Origin
from router.contract.values import value

SHADOW_BASE: Final = 100
JUDGE_BASE: Final = 200


@value(frozen=True, slots=True, kw_only=True)
class Sample:
    """Which samples a request is in, by the probability with which it got there; 0: it is not in that one.

    ``review``: people look at its answer; ``weight``: of their opinion beside others of the stratum, about 1. ``shadow``: another
    model answers it, too.
    """

    review: float = 0.0
    weight: float = 1.0
    shadow: float = 0.0

    def values(self) -> list[float]:
        """As JSON: slips and rows hold it like this."""
        return [self.review, self.weight, self.shadow]


@value(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The answer that a shadow mirrors: of attempt ``of`` by ``model``, at ``answer_at``; drawn with probability ``inclusion``.

    ``review``: the probability with which people look at that answer, ``weight`` of what they say; ``token``: feedback on it, where they
    are to look at it for the sake of this pair. For the judge of the pair ``shadow``, ``shadow_served_model``, ``shadow_at`` say the same of the second answer.
    """

    of: int
    model: str
    served_model: str
    answer_at: Origin
    inclusion: float
    review: float = 0.0
    weight: float = 1.0
    token: str | None = None
    shadow: str | None = None
    shadow_served_model: str | None = None
    shadow_at: Origin | None = None

    def values(self) -> list[Any]:
        """As JSON: slips hold it like this."""
        return [
            self.of,
            self.model,
            self.served_model,
            _place(self.answer_at),
            self.inclusion,
            self.review,
            self.weight,
            self.token,
            self.shadow,
            self.shadow_served_model,
            _place(self.shadow_at),
        ]


def sample_of(values: Any) -> Sample | None:
    """From JSON values: a list, as slips and rows have it."""
    if values is None:
        return None
    review, weight, shadow, *_ = values
    return Sample(review=review, weight=weight, shadow=shadow)


def mirror_of(values: Any) -> Mirror | None:
    """From JSON values: a list, as slips have it."""
    if values is None:
        return None
    of, model, served_model, answer_at, inclusion, review, weight, token, shadow, shadow_served_model, shadow_at, *_ = (
        values
    )
    return Mirror(
        of=of,
        model=model,
        served_model=served_model,
        answer_at=Origin(**dict(zip(_WHERE, answer_at, strict=True))),
        inclusion=inclusion,
        review=review,
        weight=weight,
        token=token,
        shadow=shadow,
        shadow_served_model=shadow_served_model,
        shadow_at=None if shadow_at is None else Origin(**dict(zip(_WHERE, shadow_at, strict=True))),
    )


_WHERE = ("topic", "partition", "offset")


def _place(origin: Origin | None) -> list[Any] | None:
    return None if origin is None else [origin.topic, origin.partition, origin.offset]
