"""Drift in a recorded stream: the pilot's events of its first ``REFERENCE_DAYS`` say what is usual, later days are held against them (``core/guard/drift``).

Of each event counts ``confidence``, or where that is absent ``p_ok`` (a number, or by model), and what is a number among its features, standardised; by
stratum, and of a session one event a day. A stratum with less than ``core.usual.LEAST_ROWS`` such events in those days is not watched, nor is confidence that was
the same in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from router.core.guard.detector import DAY_MS
from router.core.guard.drift import SIGNALS, Drift, Sample
from router.core.learned import standardised
from router.core.usual import Usual, distance, usual_of
from router.simulation.recorded import features_of, is_number

REFERENCE_DAYS: Final = 7
#: Events that are kept, of the first days and of a stratum's day, and numbers of each.
MOST_EVENTS, MOST_NUMBERS = 50_000, 16
#: A feature is one of them if so many of the events have it.
_USUAL_SHARE: Final = 0.9
_LEAST_DEVIATION: Final = 1e-6
_SAID: Final = "said"


class Habits:
    """Of one stream. ``found``: when, stratum and signal; what goes on is one."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._first_ms: int | None = None
        self._events: list[tuple[str, float | None, dict[str, float]]] = []
        self._usual: dict[str, Usual] | None = None
        self._names: list[str] = []
        self._mean = self._deviation = np.zeros(0)
        self._drift = Drift("stream", 0)
        self._today: dict[str, list[tuple[float | None, dict[str, float]]]] = {}
        self._open: set[tuple[str, str]] = set()
        self._sessions: set[tuple[str, str]] = set()
        self._day = -1

    def note(self, event: Mapping[str, Any], stratum: str, now_ms: int) -> None:
        """An event that was the pilot's and no shadow."""
        if self._first_ms is None:
            self._first_ms = self._drift.stepped_ms = now_ms
        if now_ms // DAY_MS != self._day:
            self._end_day(now_ms)
        session = (str(event.get("tenant")), event.get("session"))
        if isinstance(session[1], str):
            if session in self._sessions:
                return
            self._sessions.add((session[0], session[1]))
        said, numbers = _said(event), _numbers(features_of(dict(event)))
        if self._usual is None:
            if len(self._events) < MOST_EVENTS:
                self._events.append((stratum, said, numbers))
            return
        if stratum in self._usual and len(today := self._today.setdefault(stratum, [])) < MOST_EVENTS:
            today.append((said, numbers))

    def _end_day(self, now_ms: int) -> None:
        self._day, self._sessions = now_ms // DAY_MS, set()
        if self._usual is None:
            if now_ms - (self._first_ms or 0) >= REFERENCE_DAYS * DAY_MS:
                self._usual = self._learn()
            return
        for stratum, today in self._today.items():
            usual = self._usual[stratum]
            spread, rows = usual.spread[_SAID], usual.rows(_SAID)
            counts = Counter(spread.bin_of(said or 0.0) for said, _ in today)
            far = distance(self._surface([numbers for _, numbers in today]), np.array(usual.centroid)) > usual.reach
            seen = Sample([counts[number] for number in range(len(spread.counts))], int(far.sum()))
            assert rows is not None
            self._drift.add(stratum, seen, rows, now_ms)
        self._today.clear()
        self._drift.step(now_ms)
        speaking = {(stratum, signal) for signal in SIGNALS for stratum in self._drift.speaking(signal)}
        self.found += [(now_ms, stratum, signal) for stratum, signal in sorted(speaking - self._open)]
        self._open = speaking

    def _learn(self) -> dict[str, Usual]:
        events, self._events = self._events, []
        names = {name: sum(name in numbers for _, _, numbers in events) for name in {n for e in events for n in e[2]}}
        often = [name for name, count in sorted(names.items()) if count >= _USUAL_SHARE * len(events)]
        self._names = often[:MOST_NUMBERS]
        raw = np.array([[numbers.get(name, np.nan) for name in self._names] for _, _, numbers in events])
        raw = raw.reshape(len(events), len(self._names))
        self._mean = np.nanmean(raw, axis=0) if raw.size else np.zeros(len(self._names))
        self._deviation = np.maximum(np.nanstd(raw, axis=0), _LEAST_DEVIATION) if raw.size else self._mean
        said = np.array([0.0 if one is None else one for _, one, _ in events])
        surface = self._surface([numbers for _, _, numbers in events])
        return usual_of([stratum for stratum, _, _ in events], {_SAID: said}, surface)

    def _surface(self, found: list[dict[str, float]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(n, names), standardised; what is absent is as usual. One column of nothing where there are no numbers."""
        if not self._names:
            return np.zeros((len(found), 1))
        rows = [
            [numbers.get(name, mean) for name, mean in zip(self._names, self._mean, strict=True)] for numbers in found
        ]
        return standardised(np.array(rows), self._mean, self._deviation)


def _said(event: Mapping[str, Any]) -> float | None:
    p_ok = event.get("p_ok")
    if isinstance(p_ok, dict):
        model = event.get("model")
        p_ok = p_ok.get(model) if isinstance(model, str) else None
    return next((float(one) for one in (event.get("confidence"), p_ok) if is_number(one)), None)


def _numbers(features: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in features.items() if is_number(value)}
