"""No tenant outvotes the others: what one says of a model counts for a set share of all that is said of it, and no more.

What is observed is kept apart by *voice*: one of ``VOICES`` places that a tenant's name is hashed to. When weights are made the voices are
added up, each cut to the cap c, the largest number with

    c <= most x sum_v min(n_v, c),        n_v: what voice v has said of the model, faded and by trust (``TRUST``)

So sums stay exact and order and batches change nothing; a storm is cut whenever it comes, and what it had displaced is back as soon as others
speak. From ``most`` = 1/2 on only the loudest is ever cut: with 1/2 to what all others say together, with 2/3 to twice that.

- **One tenant alone** counts whole: there is nobody whom it could outvote, and an installation of one tenant learns as ever. It stays so until the others
  have said ``LEAST`` of the model together, so that one word of a second tenant does not undo what the first has taught; ``LEAST`` is also what
  any voice may always say.
- Tenants that share a place are one voice: the bound holds for them together. Who speaks under many names is not bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Final

import xxhash

#: Places of a stratum: two given tenants share one with probability 1.6 %.
VOICES: Final = 64
#: Observations, by trust: reviews count one, thumbs a quarter.
LEAST: Final = 20.0


def voice_of(tenant: str | None) -> int:
    """The place of a tenant, 0..``VOICES`` - 1; who is not named is a tenant of its own."""
    return xxhash.xxh3_64_intdigest((tenant or "").encode("utf-8", "surrogatepass")) % VOICES


def contested(said: Sequence[Mapping[str, float]]) -> set[str]:
    """The models of which others than the loudest voice have said ``LEAST``. ``said``: by voice, how much of each model."""
    found = set()
    for model in {model for one in said for model in one}:
        amounts = [one.get(model, 0.0) for one in said]
        if sum(amounts) - max(amounts) >= LEAST:
            found.add(model)
    return found


def shares(
    said: Sequence[Mapping[str, float]], most: float, models: Collection[str], least: float = LEAST
) -> list[dict[str, float]]:
    """Per voice and model what counts of what it has said, 0..1; only those that are cut. ``most`` 0..1; of ``models`` alone.

    >>> said = [{"small": 10_000.0}, {"small": 300.0}, {"small": 100.0}]
    >>> shares(said, 0.5, contested(said))
    [{'small': 0.04}, {}, {}]
    """
    found: list[dict[str, float]] = [{} for _ in said]
    for model in models:
        amounts = [one.get(model, 0.0) for one in said]
        most_of_it = cap(amounts, most, least)
        for one, amount in zip(found, amounts, strict=True):
            if amount > most_of_it:
                one[model] = most_of_it / amount
    return found


def cap(amounts: Sequence[float], most: float, least: float) -> float:
    """C of the module's text, ``least`` at least; infinite where ``most`` is 1.

    >>> cap([900.0, 60.0, 40.0], 0.25, 20.0), cap([900.0, 60.0, 40.0], 1.0, 20.0)
    (20.0, inf)
    """
    if most >= 1.0:
        return inf
    ordered = sorted(amounts, reverse=True)
    left = list(accumulate(reversed(ordered)))[::-1]
    for cut, (amount, rest) in enumerate(
        zip(ordered, left, strict=True)
    ):  # as if so many were cut, which leaves the rest whole
        if most * cut >= 1.0:
            break
        found = most * rest / (1.0 - most * cut)
        if amount <= found * (1.0 + _ROUNDING):
            return max(found, least)
    return least


_ROUNDING: Final = 1e-9
