"""What a lane's requests look like to the classifier, told to the guard once a minute: partial histograms by pool and class (``core/guard/drift``).

Each says what it is held against, so that whoever reads it needs no classifier. Counted is what ``p_ok`` of the pool's cheapest model says, for it
decides what that model gets; first attempts only, and of a conversation one request a day, as far as it comes by the same lane and is
among the last ``MOST_SESSIONS``. In memory only: with a lane ends a minute of counts, which makes no test wrong.
"""

from __future__ import annotations

from typing import Final

import orjson

from router.core.usual import Usual
from router.kafka.unit import UnitLike
from router.stages.taxonomy import Kind, Taxonomy

TELL_EVERY_MS: Final = 60_000
#: Conversations of a day that are told apart; then one may count once more.
MOST_SESSIONS: Final = 20_000


class Profiles:
    """Of one lane. Counts: pool -> class -> requests by bin of confidence, and at the end those far from the centroid."""

    def __init__(self) -> None:
        self._version = ""
        self._counts: dict[str, dict[str, list[int]]] = {}
        self._cheapest: dict[str, str] = {}
        self._sessions: set[tuple[str, str]] = set()
        self._day = self._told_ms = 0

    def note(
        self, of: tuple[str, str], kind: Kind, session: tuple[str, str] | None, taxonomy: Taxonomy, now_ms: int
    ) -> None:
        """One more request: 1 us. ``of``: a pool and its cheapest model; ``session``: tenant and conversation."""
        pool, cheapest = of
        usual = taxonomy.usual.get(kind.learned)
        spread = None if usual is None else usual.spread.get(cheapest)
        if spread is None or (session is not None and not self._is_new(session, now_ms)):
            return
        if taxonomy.version != self._version:
            self._version, self._counts = taxonomy.version, {}
        classes = self._counts.setdefault(pool, {})
        counts = classes.get(kind.learned)
        if counts is None:
            self._cheapest[pool] = cheapest
            counts = classes[kind.learned] = [0] * (len(spread.counts) + 1)
        counts[spread.bin_of(kind.p_ok[cheapest])] += 1
        counts[-1] += kind.far

    def tell(self, topic: str, taxonomy: Taxonomy, every_ms: int, unit: UnitLike) -> None:
        """Say what came since the last word, if there is something to say and it is time."""
        if not self._counts or unit.now_ms - self._told_ms < every_ms:
            return
        self._told_ms = unit.now_ms
        counted, self._counts = self._counts, {}
        if taxonomy.version != self._version:
            return
        for pool, classes in counted.items():
            cheapest = self._cheapest[pool]
            told = {name: [*counts, *_rows(taxonomy.usual[name], cheapest)] for name, counts in classes.items()}
            value = {"version": f"{self._version}/{cheapest}", "at_ms": unit.now_ms, "classes": told}
            key = pool.encode()
            unit.emit(topic, key, orjson.dumps(value), partition=unit.by_key(topic, key))

    def _is_new(self, session: tuple[str, str], now_ms: int) -> bool:
        day = now_ms // 86_400_000
        if day != self._day or len(self._sessions) >= MOST_SESSIONS:
            self._day, self._sessions = day, set()
        if session in self._sessions:
            return False
        self._sessions.add(session)
        return True


def _rows(usual: Usual, model: str) -> list[int]:
    """The same of the rows that the classifier was fitted to."""
    return [*usual.spread[model].counts, usual.far]
