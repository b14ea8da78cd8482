"""How an attempt leaves route: its decision and its work, both with the same signed slip, in one transaction.

What exceeds a tenant's share while there is more than enough to do goes ``behind`` the lane, to the model's batch topic.
"""

from __future__ import annotations

from router.contract.codec import encode
from router.contract.records import Lane
from router.contract.topics import MIB
from router.core.audit import decision_record
from router.core.facts import Choice, RequestFacts
from router.core.slip import Slip, sign
from router.kafka.unit import UnitLike
from router.stages.context import Context
from router.stages.headers import passed_on
from router.stages.route_intake import Asked
from router.stages.route_records import Case
from router.stages.route_refusals import MAX_SLIP_CHARACTERS
from router.stages.snapshot import checks_of

#: Room for all of a work record but body and slip, below the topic's limit of 3 MiB.
MAX_WORK_BYTES = 3 * MIB - 64 * 1024


class Attempts:
    """Of one lane. ``outputs``: the topics that it writes. ``shared``: tenants have shares, so that an attempt may go behind."""

    def __init__(self, context: Context, lane: Lane, *, shared: bool) -> None:
        config, names = context.config, context.names
        self._lane: Lane = lane
        self._keyring = context.keyring
        self._decisions = names.of("decisions")
        self._work = {model: names.work(model, lane) for model in config.models}
        self._behind = {model: names.work(model, "batch") for model in config.models}
        self._provider_models = {name: model.provider_model for name, model in config.models.items()}
        self._checks = {name: checks_of(pool, config.models) for name, pool in config.pools.items()}
        behind = self._behind.values() if shared else ()
        self.outputs = frozenset({self._decisions, *self._work.values(), *behind})

    def home(self, slip: Slip, unit: UnitLike) -> int:
        """Settle's partition of the request."""
        return unit.by_key(self._decisions, slip.request_id.encode())

    def send(
        self, case: Case, facts: RequestFacts, choice: Choice, slip: Slip, unit: UnitLike, *, version: str
    ) -> bool:
        """Whether it went: ``False``, and nothing written, where no broker would take it. ``version``: of the snapshot that it was decided by."""
        signed, home = sign(slip, self._keyring), self.home(slip, unit)
        work = self._work_record(case.asked, choice, slip, signed, home)
        if len(signed) > MAX_SLIP_CHARACTERS or len(work) > MAX_WORK_BYTES:
            return False
        decision = decision_record(facts, choice, snapshot_version=version, lane=self._lane, origin=slip.origin)
        travels, key = passed_on(case.record.headers), slip.request_id.encode()
        topics = self._behind if slip.behind else self._work
        unit.emit(topics[choice.model], key, work, headers=travels)
        headers = [("slip", signed.encode()), *travels]
        unit.emit(self._decisions, key, encode(decision), partition=home, headers=headers)
        return True

    def _work_record(self, asked: Asked, choice: Choice, slip: Slip, signed: str, home: int) -> bytes:
        request = asked.parsed.request
        checks = None if choice.trial is None or choice.pool is None else self._checks[choice.pool]
        return encode(
            {
                "request_id": slip.request_id,
                "attempt": slip.attempt,
                "model": choice.model,
                "provider_model": self._provider_models[choice.model],
                "url": request.url,
                "body": request.body,
                "deadline_at_ms": slip.deadline_at_ms,
                "reason": choice.reason,
                "outcome_partition": home,
                "slip": signed,
                "checks": checks,
            }
        )
