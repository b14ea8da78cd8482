"""What other detectors hear: the signals of a world by hour and stratum, with reviews and pairs spread evenly.

It takes the place of the guard in ``simulation.play`` and never alarms. Each signal of an hour and stratum is kept as the score u and the
information v of the excess e of bad answers near "nothing is wrong": for any detector that adds them up, u / v estimates e and has variance 1 / v.

    thumbs    4 (1 - s) of the pilot, -4 s of the reference; v = 16 s (1 - s) an event     s: the pilot's share of that hour's requests
    reviews   +-(bad - p) / (2 p (1 - p)) for pilot and reference; v = 1 / (4 p (1 - p))   p: share of bad ones so far
    pairs     J d / q; v = J^2 / q                                                           q: mean of d^2 so far, J = 0.7 as the guard takes it

Thumbs of hours with only one arm say nothing. ``raw`` has what a dashboard shows: the pilot's requests, thumbs down, reviews, bad reviews.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.guard.monitor import Finding, Opinion, Place, Settings
from router.core.guard.slices import PREFIX
from router.core.guard.unit import HOUR_MS, Arm
from router.simulation.play import START_MS, Player
from router.simulation.traffic import HOURS
from router.simulation.world import World

Array = NDArray[np.float64]

JUDGE_POWER = Settings().judge_power
THUMBS_PER_EXCESS = 4.0
REQUESTS, THUMBS, REVIEWS, BAD_REVIEWS = range(4)


@dataclass(slots=True)
class Heard:
    """Arrays (hours, strata) of score and information, (hours, strata, 4) of sums of the pilot."""

    strata: list[str]
    score: Array
    information: Array
    raw: Array


class Ear:
    """Listens to a world. ``pairs``: times the world's shadow pairs a day."""

    def __init__(self, world: World, pairs: float) -> None:
        self.strata = list(world.strata)
        self._place = {name: number for number, name in enumerate(self.strata)}
        self._hours = int(world.days * HOURS)
        shape = (self._hours, len(self.strata))
        self.heard = Heard(self.strata, np.zeros(shape), np.zeros(shape), np.zeros((*shape, 4)))
        self._counts = np.zeros((*shape, 2))
        self._judged, self._bad = 15.0, 1.2
        self._verdicts, self._squares = 50.0, 15.0
        self._pairs = pairs

    fenced: Mapping[str, int] = {}

    def requests(self, place: Place, arm: Arm, count: int, at_ms: int) -> None:
        if place.stratum.startswith(PREFIX):
            return
        hour, unit = self._hour(at_ms), self._place[place.stratum]
        self._counts[hour, unit, int(arm == "pilot")] += count
        if arm == "pilot":
            self.heard.raw[hour, unit, REQUESTS] += count

    def opinion(self, opinion: Opinion, now_ms: int) -> None:
        hour, unit = self._hour(now_ms), self._place[opinion.place.stratum]
        if hour >= self._hours:
            return
        pilot, bad = opinion.arm == "pilot", 1.0 - opinion.value
        if opinion.signal == "thumbs":
            self._thumb(hour, unit, opinion.asked_ms, pilot=pilot)
        else:
            p = self._bad / self._judged
            self.heard.score[hour, unit] += (1 if pilot else -1) * (bad - p) / (2 * p * (1 - p))
            self.heard.information[hour, unit] += 1 / (4 * p * (1 - p))
            self._judged, self._bad = self._judged + 1, self._bad + bad
        if pilot:
            what = (THUMBS,) if opinion.signal == "thumbs" else (REVIEWS,) if bad < 1 else (REVIEWS, BAD_REVIEWS)
            self.heard.raw[hour, unit, what] += 1

    def _thumb(self, hour: int, unit: int, asked_ms: int, *, pilot: bool) -> None:
        n0, n1 = self._counts[self._hour(asked_ms), unit]
        if n0 and n1:
            share = n1 / (n0 + n1)
            self.heard.score[hour, unit] += THUMBS_PER_EXCESS * (pilot - share)
            self.heard.information[hour, unit] += THUMBS_PER_EXCESS**2 * share * (1 - share)

    def pair(self, place: Place, verdict: float, now_ms: int) -> None:
        hour, unit = self._hour(now_ms), self._place[place.stratum]
        if hour >= self._hours:
            return
        spread = self._squares / self._verdicts
        self.heard.score[hour, unit] += JUDGE_POWER * verdict / spread
        self.heard.information[hour, unit] += JUDGE_POWER**2 / spread
        self._verdicts, self._squares = self._verdicts + 1, self._squares + verdict * verdict

    def served(self, model: str, name: str, at_ms: int) -> None: ...

    def attention(self) -> dict[str, tuple[float, float]]:
        even = 1.0 / len(self.strata)
        return dict.fromkeys(self.strata, (even, even * self._pairs))

    def step(self, now_ms: int) -> list[Finding]:  # noqa: ARG002 - it never alarms
        return []

    def fence(self, name: str, now_ms: int) -> None: ...

    def release(self, name: str, now_ms: int) -> None: ...

    def fence_of(self, place: Place) -> str | None:  # noqa: ARG002
        return None

    def _hour(self, at_ms: int) -> int:
        return (at_ms - START_MS) // HOUR_MS


def listen(world: World, seed: int, pairs: float) -> Heard:
    """A whole world. The requests are those of the guard's run of that seed, for their generator is their own."""
    ear = Ear(world, pairs)
    Player(world, seed, listener=ear).play()
    return ear.heard
