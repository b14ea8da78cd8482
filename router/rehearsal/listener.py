"""A ``Listener`` behind which the guard's stage runs: what a world lets it hear is written as settle and feedback write it, what it does is read.

An hour of the world is heard in this order, each part once the one before has been collected to ``guard.evidence``:

1. ``usage``, a record a request, of the hour's first moment, and ``pairs``;
2. ``rewards`` of the moments when they were said, and last a thumb up, which the guard counts as silence, of the hour's end. With it the stage looks at its
   tests, at that very moment. Nothing else is of that moment: what is said at the end of an hour is written as said a millisecond before.

The world goes on when the stage has stored the pool as it is then, and its alerts and orders of that look have been read. So the clock on the
wall decides nothing, and neither does the broker's.

- Alerts are read from ``alerts``. A unit counts as given back when the stage's order is in ``control``; a person releases it there.
- Where reviews and pairs are wanted is read from what the stage stores (its changelog): ``focus`` tells only what has changed by a quarter.
- Records hold stratum and tenant, so the stage hears of no other slices: ``play.TenantGuard`` is the core that hears no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import orjson

from router.contract.codec import decode, decode_control, encode, from_rfc3339, to_rfc3339
from router.contract.records import Alert, Control, Reward
from router.contract.topics import Names
from router.core.guard.alerts import scope_of
from router.core.guard.effect import Effect
from router.core.guard.monitor import Finding, Guard, Opinion, Place
from router.core.guard.slices import ALL, PREFIX
from router.core.guard.unit import HOUR_MS, Arm
from router.core.records import JudgedPair, PricedAttempt
from router.kafka.table import DictRows
from router.rehearsal.installation import BASELINE, CHEAP, POOL, Installation
from router.simulation.play import START_MS

#: What a call of the baseline costs; only the money that alerts tell of depends on it.
BASELINE_NANO_USD: Final = 1_000_000
_ID: Final = "0" * 32
_COHORTS: Final[dict[Arm, Any]] = {"pilot": "pilot", "reference": "control"}
#: What a record has where the world knows no tenants.
_NOBODY: Final = "nobody"

Hear = Callable[[str, bytes | None, bytes | None], None]


class Log(Protocol):
    """Where the stage runs: on Kafka or in memory. One partition a topic."""

    def write(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Append records, in order."""

    def read(self, hear: Hear, until: Callable[[], bool]) -> None:
        """Give all that the stage has committed to ``hear`` (topic, key, value) until that is true; an error if it never is."""


