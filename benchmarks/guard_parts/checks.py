"""Of one unit alone: how often each test cries while nothing is wrong, and what the guard costs."""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from typing import Any

import numpy as np

from router.core.guard.detector import DAY_MS
from router.core.guard.grid import Grid
from router.core.guard.monitor import Guard, Opinion, Place, Settings
from router.core.guard.unit import HOUR_MS, Unit

#: A low height, so that there is something to count: one false alarm in so many days is allowed.
NULL_ARL = 20.0
TESTS = ("thumbs", "reviews", "pairs", "past", "all")


def null_rates(days: int) -> dict[str, int]:
    """Test -> false alarms of one unit in so many days that are looked at thrice a day; it begins anew after each and every 200 days."""
    return {test: _false(test, days) for test in TESTS}


def _false(test: str, days: int) -> int:
    random, found = np.random.default_rng([TESTS.index(test), 77]), 0
    unit = Unit("x", Grid.of(0.1), 0)
    for day in range(days):
        if day % 200 == 0:
            unit = Unit("x", Grid.of(0.1), day * DAY_MS)
        for part in range(3):
            at_ms = day * DAY_MS + part * 8 * HOUR_MS
            _nothing_wrong(unit, test, random, at_ms)
            unit.step(at_ms + HOUR_MS, judge_power=0.7, judge_bias=0.0)
            if unit.evidence >= math.log(NULL_ARL):
                found += 1
                unit.restart(at_ms + HOUR_MS)
    return found


def _nothing_wrong(unit: Unit, test: str, random: np.random.Generator, at_ms: int) -> None:
    if test in ("thumbs", "all"):
        unit.requests("pilot", 600, at_ms)
        unit.requests("reference", 200, at_ms)
        for arm, requests in (("pilot", 600), ("reference", 200)):
            for _ in range(random.binomial(requests, 0.01)):
                unit.event("thumbs", arm, at_ms, at_ms + 1)  # type: ignore[arg-type]
    if test in ("reviews", "past", "all"):
        for arm in ("pilot", "reference") if test != "past" else ("pilot",):
            for bad in random.random(10) < 0.08:
                unit.judgement("review", arm, float(bad), at_ms)  # type: ignore[arg-type]
    if test in ("pairs", "all"):
        for verdict in random.choice([-1.0, 0.0, 1.0], 20, p=[0.2, 0.6, 0.2]):
            unit.pair(float(verdict), at_ms)


def cost(strata: int = 8, days: int = 65) -> dict[str, Any]:
    """Microseconds of CPU of a signal (each is heard by its stratum and five slices, everything among them), of a step a unit; KiB of a unit after ``days``."""
    made = Guard(Settings(), (f"s{number}" for number in range(strata)), 0)
    slices = tuple(f"slice/d{number}=x" for number in range(4))
    places = [Place(name, slices, "acme") for name in list(made.units)]
    signals, spent_s = 0, 0.0
    for hour in range(48):
        at_ms = hour * HOUR_MS
        for place in places:
            made.requests(place, "pilot", 100, at_ms)
            made.requests(place, "reference", 20, at_ms)
        opinions = [
            Opinion(signal=signal, value=float(number % 9 > 0), arm=arm, place=place, asked_ms=at_ms)
            for place in places
            for number in range(6)
            for signal, arm in (("thumbs", "pilot"), ("review", "pilot"), ("review", "reference"))
        ]
        began_s = time.process_time()
        for one in opinions:
            made.opinion(one, at_ms + 1)
        for place in places:
            made.pair(place, float(hour % 3 - 1), at_ms + 1)
        spent_s += time.process_time() - began_s
        signals += len(opinions) + len(places)
        made.step(at_ms + HOUR_MS)
    began_s = time.process_time()
    for hour in range(48, 148):
        made.step((hour + 1) * HOUR_MS)
    step_us = (time.process_time() - began_s) * 1e6 / 100 / len(made.units)
    return {"us_per_signal": spent_s * 1e6 / signals, "us_per_step": step_us, "kib_per_unit": _memory(days)}


def _memory(days: int, units: int = 8) -> float:
    """KiB of a unit when all that it keeps is full."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = [Unit(f"u{number}", Grid.of(0.1), 0) for number in range(units)]
    for hour in range(days * 24):
        at_ms = hour * HOUR_MS
        for unit in made:
            unit.requests("pilot", 100, at_ms, f"tenant {hour % 20}")
            unit.requests("reference", 10, at_ms)
            unit.event("thumbs", "pilot", at_ms, at_ms + 1, tenant="tenant 1")
            unit.judgement("review", "pilot" if hour % 2 else "reference", float(hour % 9 == 0), at_ms)
            unit.pair(float(hour % 3 - 1), at_ms)
            unit.one_of_session(f"session {hour}", at_ms)
            if hour % 8 == 0:
                unit.step(at_ms + 1, judge_power=0.7, judge_bias=0.0)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept / 1024 / units
