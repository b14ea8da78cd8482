"""Random numbers that are no state: a hash of who asks. The same request draws alike everywhere, and again in a replay.

``draw(tenant, unit, salt) = xxh3_64(tenant NUL unit NUL salt) / 2**64``. The unit is the session where one is given, else
the request id: a conversation draws once. Each question has a salt of its own, so that answers are independent: who is in
the holdout says nothing of which model a request gets.
"""

from __future__ import annotations

import xxhash

HOLDOUT = "holdout"
ROLLOUT = "rollout"
MODEL = "model"
PROBE = "probe"
LABEL = "label"
REVIEW = "review"
SHADOW = "shadow"
SIDES = "sides"
SURVEY = "survey"

_BELOW_ONE = 1.0 - 2.0**-53


def draw(tenant: str, unit: str, salt: str) -> float:
    """A number in [0, 1), uniform over units.

    >>> draw("acme", "s-9", HOLDOUT) == draw("acme", "s-9", HOLDOUT)
    True
    """
    digest = xxhash.xxh3_64_intdigest(f"{tenant}\0{unit}\0{salt}".encode("utf-8", "surrogatepass"))
    return min(digest / 2.0**64, _BELOW_ONE)