class StageListener:
    """``cheap_cost``: of a cheap call, in calls of the baseline. ``order``: units as the core meets them, for ties and for draws."""

    def __init__(self, log: Log, installation: Installation, cheap_cost: float, order: Iterable[str]) -> None:
        self._log, self._installation, self._names = log, installation, installation.context.names
        self._order = {name: at for at, name in enumerate(order)}
        self._cheap_nano_usd = round(cheap_cost * BASELINE_NANO_USD)
        self._rows = DictRows()
        self._guard: Guard | None = None
        self._looked: tuple[int, set[tuple[str, str]]] = (0, set())  # the last look, and the alerts that are open then
        self._written, self._collected = Counter[str](), Counter[str]()
        self._templates: dict[tuple[str, str | None, Arm], PricedAttempt] = {}
        self._served: str | None = None
        self._usage: list[tuple[bytes, bytes]] = []
        self._pairs: list[tuple[bytes, bytes]] = []
        self._rewards: list[tuple[bytes, bytes]] = []
        self._met: set[str] = set()
        self._new = False
        self._alerts: list[Alert] = []
        self._told: set[tuple[str, str]] = set()
        self._orders: dict[str, Control] = {}
        self._number = 0
        self.fenced: dict[str, int] = {}
        self._now_ms = START_MS
        self._look(START_MS)

    # What the world lets it hear

    def requests(self, place: Place, arm: Arm, count: int, at_ms: int) -> None:
        """So many records of ``usage``. A slice's are those of its strata."""
        if place.stratum.startswith(PREFIX) or not count:
            return
        self._now_ms = at_ms
        units = {place.stratum, ALL, *(() if place.tenant is None else (f"{PREFIX}tenant={place.tenant}",))}
        self._new = self._new or not units <= self._met
        self._met |= units
        head, tail = encode(self._attempt(place, arm, at_ms)).split(_ID.encode())
        for _ in range(count):
            self._number += 1
            name = b"%032x" % self._number
            self._usage.append((name, head + name + tail))

    def served(self, model: str, name: str, at_ms: int) -> None:  # noqa: ARG002 - it is the pilot's, and of the hour that begins
        """What the provider says that it serves: in the pilot's records from now on."""
        self._served = name

    def opinion(self, opinion: Opinion, now_ms: int) -> None:
        """A record of ``rewards``."""
        at_ms = min(now_ms, self._now_ms + HOUR_MS - 1)
        self._reward(opinion.place, opinion.arm, opinion.signal, opinion.value, asked_ms=opinion.asked_ms, at_ms=at_ms)

    def pair(self, place: Place, verdict: float, now_ms: int) -> None:
        """A record of ``pairs``."""
        self._number += 1
        record = JudgedPair(
            request_id=f"{self._number:032x}",
            pool=POOL,
            stratum=place.stratum,
            tenant=place.tenant or _NOBODY,
            session=None,
            model=CHEAP,
            served_model=CHEAP,
            reference_model=BASELINE,
            cohort="pilot",
            verdict=verdict,
            judge="judge",
            asked_ms=self._now_ms,
            at_ms=min(now_ms, self._now_ms + HOUR_MS - 1),
            inclusion=1.0,
        )
        self._pairs.append((f"{POOL}/{place.stratum}".encode(), encode(record)))

    # What comes of it

    def attention(self) -> dict[str, tuple[float, float]]:
        """As the stage's guard has it. It must have heard of all units that there are."""
        if self._new:
            self._collect()
            self._new = False
            self._log.read(self._hear, lambda: self._met <= self._stored().units.keys())
        found = self._stored().attention()
        return dict(sorted(found.items(), key=lambda one: self._order.get(one[0], len(self._order))))

    def step(self, now_ms: int) -> list[Finding]:
        """The hour is over: what the stage tells at its end."""
        self._collect()
        self._look(now_ms)
        self._now_ms = now_ms
        found, self._alerts = [_finding(one) for one in self._alerts], []
        return found

    def fence(self, name: str, now_ms: int) -> None:
        """A unit that is given back: once the stage's order says so."""
        self._log.read(self._hear, lambda: scope_of(POOL, name) in self._orders)
        self.fenced[name] = now_ms

    def release(self, name: str, now_ms: int) -> None:  # noqa: ARG002 - the stage goes by the records' time
        """A person orders it; the stage has obeyed when this returns."""
        scope = scope_of(POOL, name)
        order = replace(self._orders[scope], active=False, by="a simulated person", reason="shadow pairs show it well")
        self._log.write(self._names.of("control"), [(f"{scope}/rollback".encode(), encode(order))])
        self._log.read(self._hear, lambda: name not in self._stored().fenced)
        del self.fenced[name]

    def fence_of(self, place: Place) -> str | None:
        """The unit of a request that is given back, if one is."""
        return next((name for name in (place.stratum, *place.slices, ALL) if name in self.fenced), None)

    # Writing

    def _collect(self) -> None:
        """Write requests and pairs, and wait until they are in ``guard.evidence``: what is written then is heard after them."""
        for topic, waiting in (("usage", self._usage), ("pairs", self._pairs)):
            if waiting:
                self._written[topic] += len(waiting)
                self._log.write(self._names.of(topic), waiting)
                waiting.clear()
        self._log.read(self._hear, lambda: self._collected == self._written)

    def _look(self, now_ms: int) -> None:
        """Write what was said and the hour's end; wait for the look at the tests, and all that it told."""
        place = Place(min(self._order), (), None)
        self._reward(place, "pilot", "thumbs", 1.0, asked_ms=now_ms, at_ms=now_ms)
        self._log.write(self._names.of("rewards"), self._rewards)
        self._rewards.clear()
        self._log.read(self._hear, lambda: self._has_looked(now_ms))

    def _has_looked(self, now_ms: int) -> bool:
        at_ms, alerts = self._looked
        return at_ms == now_ms and alerts <= self._told

    def _reward(self, place: Place, arm: Arm, kind: Any, value: float, *, asked_ms: int, at_ms: int) -> None:
        self._number += 1
        record = Reward(
            request_id=f"{self._number:032x}",
            pool=POOL,
            stratum=place.stratum,
            first_model=_model(arm),
            model=_model(arm),
            answered_by_attempt=1,
            cohort=_COHORTS[arm],
            propensity=1.0,
            policy_version="simulated",
            kind=kind,
            source="reviewer" if kind == "review" else "user",
            reward=value,
            weight=1.0,
            at=to_rfc3339(at_ms),
            tenant=place.tenant or _NOBODY,
            asked_at=to_rfc3339(asked_ms),
        )
        self._rewards.append((f"{POOL}/{place.stratum}".encode(), encode(record)))

    def _attempt(self, place: Place, arm: Arm, at_ms: int) -> PricedAttempt:
        key = (place.stratum, place.tenant, arm)
        if key not in self._templates:
            self._templates[key] = PricedAttempt(
                request_id=_ID,
                attempt=1,
                model=_model(arm),
                tenant=place.tenant or _NOBODY,
                lane="interactive",
                pool=POOL,
                stratum=place.stratum,
                cohort=_COHORTS[arm],
                reason="routed",
                status="ok",
                error_code=None,
                at_ms=at_ms,
                latency_ms=500,
                prompt_tokens=100,
                completion_tokens=100,
                cached_tokens=0,
                reasoning_tokens=0,
                cost_nano_usd=self._cheap_nano_usd if arm == "pilot" else BASELINE_NANO_USD,
                baseline_cost_nano_usd=BASELINE_NANO_USD,
                price_version="simulated",
                late=False,
            )
        return replace(self._templates[key], at_ms=at_ms, served_model=self._served if arm == "pilot" else None)

    # Reading

    def _hear(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        if topic == self._installation.changelog:
            self._rows.absorb(key or b"", value)
            self._guard = None
            if key == POOL.encode() and value is not None:
                found = orjson.loads(value)
                last = [one[-1] for one in found["alerts"].values()]
                self._looked = (found["stepped_ms"], {(one["id"], one["at"]) for one in last if one is not None})
        elif value is None:
            return
        elif topic == self._names.of("guard.evidence"):
            found = orjson.loads(value)
            counts = {"usage": sum(one[4] for one in found["requests"]), "pairs": len(found["pairs"])}
            self._collected.update({name: count for name, count in counts.items() if count})
        elif topic == self._names.of("alerts"):
            alert = decode(Alert, value)
            self._told.add((alert.id, alert.at))
            if alert.state == "open":
                self._alerts.append(alert)
        elif topic == self._names.of("control"):
            order = decode_control(value)
            if order.active:
                self._orders[order.scope] = order
            else:
                self._orders.pop(order.scope, None)

    def _stored(self) -> Guard:
        """The stage's guard as it was stored, with what was heard since: read as the stage reads it when it starts."""
        if self._guard is None:
            self._guard = self._installation.guard.index(self._rows)[POOL].guard
        return self._guard


def heard(names: Names) -> tuple[str, ...]:
    """Topics that are read, besides the changelog."""
    return tuple(names.of(name) for name in ("guard.evidence", "alerts", "control"))


def written(names: Names) -> tuple[str, ...]:
    """Topics that are written."""
    return tuple(names.of(name) for name in ("usage", "pairs", "rewards", "control"))


def _finding(alert: Alert) -> Finding:
    """What an alert says. Of the pilot's side of the effect it tells no number: 0."""
    assert alert.stratum is not None
    assert alert.effect is not None
    assert alert.reference is not None
    test: Mapping[str, float] = alert.evidence["test"]
    return Finding(
        unit=alert.stratum,
        signal=alert.signal,
        severity=alert.severity,
        evidence=test["ln_m"],
        threshold=test["alarms_at"],
        since_ms=from_rfc3339(alert.since),
        at_ms=from_rfc3339(alert.at),
        effect=Effect(alert.effect.value, alert.effect.low, alert.effect.high, alert.reference.n, 0),
    )


def _model(arm: Arm) -> str:
    return CHEAP if arm == "pilot" else BASELINE
