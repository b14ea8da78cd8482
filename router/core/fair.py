"""Who goes first where more is asked for than can be done at once: each tenant up to its share, the rest behind everybody else.

A share is measured by what others want, not by what a tenant wants itself: with prompt tokens a second, lately,

    goes first <= MARGIN  x  weight  x  the most that any other tenant wants, over its weight

so one that wants a hundred times as much as the others goes first with as much as they do, and whoever wants less than another one always
does. One that is alone goes first with all. What goes behind is not refused: it is done as soon as nobody else waits.

A lane sees its own requests; what others see is told (``elsewhere``). A tenant's share is divided between lanes as its requests are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nlargest
from math import exp
from typing import Final

#: Over how long it is an average: what is wanted, so that who comes now and then is there; and what goes first, so that no burst does.
WANTED_S: Final = 10.0
FIRST_S: Final = 2.0
#: So much more may go first than others want: among alike ones, each for a while wants more than the next.
MARGIN: Final = 2.0
#: How long it holds what was found of all tenants: for one request it would take as long as there are tenants.
LOOK_EVERY_MS: Final = 50
#: Tokens a second that are nobody's.
NOTHING: Final = 0.05


@dataclass(slots=True)
class Pace:
    """Tokens a second, over the last ``over_s`` seconds or so."""

    over_s: float
    rate: float = 0.0
    at_ms: int = 0

    def note(self, tokens: int, now_ms: int) -> None:
        """So many more came now."""
        self.rate = self.at(now_ms) + tokens / self.over_s
        self.at_ms = now_ms

    def at(self, now_ms: int) -> float:
        """As of now."""
        return self.rate * exp(-max(0, now_ms - self.at_ms) / (self.over_s * 1000))


class Fair:
    """Of one lane. ``weights``: by tenant; 1 for those that are not named."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._wanted: defaultdict[str, Pace] = defaultdict(lambda: Pace(WANTED_S))
        self._first: defaultdict[str, Pace] = defaultdict(lambda: Pace(FIRST_S))
        #: The two that want most by weight, and how much: of each tenant one of them is another one.
        self._most: list[tuple[float, str]] = []
        self._looked_ms = 0

    def goes_first(
        self, tenant: str, tokens: int, now_ms: int, *, crowded: bool, elsewhere: Mapping[str, float]
    ) -> bool:
        """Whether one more request of the tenant would. ``crowded``: more is open than can be done at once."""
        return not crowded or self._first[tenant].at(now_ms) <= self._share(tenant, tokens, now_ms, elsewhere)

    def note(self, tenant: str, tokens: int, now_ms: int, *, first: bool) -> None:
        """A request was wanted, and went ``first``; or behind, or was refused."""
        self._wanted[tenant].note(tokens, now_ms)
        if first:
            self._first[tenant].note(tokens, now_ms)

    def wanted(self, now_ms: int) -> dict[str, float]:
        """Tokens a second by tenant, to be told to other lanes."""
        found = {tenant: pace.at(now_ms) for tenant, pace in self._wanted.items()}
        return {tenant: round(rate, 1) for tenant, rate in sorted(found.items()) if rate >= NOTHING}

    def _share(self, tenant: str, tokens: int, now_ms: int, elsewhere: Mapping[str, float]) -> float:
        if now_ms - self._looked_ms >= LOOK_EVERY_MS:
            self._look(now_ms, elsewhere)
        most = next((rate for rate, name in self._most if name != tenant), 0.0)
        here, weight = self._wanted[tenant].at(now_ms) + tokens / WANTED_S, self._weights.get(tenant, 1.0)
        mine = here + elsewhere.get(tenant, 0.0)
        if most < NOTHING or mine <= most * weight:
            return float("inf")  # it is alone, or another one wants more
        return MARGIN * weight * most * here / mine

    def _look(self, now_ms: int, elsewhere: Mapping[str, float]) -> None:
        self._looked_ms = now_ms
        for tenant in [one for one, pace in self._wanted.items() if pace.at(now_ms) < NOTHING]:
            self._first.pop(tenant, None)
            del self._wanted[tenant]
        rates: dict[str, float] = {tenant: pace.at(now_ms) for tenant, pace in self._wanted.items()}
        for tenant, rate in elsewhere.items():
            rates[tenant] = rates.get(tenant, 0.0) + rate
        by_weight = ((rate / self._weights.get(tenant, 1.0), tenant) for tenant, rate in rates.items())
        self._most = nlargest(2, by_weight)
