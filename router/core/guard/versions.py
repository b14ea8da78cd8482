"""What a provider says that it serves, and what a name that was never heard before is worth to the tests of a pool.

When the model behind a name is swapped is the likeliest moment for its answers to change. So the first time that a model of the pool answers under
another name, every unit's M gets some days more at once, as if so many had passed: a further test of "the change begins now" over all
alternatives, and nothing is erased.

The bound on false alarms still holds. What is given is decided from the past, and is in M before what comes after is seen, so M less the days that
passed less the days given is a supermartingale. In T days at most ``CREDIT`` * arl + ``REFILL`` * T are given, so at the time T of the pool's
first alarm, at the height a, a <= E[T] (1 + ``REFILL``) + ``CREDIT`` * arl. ``height`` is the a for which E[T] >= arl: the tests pay for new names by
ln(1 + ``REFILL`` + ``CREDIT``) nats, once and for all. Each new name gets half of the credit that is left: names that alternate, or that are made up
one a request, share what one swap would have had.

Names that a model has on its first day are what it is, and no change. ``MOST_NAMES`` are told apart; those that were not heard for ``FORGOTTEN_DAYS``
make room, and until then a further name is nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from router.core.guard.detector import DAY_MS

#: Days that new names may add to M, in mean run lengths of the pool; and by day that passes.
CREDIT, REFILL = 0.20, 0.10
MOST_MODELS, MOST_NAMES, FORGOTTEN_DAYS = 64, 32, 30
MOST_CHARACTERS: Final = 256
#: New names that wait to be told.
_MOST_NEWS: Final = 64


class News(NamedTuple):
    """A model answers under a name that is new. ``before``: the one that was heard last until then."""

    model: str
    name: str
    before: str
    at_ms: int


@dataclass(slots=True)
class _Model:
    first_ms: int
    latest: str
    days: dict[str, int] = field(default_factory=dict)  # name -> day on which it was last heard


def height(arl_days: float) -> float:
    """M, in days, at which a pool alarms that may give a false alarm once in ``arl_days``.

    >>> round(height(200.0))
    260
    """
    return arl_days * (1.0 + REFILL + CREDIT)


class Versions:
    """The names of one pool's models. ``arl_days``: of the pool; ``now_ms``: when it starts."""

    def __init__(self, arl_days: float, now_ms: int) -> None:
        self._most = CREDIT * arl_days
        self._credit, self._now_ms = self._most, now_ms
        self._models: dict[str, _Model] = {}
        self._given = 0.0
        self._news: list[News] = []

    def heard(self, model: str, name: str, at_ms: int) -> None:
        """A model has answered under a name at that time. Any text is a name; of a long one the first characters count."""
        name = name[:MOST_CHARACTERS]
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MOST_MODELS:
                return
            known = self._models[model] = _Model(at_ms, name)
        day, is_new = at_ms // DAY_MS, name not in known.days
        if is_new and len(known.days) >= MOST_NAMES:
            oldest = min(known.days, key=lambda one: known.days[one])
            if known.days[oldest] >= day - FORGOTTEN_DAYS:
                return
            del known.days[oldest]
        known.days[name] = max(day, known.days.get(name, day))
        if is_new and at_ms >= known.first_ms + DAY_MS:
            self._give(at_ms)
            self._news = [*self._news, News(model, name, known.latest, at_ms)][-_MOST_NEWS:]
        known.latest = name

    def take(self) -> float:
        """Days that M is to get now for the names that were new since this was asked last."""
        given, self._given = self._given, 0.0
        return given

    def tell(self) -> Sequence[News]:
        """The names that were new since this was asked last."""
        news, self._news = self._news, []
        return news

    def _give(self, at_ms: int) -> None:
        self._credit = min(self._most, self._credit + REFILL * max(0, at_ms - self._now_ms) / DAY_MS)
        self._now_ms = max(self._now_ms, at_ms)
        self._given += self._credit / 2
        self._credit /= 2

    def dump(self) -> dict[str, Any]:
        """JSON values, exactly."""
        models = {model: [one.first_ms, one.latest, one.days] for model, one in self._models.items()}
        return {
            "credit": [self._credit, self._now_ms, self._given],
            "models": models,
            "news": [list(one) for one in self._news],
        }

    def load(self, found: dict[str, Any]) -> None:
        """The inverse of ``dump``."""
        self._credit, self._now_ms, self._given = found["credit"]
        self._models = {model: _Model(*one) for model, one in found["models"].items()}
        self._news = [News(*one) for one in found["news"]]
