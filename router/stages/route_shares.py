"""Fair shares between tenants: what exceeds one's share goes to the model's batch topic while more is open than a worker has slots for.

Each lane tells what its tenants want (topic ``shares``, once a second while there is traffic), and reads what other lanes say and what settle has
open (``load``): ``core.fair`` says who goes first. In memory only. Tenants without a table are one, so there are never more than tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from router.contract.codec import decode, encode
from router.contract.errors import BadRecord
from router.contract.ids import OTHER
from router.core.fair import Fair
from router.core.records import Load, Wants
from router.kafka.follow import Follower
from router.kafka.unit import UnitLike
from router.stages.context import Context

TELL_EVERY_MS = 1_000
#: What a lane said longer ago is of the past: it repeats itself while anybody wants anything of it.
HOLDS_MS = 3_000


class Shares(Follower):
    """A resource of the interactive route, where there are tenants' tables. Knows what other lanes have told, and what is open."""

    def __init__(self, context: Context) -> None:
        config, names = context.config, context.names
        self.topic = names.of("shares")
        self.weights = {name: tenant.weight for name, tenant in config.tenants.items()}
        self._slots = {name: model.concurrency for name, model in config.models.items()}
        self._load = names.of("load")
        self._told: dict[int, Wants] = {}
        self._open: dict[int, int] = {}
        #: Sent by this process since settle's last word, by settle's partition: a burst is over before settle speaks of it.
        self._sent: defaultdict[int, int] = defaultdict(int)
        self._in_all = 0
        super().__init__(context.client, (self._load, self.topic), self._take, confirms=False)

    def goes_first(self, tenant: str, tokens: int, model: str, unit: UnitLike) -> bool:
        """Whether an attempt on ``model`` would."""
        crowded = self._in_all > self._slots[model]
        elsewhere = self._elsewhere(unit) if crowded else {}
        fair = unit.index.wanting.of(self.weights)
        return bool(fair.goes_first(self._table(tenant), tokens, unit.now_ms, crowded=crowded, elsewhere=elsewhere))

    def refused(self, tenant: str, tokens: int, unit: UnitLike) -> None:
        """It was wanted all the same."""
        unit.index.wanting.of(self.weights).note(self._table(tenant), tokens, unit.now_ms, first=False)

    def sent(self, tenant: str, tokens: int, unit: UnitLike, *, first: bool, home: int) -> None:
        """It was sent, and counts from here on. ``home``: settle's partition of the request."""
        self._sent[home] += 1
        self._in_all += 1
        unit.index.wanting.of(self.weights).note(self._table(tenant), tokens, unit.now_ms, first=first)

    def _table(self, tenant: str) -> str:
        return tenant if tenant in self.weights else OTHER

    def _elsewhere(self, unit: UnitLike) -> Mapping[str, float]:
        found: defaultdict[str, float] = defaultdict(float)
        for told in self._told.values():
            if told.partition != unit.partition and unit.now_ms - told.at_ms < HOLDS_MS:
                for table, rate in told.rates.items():
                    found[table] += rate
        return found

    def _take(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            if record.topic == self.topic:
                wants = decode(Wants, record.value)
                self._told[wants.partition] = wants
            elif (load := decode(Load, record.value)).stage == "settle":
                self._open[load.partition] = load.open.get("interactive", 0)
                self._sent[load.partition] = 0
                self._in_all = sum(self._open.values()) + sum(self._sent.values())
        except BadRecord:
            return


class Wanting:
    """What a lane has told of its tenants."""

    def __init__(self) -> None:
        self.fair: Fair | None = None
        self._told_ms = 0
        self._said = False

    def of(self, weights: Mapping[str, float]) -> Fair:
        """The lane's shares; made when they are first asked for."""
        if self.fair is None:
            self.fair = Fair(weights)
        return self.fair

    def tell(self, topic: str, unit: UnitLike) -> None:
        """Say what is wanted here, as long as it is anything, and once that it is nothing."""
        if self.fair is None or unit.now_ms - self._told_ms < TELL_EVERY_MS:
            return
        rates = self.fair.wanted(unit.now_ms)
        if rates or self._said:
            self._told_ms, self._said = unit.now_ms, bool(rates)
            wants = Wants(partition=unit.partition, rates=rates, at_ms=unit.now_ms)
            unit.emit(topic, str(unit.partition).encode(), encode(wants))
