"""What comes beside a result, once it is there: a shadow, while there is room for one, or the judge of a pair, which has been paid for already.

Where it cannot be sent it is dropped without a word, for nobody waits for it.
"""

from __future__ import annotations

from router.contract.records import Lane
from router.core.decide import decide
from router.core.facts import Refusal
from router.core.snapshot import Snapshot
from router.kafka.unit import UnitLike
from router.stages.admission import Admission
from router.stages.context import Context
from router.stages.route_attempts import Attempts
from router.stages.route_records import Case, facts_of, slip_of
from router.stages.taxonomy import Kind

#: Of ``route.max_inflight`` the part that may be out in the shadow: one in so many.
SHADOWS_OF_ALL = 10


class Beside:
    """Of one lane; shadows go through the batch lane alone, which has an ``admission``."""

    def __init__(self, context: Context, lane: Lane, attempts: Attempts, admission: Admission | None) -> None:
        config, lanes = context.config, max(1, context.partitions)
        shadowing = [name for name, pool in config.pools.items() if pool.shadow_percent > 0]
        #: Whether the lane is to hear what became of shadows.
        self.told = lane == "batch" and bool(shadowing)
        self._lane: Lane = lane
        self._attempts = attempts
        self._admission = admission
        self._limits = {
            name: limit // lanes
            for name in shadowing
            if (limit := config.pools[name].shadow_nano_usd_per_day) is not None
        }
        self._most = max(1, config.route.max_inflight // SHADOWS_OF_ALL // lanes)

    def route(self, case: Case, kind: Kind, snapshot: Snapshot, unit: UnitLike) -> None:
        """Decide it and send it, or drop it."""
        asked = case.asked
        shadows, pool, order = unit.index.shadows, asked.parsed.model, asked.order
        assert order is not None
        if order.reason == "shadow":
            admitted = self._admission is not None and self._admission.calm()
            if not admitted or not shadows.room(pool, self._limits, self._most, unit.now_ms):
                return
        facts = facts_of(asked, kind, now_ms=unit.now_ms, deadline_at_ms=case.deadline_at_ms)
        found = decide(facts, snapshot)
        if isinstance(found, Refusal):
            return
        charged = next((one.expected_cost_nano_usd or 0 for one in found.candidates if one.model == found.model), 0)
        slip = slip_of(case, found, facts.slices, lane=self._lane, charged=charged)
        if self._attempts.send(case, facts, found, slip, unit, version=snapshot.version):
            shadows.charge(pool, charged, unit.now_ms)
