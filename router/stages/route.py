"""The only author of decisions and work. Two stages, ``route`` and ``route-batch``: batch waits, interactive never does.

    requests, redispatch -> [ read, count ] -> [ class ] -> facts -> decide -> decision + work, or a decision that refuses

Rules
- A decision and its work leave in one transaction, with one signed slip. The slip is all that settle needs.
- A refusal is a decision with attempt 0 and an error. What cannot even be answered is a dead letter; what is invalid but
  has a usable ``custom_id`` is both.
- A further attempt is decided on the snapshot of now, and its slip says what the first decision said.
- Nothing is decided without a fresh snapshot, and each version is in the log before the first decision that names it.
- Whatever would make a record that no broker takes is refused here, where it can be said.
- Where all models have too much to do, new interactive requests are refused (``core/shedding``); batch stays unread.
- A shadow, or the judge of a pair, comes after the result: where it cannot be sent it is dropped, and nobody is told.
- A prompt whose exact count matters and takes long is counted beside the lane, and its request read again (``route_counts``).
- What a tenant with limits may not use is refused; what may come in time waits in the table and is read again (``route_leases``).
"""

from __future__ import annotations

from typing import Any

import orjson

from router.contract.codec import decode
from router.contract.errors import Code, PointsmanError, RejectCode
from router.contract.records import DEFAULT_DEADLINE_MS, Lane
from router.contract.releases import by_name
from router.contract.requests import BadRequest, decode_request
from router.contract.topics import DAY_MS
from router.core.decide import decide
from router.core.facts import Choice, Refusal, RequestFacts
from router.core.records import Order, Spending, TenantNews
from router.core.review_sample import score_of
from router.core.slip import Slip, sign
from router.core.snapshot import PoolFacts, Snapshot
from router.core.survey import Ask, drawn, user_of
from router.kafka.aside import Aside
from router.kafka.bodies import BodyReader
from router.kafka.stage import Stage
from router.kafka.table import DictRows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages import route_sessions
from router.stages.admission import Admission
from router.stages.context import Context
from router.stages.leases import Leases as Owners
from router.stages.route_attempts import Attempts
from router.stages.route_beside import Beside
from router.stages.route_counts import MAX_WAITING, Counting, Counts, exactly
from router.stages.route_intake import Asked, Intake, Unusable, bad_request, key_that_fits, read_order
from router.stages.route_leases import Gate, place_of
from router.stages.route_paces import Paces, name_of
from router.stages.route_profiles import TELL_EVERY_MS
from router.stages.route_records import Case, anew, case_of, facts_of, slip_of
from router.stages.route_refusals import MAX_SLIP_CHARACTERS, Refusals
from router.stages.route_sessions import NO_SESSION, Sessions
from router.stages.route_shares import Shares
from router.stages.route_surveys import Surveys
from router.stages.snapshot import SnapshotFollower, price_of, surveys_by_pool
from router.stages.taxonomy import Asking, Kind
from router.stages.tenants import Tenants

#: A duplicate is dropped at once only this long: far less than settle remembers any id.
RECENT_MS = 60_000

SESSIONS_A_TICK = 500

TOO_MANY_TO_COUNT = Refusal(Code.OVERLOADED, "too many long prompts wait to be counted; try again in 10 s", 10_000)


