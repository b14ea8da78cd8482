"""Who is asked what an answer was worth: drawn by the request, before the answer, alike in all cohorts; nobody again within a quiet period.

    asked = (draw(tenant, request id, survey) < share)  and  nothing was asked of the user for ``quiet_ms``  and  the day has room

The draw is a hash, so a retry or a replay draws alike. Which model answers plays no part, nor does the cohort: so response rates and
answers of cohorts are of the same mix of users. ``share`` is the probability of a request whose user may be asked.

A *user* is who the caller says it is: ``safety_identifier`` or ``user`` of the body, as OpenAI has them, else the session. Users are known by a
hash alone. A request that names none is not asked: nobody could be left in peace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from router.contract.ids import session_hash
from router.contract.values import value
from router.core.draw import SURVEY, draw

#: Users remembered as asked, some 40 MB; beyond it the one asked longest ago is forgotten.
MOST_USERS: Final = 300_000


@value(frozen=True, slots=True, kw_only=True)
class Template:
    """A configured survey as route sees it. ``share`` 0..1; ``per_day``: of all lanes together."""

    name: str
    share: float
    quiet_ms: int
    per_day: int


@value(frozen=True, slots=True, kw_only=True)
class Ask:
    """The result shall ask: of survey ``name``, drawn with probability ``inclusion``; ``user``: a hash."""

    name: str
    inclusion: float
    user: str

    def values(self) -> list[Any]:
        """As JSON: slips and rows hold it like this."""
        return [self.name, self.inclusion, self.user]


def ask_of(values: Any) -> Ask | None:
    """From JSON values: a list, as slips and rows have it."""
    if values is None:
        return None
    name, inclusion, user, *_ = values
    return Ask(name=name, inclusion=inclusion, user=user)


def drawn(template: Template, tenant: str, request_id: str) -> bool:
    """Whether the request is in the survey's sample."""
    return draw(tenant, request_id, f"{SURVEY}/{template.name}") < template.share


def user_of(tenant: str, body: Mapping[str, Any], session: str | None) -> str | None:
    """A hash of whom an answer is for; ``None`` where nobody is named.

    >>> user_of("acme", {"user": "u-1"}, "s-9") == user_of("acme", {"user": "u-1"}, None)
    True
    """
    for named in (body.get("safety_identifier"), body.get("user"), session):
        if isinstance(named, str) and named:
            return session_hash(tenant, named)
    return None


def part_of_day(per_day: int, lane: int, lanes: int) -> int:
    """Of so many a day what one of ``lanes`` lanes may ask: all parts sum to it.

    >>> [part_of_day(5, lane, 4) for lane in range(4)]
    [2, 1, 1, 1]
    """
    return per_day // lanes + (lane < per_day % lanes)


class Quiet:
    """When each user was last asked, of those that were within ``keep_ms``; ``MOST_USERS`` at most. 0.2 us a look."""

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._asked: dict[str, int] = {}

    def note(self, user: str, at_ms: int) -> None:
        """The user was asked. Who was asked too long ago to matter is forgotten."""
        asked = self._asked
        asked[user] = max(at_ms, asked.pop(user, 0))  # to the end: the order is, nearly, that of time
        while asked[oldest := next(iter(asked))] < at_ms - self._keep_ms or len(asked) > MOST_USERS:
            del asked[oldest]

    def since_ms(self, user: str) -> int | None:
        """When the user was asked last."""
        return self._asked.get(user)

    def __len__(self) -> int:
        return len(self._asked)
