"""Verifies feedback, joins it with what was decided, counts it once, and turns it into rewards.

Two steps in one stage:

    feedback --> token verified, or a request id --> feedback.verified, by request id
    feedback.verified, results --> joined, counted once --> rewards, feedback.counted; answers to surveys --> surveys

**By token** no lookup is needed: the token carries the facts, also before this stage has read the result, also long
after the settled id was forgotten. **By request id** the facts are in the result, which lies in the lane's own partition
of ``results``. For each result only its id and place are kept, not its facts: 40 to 60 bytes an id, whatever the
names of tenants and strata (``core/packed``; the low 32 bits of the offset, which tell it apart among the last four
billion). A handler does no I/O, so it writes the feedback to itself once more, with header ``fetch`` naming the place;
``prefetch`` then brings the result along. Feedback by id is rare: the detour costs nobody else anything.

| feedback by id | |
|---|---|
| its id is kept | read the result, join |
| the result is not read yet | parked; joined when the result comes |
| still none when all that was there 5 s after the feedback has been read, or too many are parked | ``unknown_request`` |
| the request failed, or its result is gone | ``unknown_request``: no answer to judge |

A rejected one is fetched back by the same detour, so that its dead letter holds it whole.

- One opinion counts per request id, kind and source, and one label of a cascade's answer, however it came; a repeat is only counted as such. What was counted
  is remembered as long as a token lives.
- A result id seen again at another offset is *doubled* (the product promises one result): counted in ``load``.

Table (``SettleRows``): ``i`` + 16 bytes: a settled id, or the hash of (id, kind, source); ``w`` + partition + offset of
a feedback: parked; ``o``: the newest offset of ``results``; ``x``: results doubled so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import xxhash

from router.contract.codec import decode, encode, to_rfc3339
from router.contract.errors import BadRecord, PointsmanError, RejectCode
from router.contract.records import Feedback
from router.contract.releases import by_name
from router.core.records import CountedFeedback, SurveyEvent, VerifiedFeedback
from router.core.reward import is_label, reward_key, reward_of
from router.core.token import FeedbackFacts, TokenError, facts_of, open_token
from router.kafka.bodies import BodyReader, Place
from router.kafka.stage import Stage
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up, unreadable
from router.stages.feedback_desk import OFFSETS, Desk
from router.stages.settle_rows import SettleRows

NAME = "feedback"
#: Feedback waiting at once, per lane: some 20 MB at worst. Beyond, an unknown id is rejected at once.
MAX_PARKED = 20_000
#: Rejections a tick may write.
REJECTS_A_TICK = 100

_FETCH, _REJECT = "fetch", "reject"
#: Topics that records are read in again, at their places.
BODIES = ("feedback", "results")
_ID = re.compile("[0-9a-f]{32}")


class FeedbackStage:
    """The stage's handlers for one configuration. ``bodies`` reads results and feedback back."""

    def __init__(self, context: Context, bodies: BodyReader) -> None:
        config, names = context.config, context.names
        self._name = names.group(NAME)
        self._feedback, self._verified = names.of("feedback"), names.of("feedback.verified")
        self._results, self._rewards = names.of("results"), names.of("rewards")
        self._counted, self._load = names.of("feedback.counted"), names.of("load")
        self._surveys, self._dead = names.of("surveys"), names.of("dead-letter")
        self._keyring = context.keyring
        self._bodies = bodies
        self._kept_s = config.settle.dedupe_window_s
        self._seen_s = max(config.feedback.ttl_s, config.settle.dedupe_window_s)
        self._ttl_ms = config.feedback.ttl_s * 1000
        self._max_ids = max(1, config.settle.dedupe_max_ids // context.partitions)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._feedback, self._verified, self._results),
            outputs=frozenset({self._verified, self._rewards, self._counted, self._load, self._surveys, self._dead}),
            handle=self.handle,
            tick=self.tick,
            prefetch=self.prefetch,
            index=Desk.of,
            rows=lambda: SettleRows(self._max_ids),
            resources=(self._bodies,),
            linger_s=PATIENT_LINGER_S,
            gather_s=GATHER_S,
            culprit=give_up(NAME, self._dead),
        )

    async def prefetch(self, batch: Batch) -> list[Any]:
        """For each record the one that its header ``fetch`` names."""
        found: list[Any] = [None] * len(batch.records)
        if batch.tp.topic != self._verified:
            return found
        named = {at: header for at, record in enumerate(batch.records) if (header := _header(record, _FETCH))}
        if named:
            places: list[Place] = [tuple(orjson.loads(header)) for header in named.values()]
            for at, body in zip(named, await self._bodies.fetch(places), strict=True):
                found[at] = body
        return found

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        if batch.tp.topic == self._results:
            self._settled(batch, unit)
        elif batch.tp.topic == self._feedback:
            for record in batch.records:
                if record.value is not None:
                    self._verify(record, unit)
        else:
            for record, body in zip(batch.records, batch.fetched, strict=True):
                self._join(record, body, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        desk: Desk = unit.index
        for verified in desk.overdue(unit, REJECTS_A_TICK):
            self._refuse(verified, "no such request, or its id was forgotten", unit)
        desk.forget(unit)
        found = desk.load(unit.partition, now_ms, unit.read_to_ms)
        if found is not None:
            unit.emit(self._load, f"{NAME}/{unit.partition}".encode(), encode(found))

    # Step 1: verify

    def _verify(self, record: Any, unit: UnitLike) -> None:
        """A genuine token, or a request id, goes on to the lane of its request."""
        try:
            feedback = decode(Feedback, record.value)
            facts = None
            if feedback.feedback_token is not None:
                facts = open_token(feedback.feedback_token, self._keyring, record.timestamp)
        except (BadRecord, TokenError) as error:
            self._reject(record, error, unit)
            return
        request_id = feedback.request_id if facts is None else facts.request_id
        assert request_id is not None  # the codec sees to it: token or id
        verified = VerifiedFeedback(
            request_id=request_id,
            kind=feedback.kind,
            source=feedback.source,
            value=feedback.value,
            weight=feedback.weight,
            at_ms=record.timestamp,
            facts=None if facts is None else asdict(facts),
            source_topic=record.topic,
            source_partition=record.partition,
            source_offset=record.offset,
            attempt=feedback.attempt,
        )
        key = request_id.encode()
        unit.emit(self._verified, key, encode(verified), partition=unit.by_key(self._verified, key))

    # Step 2: join and count

    def _settled(self, batch: Batch, unit: UnitLike) -> None:
        """Keep where the results lie; join the feedback that has waited for them."""
        desk: Desk = unit.index
        for record in batch.records:
            request_id = (_header(record, "id") or b"").decode("latin-1")
            if not _ID.fullmatch(request_id):
                self._reject(record, unreadable(ValueError(f"header id: {request_id[:80]!r}")), unit)
                continue
            id16 = bytes.fromhex(request_id)
            desk.newest = record.offset
            if desk.kept(id16, unit) is not None:
                desk.doubled += 1
                continue
            desk.keep(id16, record.offset % OFFSETS, record.timestamp // 1000 + self._kept_s, unit)
            if request_id in desk.parked:
                self._unpark(request_id, record, unit)
        desk.note(unit)

    def _join(self, record: Any, body: Any, unit: UnitLike) -> None:
        """One verified feedback, with the record it had asked for."""
        why = _header(record, _REJECT)
        try:
            verified = by_name(VerifiedFeedback, orjson.loads(record.value))
        except (ValueError, TypeError) as error:
            self._reject(record, unreadable(error), unit)
            return
        if why is not None:
            self._reject(_Gone(verified) if body is None else body, _unknown(why.decode()), unit)
        elif verified.facts is not None:
            self._count(verified, facts_of(verified.facts), unit)
        elif _header(record, _FETCH) is not None:
            self._join_result(verified, body, unit)
        else:
            self._look_up(verified, unit)

    def _look_up(self, verified: VerifiedFeedback, unit: UnitLike) -> None:
        """By request id: ask for the result, or wait for it."""
        desk: Desk = unit.index
        low = desk.kept(bytes.fromhex(verified.request_id), unit)
        if low is not None:
            place = (self._results, unit.partition, desk.place(low))
            self._emit_again(verified, unit, (_FETCH, orjson.dumps(place)))
        elif desk.waiting >= MAX_PARKED:
            self._refuse(verified, "too many wait for their results", unit)
        else:
            desk.park(verified, unit)

    def _unpark(self, request_id: str, result: Any, unit: UnitLike) -> None:
        desk: Desk = unit.index
        for verified in desk.take(request_id, unit):
            self._join_result(verified, result, unit)

    def _join_result(self, verified: VerifiedFeedback, result: Any, unit: UnitLike) -> None:
        facts = self._facts(verified.request_id, result)
        if isinstance(facts, str):
            self._refuse(verified, facts, unit)
        else:
            self._count(verified, facts, unit)

    def _facts(self, request_id: str, result: Any) -> FeedbackFacts | str:
        """What the result says of its decision (its own token has it all), or why there is nothing to judge."""
        if result is None or result.value is None:
            return "its result is gone"
        found = orjson.loads(result.value)
        if found["id"] != request_id:
            return "its result is gone"
        token = found["router"]["feedback_token"]
        if token is None:
            return "the request failed: there is no answer to judge"
        try:
            return open_token(token, self._keyring, 0)
        except TokenError:
            return "its result was signed with a key that is no longer known"

    def _count(self, verified: VerifiedFeedback, facts: FeedbackFacts, unit: UnitLike) -> None:
        """Count once per request id, kind and source, and attempt where it names one that is not the result's."""
        desk: Desk = unit.index
        sampled, other = facts.sampled, verified.attempt not in {None, facts.answered_by_attempt}
        if other and (sampled is None or sampled.attempt != verified.attempt):
            self._refuse(verified, f"its attempt {verified.attempt} has no answer that is to be judged", unit)
            return
        opinion = f"{facts.request_id}\0{verified.kind}\0{verified.source}"
        if is_label(facts, verified.attempt, verified.kind, verified.source):
            opinion = f"{facts.request_id}\0label\0{verified.attempt}"  # one an answer, whoever gives it
        elif other or facts.cohort == "shadow":
            opinion += f"\0{verified.attempt or facts.answered_by_attempt}"
        seen16 = xxhash.xxh3_128_digest(opinion.encode())
        repeat = desk.kept(seen16, unit) is not None
        if not repeat:
            desk.keep(seen16, 0, verified.at_ms // 1000 + self._seen_s, unit)
            self._reward(verified, facts, unit)
            if verified.kind == "survey" and verified.source == "user" and not other:
                self._answered(verified, facts, unit)
        counted = CountedFeedback(
            request_id=facts.request_id,
            tenant=facts.tenant,
            lane=facts.lane,
            pool=facts.pool,
            stratum=facts.stratum,
            model=sampled.model if other and sampled is not None else facts.model,
            cohort=facts.cohort,
            kind=verified.kind,
            value=verified.value,
            repeat=repeat,
            at_ms=verified.at_ms,
            attempt=verified.attempt or facts.answered_by_attempt,
            source=verified.source,
        )
        unit.emit(self._counted, facts.request_id.encode(), encode(counted))

    def _reward(self, verified: VerifiedFeedback, facts: FeedbackFacts, unit: UnitLike) -> None:
        reward = reward_of(
            facts,
            kind=verified.kind,
            source=verified.source,
            value=verified.value,
            weight=verified.weight,
            at=to_rfc3339(verified.at_ms),
            attempt=verified.attempt,
            asked_at=to_rfc3339(min(verified.at_ms, facts.expires_at_ms - self._ttl_ms)),
        )
        if reward is not None:
            key = reward_key(reward.pool, reward.stratum).encode()
            unit.emit(self._rewards, key, encode(reward), partition=unit.by_key(self._rewards, key))

    def _answered(self, verified: VerifiedFeedback, facts: FeedbackFacts, unit: UnitLike) -> None:
        """Of a survey that the result asked for; what was said without being asked is no answer to it."""
        if facts.survey is not None and facts.pool is not None and facts.stratum is not None:
            event = SurveyEvent(
                event="answered",
                survey=facts.survey,
                request_id=facts.request_id,
                pool=facts.pool,
                stratum=facts.stratum,
                cohort=facts.cohort,
                at_ms=verified.at_ms,
                value=verified.value,
            )
            unit.emit(self._surveys, facts.request_id.encode(), encode(event))

    def _refuse(self, verified: VerifiedFeedback, why: str, unit: UnitLike) -> None:
        """Ask for the feedback record itself, to put it into the dead letter."""
        place = (verified.source_topic, verified.source_partition, verified.source_offset)
        self._emit_again(verified, unit, (_FETCH, orjson.dumps(place)), (_REJECT, why.encode()))

    def _emit_again(self, verified: VerifiedFeedback, unit: UnitLike, *headers: tuple[str, bytes]) -> None:
        unit.emit(self._verified, verified.request_id.encode(), encode(verified), headers=[*headers])

    def _reject(self, record: Any, error: PointsmanError, unit: UnitLike) -> None:
        unit.emit(self._dead, *dead_letter(record, error, stage=NAME, at_ms=unit.now_ms))


@dataclass(frozen=True, slots=True)
class _Gone:
    """A feedback record that its topic no longer holds, for its dead letter."""

    verified: VerifiedFeedback
    key: None = None
    value: None = None

    @property
    def topic(self) -> str:
        return self.verified.source_topic

    @property
    def partition(self) -> int:
        return self.verified.source_partition

    @property
    def offset(self) -> int:
        return self.verified.source_offset


def build(context: Context) -> list[Stage]:
    return [FeedbackStage(context, BodyReader(context.client, map(context.names.of, BODIES))).stage()]


def _unknown(why: str) -> PointsmanError:
    return PointsmanError(f"request_id: {why}", code=RejectCode.UNKNOWN_REQUEST)


def _header(record: Any, name: str) -> bytes | None:
    headers: Iterable[tuple[str, bytes]] = record.headers
    for key, value in headers:
        if key == name:
            return value
    return None