class Route:
    """The handlers of one lane (``interactive`` or ``batch``) for one configuration."""

    def __init__(self, context: Context, lane: Lane, follower: SnapshotFollower) -> None:
        config, names = context.config, context.names
        suffix = ".batch" if lane == "batch" else ""
        self._lane: Lane = lane
        self._name = f"route{'-batch' if lane == 'batch' else ''}"
        self._group = names.group(self._name)
        self._keyring = context.keyring
        self._requests = names.of(f"requests{suffix}")
        self._redispatch = names.of(f"redispatch{suffix}")
        self._spending = names.of(f"spending{suffix}")
        self._leases, self._wanted = names.of(f"leases{suffix}"), names.of("leases.wanted")
        self._tenants = Tenants(config)
        prices = {name: (price_of(model), model.max_output_tokens) for name, model in config.models.items()}
        self._gate = Gate(self._tenants, prices, lane)
        self._paced = any(pool.objective == "budget" for pool in config.pools.values())
        self._reviews_per_day = {
            name: pool.reviews_per_day for name, pool in config.pools.items() if pool.reviews_per_day
        }
        self._paces, self._profiles = names.of("paces"), names.of("profiles")
        self._profile_every_ms = max(1000, TELL_EVERY_MS * config.guard.day_s * 1000 // DAY_MS)
        self._surveys = surveys_by_pool(config) if lane == "interactive" else {}
        self._lanes = context.partitions
        self._decisions, self._snapshots = names.of("decisions"), names.of("snapshots")
        self._dead = names.of("dead-letter")
        self._shares = Shares(context) if lane == "interactive" and config.tenants else None
        self._sessions = Sessions(config)
        self._recent_ms = min(RECENT_MS, config.settle.dedupe_window_s * 1000)
        self._default_deadline_ms = DEFAULT_DEADLINE_MS[lane]
        self._follower = follower
        self._bodies = BodyReader(context.client, names.bodies())
        self._counting: Counting = Aside(self._bodies, exactly)
        self._to_count: dict[int, int] = {}
        self._refusals = Refusals(context, lane, stage=self._name, default_deadline_ms=self._default_deadline_ms)
        self._intake = Intake(config, self._requests, self._redispatch, self._bodies)
        self._admission = Admission(context) if lane == "batch" else None
        self._attempts = Attempts(context, lane, shared=self._shares is not None)
        self._beside = Beside(context, lane, self._attempts, self._admission)
        self._told = self._paced or self._beside.told

    def stage(self) -> Stage:
        own = [one for one in (self._counting, self._admission, self._shares) if one is not None]
        return Stage(
            name=self._group,
            sources=(
                self._requests,
                self._redispatch,
                *((self._spending,) if self._told else ()),
                *((self._leases,) if self._tenants else ()),
            ),
            outputs=frozenset(
                {
                    *self._attempts.outputs,
                    self._snapshots,
                    self._dead,
                    self._paces,
                    self._profiles,
                    self._redispatch,
                    *((self._wanted,) if self._tenants else ()),
                    *((self._shares.topic,) if self._shares is not None else ()),
                }
            ),
            handle=self.handle,
            tick=self.tick,
            prefetch=self._intake.fetch,
            prepare=self._intake.read,
            ready=self._follower.fresh,
            readable=None if self._admission is None else self.readable,
            index=route_sessions.Lane,
            rows=DictRows,
            resources=(self._follower, self._bodies, *own),
            culprit=self.culprit,
        )

    def readable(self, tp: Any) -> bool:
        """New batch requests wait while enough are in work, or to be counted; further attempts never do."""
        if tp.topic != self._requests or self._admission is None:
            return True
        return self._admission.open() and self._to_count.get(tp.partition, 0) < MAX_WAITING

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        snapshot = self._follower.snapshots.current(unit.now_ms)
        if batch.tp.topic == self._spending:
            self._correct(batch, snapshot, unit)
        elif batch.tp.topic == self._leases:
            self._hear(batch, unit)
        else:
            self._decide(batch, snapshot, unit)
        if self._tenants:
            unit.index.leases.tell(self._tenants, self._wanted, self._lane, unit, look=False)
        unit.index.budgets.store(unit)
        unit.index.shadows.store(unit)
        unit.index.paces.store(unit)

    def _correct(self, batch: Batch, snapshot: Snapshot, unit: UnitLike) -> None:
        """What requests have cost takes the place of what they were charged."""
        for record in batch.records:
            spending = by_name(Spending, orjson.loads(record.value))
            if spending.shadow:
                unit.index.shadows.correct(spending, unit.now_ms)
                continue
            pool = snapshot.pools.get(spending.pool)
            if pool is not None and pool.objective == "budget":
                unit.index.budgets.correct(pool, spending)

    def _hear(self, batch: Batch, unit: UnitLike) -> None:
        """Owners lend, calls have cost something: who waits for that goes on."""
        for record in batch.records:
            news = decode(TenantNews, record.value)
            if (limits := self._tenants.limits.get(news.tenant)) is not None:
                unit.index.leases.heard(limits, news, self._redispatch, unit)

    def _decide(self, batch: Batch, snapshot: Snapshot, unit: UnitLike) -> None:
        self._keep_snapshot(snapshot, unit)
        asked = [item for item in batch.prepared if isinstance(item, Asked) and item.uncounted is None]
        kinds = iter(
            self._follower.snapshots.taxonomy.of(
                [Asking(one.parsed.model, one.seen, one.tokens.tokens) for one in asked]
            )
        )
        for record, item in zip(batch.records, batch.prepared, strict=True):
            if isinstance(item, Unusable):
                self._refusals.turn_down(record, item, unit)
            elif item is not None:
                case = case_of(record, item, unit.now_ms, self._default_deadline_ms)
                kind = None if item.uncounted is not None else next(kinds)
                if case.again is None and not unit.index.recent.add(
                    item.parsed.request_id, unit.now_ms, self._recent_ms
                ):
                    continue  # a duplicate
                if kind is None:
                    self._let_wait(case, unit)
                elif case.mirrored:
                    self._beside.route(case, kind, snapshot, unit)
                else:
                    self._route(case, kind, snapshot, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        """Sessions that were idle for too long are forgotten, users who were asked are let go."""
        del now_ms
        unit.index.expire(unit, SESSIONS_A_TICK)
        unit.index.surveys.free(unit)
        unit.index.counts.tick(self._counting, self._redispatch, unit)
        self._to_count[unit.partition] = len(unit.index.counts)
        if self._tenants:
            unit.index.leases.tick(self._tenants, self._redispatch, unit)
            unit.index.leases.tell(self._tenants, self._wanted, self._lane, unit, look=True)
        if self._shares is not None:
            unit.index.wanting.tell(self._shares.topic, unit)
        if self._reviews_per_day:
            unit.index.paces.tell(self._paces, self._lane, unit)
        unit.index.profiles.tell(self._profiles, self._follower.snapshots.taxonomy, self._profile_every_ms, unit)

    def culprit(self, record: Any, unit: UnitLike) -> None:
        """Give up a record that ended the process again and again: a dead letter, and a result where one is possible."""
        error = PointsmanError("the record ended the process again and again", code=RejectCode.INTERNAL_ERROR)
        self._refusals.bury(record, error, unit)
        if record.topic == self._redispatch:
            if isinstance(order := read_order(record.value), Order):
                self._refusals.turn_down(record, Unusable(error, None, order), unit)
            return
        key = key_that_fits(record.key)
        try:
            parsed = decode_request(record.value)
        except BadRequest as bad:
            self._refusals.refuse_unread(record, bad, key, unit, code=Code.INVALID_REQUEST)
        else:
            self._refusals.refuse_unread(record, bad_request(parsed, str(error)), key, unit, code=Code.INTERNAL_ERROR)

    def _let_wait(self, case: Case, unit: UnitLike) -> None:
        """Until its prompt is counted; where too many wait it is refused, but batch requests are left unread before that."""
        counts: Counts = unit.index.counts
        asked = case.asked
        assert asked.uncounted is not None
        tenant, chars = asked.parsed.request.router.tenant, asked.uncounted.chars
        if self._admission is not None or counts.room(tenant, chars):
            order = case.again or anew(case, lane=self._lane)
            counts.wait(order, tenant=tenant, chars=chars, headers=case.record.headers, unit=unit)
        elif not case.mirrored:
            self._refuse(case, TOO_MANY_TO_COUNT, asked.slices, unit)

    def _route(self, case: Case, kind: Kind, snapshot: Snapshot, unit: UnitLike) -> None:
        """Decide one attempt and send it on its way."""
        asked, new = case.asked, case.is_new
        if new:
            self._profile(asked, kind, snapshot.pools.get(asked.parsed.model), unit)
        facts = self._facts(case, kind, snapshot, unit)
        found, behind = self._choose(facts, snapshot, unit, priority=asked.parsed.request.router.priority, new=new)
        limits = self._tenants.of(facts.tenant)
        if limits is not None and isinstance(found, Choice):
            waits = case.again or anew(case, lane=self._lane)
            admitted = self._gate.admit(limits, facts, found, waits, unit, headers=case.record.headers)
            if admitted is None:
                return
            found = admitted
        self._go(case, facts, found, snapshot, unit, behind=behind)

    def _facts(self, case: Case, kind: Kind, snapshot: Snapshot, unit: UnitLike) -> RequestFacts:
        """With what the lane knows: of its session, of what its pool may spend, of how many are looked at."""
        asked = case.asked
        pool, key = snapshot.pools.get(asked.parsed.model), self._sessions.key(asked)
        purse = None if pool is None or pool.objective != "budget" else unit.index.budgets.purse(pool)
        return facts_of(
            asked,
            kind,
            now_ms=unit.now_ms,
            deadline_at_ms=case.deadline_at_ms,
            session=NO_SESSION if key is None else unit.index.session(unit, key),
            purse=purse,
            pace=None if asked.order is not None or pool is None else self._pace(pool, asked, kind, snapshot, unit),
        )

    def _go(
        self,
        case: Case,
        facts: RequestFacts,
        found: Choice | Refusal,
        snapshot: Snapshot,
        unit: UnitLike,
        *,
        behind: bool,
    ) -> None:
        """Write what was decided: an attempt, perhaps ``behind``, a refusal, or that it is too large to be written."""
        if isinstance(found, Refusal):
            self._refuse(case, found, facts.slices, unit)
            return
        asked = case.asked
        pool, first = snapshot.pools.get(asked.parsed.model), asked.order is None
        paced = pool if first and pool is not None and pool.objective == "budget" else None
        charged = None if paced is None else unit.index.budgets.charge(paced, found)
        survey = self._ask(asked, case.deadline_at_ms, unit) if first else None
        slip = slip_of(case, found, facts.slices, lane=self._lane, charged=charged, survey=survey, behind=behind)
        if not self._attempts.send(case, facts, found, slip, unit, version=snapshot.version):
            if paced is not None and charged is not None:
                unit.index.budgets.correct(paced, Spending(pool=paced.name, requests=1, charged=charged, cost=0))
            self._too_large(case, unit)
            return
        self._sent(facts, slip, unit, first=first)
        if (key := self._sessions.key(asked)) is not None:
            self._sessions.keep(key, facts, found, unit)

    def _refuse(self, case: Case, refusal: Refusal, slices: tuple[str, ...], unit: UnitLike) -> None:
        slip = slip_of(case, refusal, slices, lane=self._lane)
        signed = sign(slip, self._keyring)
        if len(signed) > MAX_SLIP_CHARACTERS:
            self._too_large(case, unit)
        else:
            self._refusals.emit(refusal, slip, signed, case.record, unit)

    def _too_large(self, case: Case, unit: UnitLike) -> None:
        asked, order = case.asked, case.asked.order
        if (limits := self._tenants.of(asked.parsed.request.router.tenant)) is not None:
            place = place_of(case.origin.offset, 1 if order is None else order.attempt)
            unit.index.leases.come_back(limits, place, 0, unit)
        error = bad_request(asked.parsed, "is too large, written out")
        self._refusals.turn_down(case.record, Unusable(error, asked.key, case.again), unit)

    def _choose(
        self, facts: RequestFacts, snapshot: Snapshot, unit: UnitLike, *, priority: int, new: bool
    ) -> tuple[Choice | Refusal, bool]:
        """Where the attempt goes, and whether behind; a ``new`` interactive request not into a queue that is too long for its ``priority``."""
        found, shares = decide(facts, snapshot), self._shares
        if isinstance(found, Refusal) or self._admission is not None:
            return found, False
        behind = shares is not None and not shares.goes_first(facts.tenant, facts.prompt_tokens, found.model, unit)
        queues = self._follower.snapshots.queues
        refusal = queues.refusal(facts, found, priority, snapshot.health, behind=behind) if new else None
        if refusal is not None and shares is not None:
            shares.refused(facts.tenant, facts.prompt_tokens, unit)
        return refusal or found, behind

    def _sent(self, facts: RequestFacts, slip: Slip, unit: UnitLike, *, first: bool) -> None:
        """Count what was sent, where that decides what may follow. ``first``: it is the request's first attempt."""
        home = self._attempts.home(slip, unit)
        if self._admission is None:
            assert slip.model is not None
            self._follower.snapshots.queues.send(slip.model, unit.now_ms, behind=slip.behind)
            if self._shares is not None:
                self._shares.sent(facts.tenant, facts.prompt_tokens, unit, first=not slip.behind, home=home)
        elif first:
            self._admission.note(home, unit.now_ms)

    def _profile(self, asked: Asked, kind: Kind, pool: PoolFacts | None, unit: UnitLike) -> None:
        """Count what a new request of a pool looks like, for the guard."""
        if pool is None or asked.order is not None:
            return
        options = asked.parsed.request.router
        session = (options.tenant, options.session) if options.session else None
        taxonomy = self._follower.snapshots.taxonomy
        unit.index.profiles.note((pool.name, pool.models[0]), kind, session, taxonomy, unit.now_ms)

    def _pace(self, pool: PoolFacts, asked: Asked, kind: Kind, snapshot: Snapshot, unit: UnitLike) -> float | None:
        """How often answers of the pool are looked at, as this request finds it; ``None`` where none are."""
        per_day = self._reviews_per_day.get(pool.name)
        if per_day is None:
            return None
        focus = snapshot.focus_on(pool.name, kind.stratum, asked.parsed.request.router.tenant, asked.slices)
        amount = focus.reviews * score_of(kind.p_ok.get(pool.models[0]))
        told, mine = self._follower.snapshots.paces, name_of(self._lane, unit.partition, pool.name)
        paces: Paces = unit.index.paces
        return paces.pace(pool.name, per_day, amount, told.get(pool.name, {}), mine=mine, now_ms=unit.now_ms)

    def _ask(self, asked: Asked, deadline_at_ms: int, unit: UnitLike) -> Ask | None:
        """The survey that the result shall carry. Batch jobs have no user who looks at an answer."""
        template = self._surveys.get(asked.parsed.model)
        options = asked.parsed.request.router
        if template is None or not drawn(template, options.tenant, asked.parsed.request_id):
            return None
        user = user_of(options.tenant, asked.parsed.request.body, options.session)
        if user is None:
            return None
        surveys: Surveys = unit.index.surveys
        quiet = self._follower.snapshots.quiet
        return surveys.ask(template, user, quiet, lanes=self._lanes, deadline_at_ms=deadline_at_ms, unit=unit)

    def _keep_snapshot(self, snapshot: Snapshot, unit: UnitLike) -> None:
        """Write a version to the log before the lane's first decision by it, and again each day that it lasts."""
        lane: route_sessions.Lane = unit.index
        if lane.snapshot_version != snapshot.version or unit.now_ms - lane.snapshot_ms >= DAY_MS:
            lane.snapshot_version, lane.snapshot_ms = snapshot.version, unit.now_ms
            key = snapshot.version.encode()
            unit.emit(self._snapshots, key, snapshot.canonical(), partition=unit.by_key(self._snapshots, key))


def build(context: Context) -> list[Stage]:
    """The stages ``route`` and ``route-batch``, which decide by the same snapshot; and ``leases``, where a tenant has limits."""
    follower = SnapshotFollower(context)
    stages = [Route(context, "interactive", follower).stage(), Route(context, "batch", follower).stage()]
    tenants = Tenants(context.config)
    return [*stages, Owners(context, tenants).stage()] if tenants else stages
