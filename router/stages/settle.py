"""The only author of results: exactly one a request, by its deadline, also when no worker lives. Prices each attempt once.

Rules
- Slips are believed, records are not: what a record says of request, attempt and model must be what its slip says.
- ``core.settlement`` knows what follows; here records become its arguments and its steps become records.
- Everything of a request meets in the partition of its id. What lies elsewhere would be settled twice: dead letter.
- Deadlines and expiry go by ``read_to_ms``, orders by ``now_ms``.
- What comes beside a result (shadows, pairs to be judged) follows it in the same transaction and never holds it up (``core.beside``).
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from router.contract.codec import decode, encode
from router.contract.errors import BadRecord, PointsmanError, RejectCode
from router.contract.ids import partition_of
from router.contract.records import Outcome
from router.core.attempts import Charge, Try
from router.core.backoff import unlimited
from router.core.hedging import hedge
from router.core.price import UNPRICED, cost_nano_usd
from router.core.records import Spending
from router.core.rerouting import reroute
from router.core.results import result_record, result_token, usage_record
from router.core.settlement import Row, Step, conclude, decide, give_up, pass_time, reconsider
from router.core.slip import Slip, SlipError, verify
from router.kafka.bodies import BodyReader
from router.kafka.stage import Stage, Standing
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import LINGER_S, Context
from router.stages.dead_letter import dead_letter
from router.stages.headers import passed_on
from router.stages.review_text import ReviewText
from router.stages.settle_beside import Beside, place_of
from router.stages.settle_book import NOTHING, Book, Kept
from router.stages.settle_further import FurtherAttempts
from router.stages.settle_health import ModelHealth
from router.stages.settle_intake import bounded, refusal_of, slip_text
from router.stages.settle_rows import SettleRows
from router.stages.settle_silence import Silence
from router.stages.settle_tenants import Charges
from router.stages.snapshot import price_of

NAME = "settle"
#: How long a tick fires deadlines, and then gives orders; what is left comes with the next one. At 15 us each a burst of
#: 20,000 with the same deadline takes some ten ticks. Of a machine that is busy otherwise each tick takes its share.
DUE_S = 0.015
DUE_AT_LEAST = 400
#: Slips remembered as genuine, some 10 MiB: those of 2 s at 5,000 requests a second.
VERIFIED_SLIPS = 10_000
#: Open requests of a lane (4 kB each) beyond which decisions wait, and the unread outcomes while which they do: some turns' worth.
MOST_OPEN, BEHIND = 10_000, 1_000
_HOUR_MS = 3_600_000


class Settle:
    """The stage's handlers for one configuration."""

    def __init__(self, context: Context) -> None:
        config, names = context.config, context.names
        self._group = names.group(NAME)
        self._keyring = context.keyring
        self._verified: dict[str, Slip] = {}
        self._partitions = context.partitions
        self._window_ms = config.settle.dedupe_window_s * 1000
        self._max_ids = max(1, config.settle.dedupe_max_ids // context.partitions)
        self._token_ttl_ms = config.feedback.ttl_s * 1000
        self._prices = {name: price_of(model) for name, model in config.models.items()}
        self._decisions, self._outcomes = names.of("decisions"), names.of("outcomes")
        self._results, self._usage, self._load = names.of("results"), names.of("usage"), names.of("load")
        self._redispatch = frozenset({names.of("redispatch"), names.of("redispatch.batch")})
        self._spending = {"interactive": names.of("spending"), "batch": names.of("spending.batch")}
        self._paced = frozenset(name for name, pool in config.pools.items() if pool.objective == "budget")
        self._dead, self._counts = names.of("dead-letter"), names.of("health.counts")
        self._health = ModelHealth(context)
        self._silence = Silence()
        self._further = FurtherAttempts(config, context.partitions, self._health)
        self._beside = Beside(context)
        self._charges = Charges(config, names)

    def stage(self) -> Stage:
        return Stage(
            name=self._group,
            sources=(self._decisions, self._outcomes),
            outputs=frozenset(
                {
                    self._results,
                    self._usage,
                    self._load,
                    self._dead,
                    self._counts,
                    *self._beside.outputs,
                    *self._charges.outputs,
                    *self._redispatch,
                    *self._spending.values(),
                }
            ),
            handle=self.handle,
            tick=self.tick,
            punctual=True,
            rows=lambda: SettleRows(self._max_ids),
            index=Book,
            holds=self.holds,
            # A decision only opens a row, and its outcome comes later: the two may share a transaction.
            linger_s=LINGER_S,
            urgent=frozenset({self._results, *self._redispatch}),
            culprit=self.culprit,
            resources=(self._health,),
        )

    def holds(self, topic: str, standing: Standing) -> bool:
        """Decisions wait while many requests are open and outcomes lie there unread: an outcome ends one without its decision.

        Else settle, when it is behind, would open rows by the million only to close them later.
        """
        return (
            topic == self._decisions
            and len(standing.index.open) + standing.taken[topic] > MOST_OPEN
            and standing.lag[self._outcomes] > BEHIND
        )

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        read = self._decision if batch.tp.topic == self._decisions else self._outcome
        for record in batch.records:
            if record.value is None:
                continue
            try:
                read(record, unit)
            except PointsmanError as error:
                self._reject(record, error, unit)
        self._tell_spending(unit)

    def tick(self, now_ms: int, unit: UnitLike) -> bool:
        """Deadlines, orders that are due, ids to forget, the load record; whether more was due than time allowed."""
        book: Book = unit.index
        read_to_ms, more = unit.read_to_ms, False
        book.walk(now_ms)
        for due in (book.passed(read_to_ms), book.orders.pop_until(now_ms)):
            ends_s = time.perf_counter() + DUE_S
            for number, id16 in enumerate(due, 1):
                self._take(unit, id16, self._passed(book, book.open[id16], now_ms, read_to_ms))
                if number >= DUE_AT_LEAST and time.perf_counter() >= ends_s:
                    more = True
                    break
        if silent := self._health.silent(now_ms):
            for id16 in self._silence.waiting(silent, book, unit.partition, now_ms):
                row = book.open[id16]
                policy = self._further.policy(row.slip.pool)
                self._take(unit, id16, reroute(row, silent, now_ms=now_ms, policy=policy))
        for id16, row, policy in self._further.tails(book, now_ms):
            self._take(unit, id16, hedge(row, now_ms=now_ms, policy=policy))
        book.forget(unit)
        load = book.load(unit)
        if load is not None:
            self._emit_load(unit, load)
            for model, backlog in book.backlogs.tell(unit.partition, now_ms, read_to_ms).items():
                key = model.encode()
                value = orjson.dumps(backlog.to_json())
                unit.emit(self._counts, key, value, partition=unit.by_key(self._counts, key))
        self._tell_spending(unit)
        return more

    def _passed(self, book: Book, row: Row, now_ms: int, read_to_ms: int) -> Step:
        """Time has passed for a request."""
        step = pass_time(row, now_ms=now_ms, read_to_ms=read_to_ms)
        if step.verdict is not None or row.pending is None or not row.pending.again.waits:
            return step
        last = max(row.tries, key=lambda each: each.number)
        return reconsider(
            row,
            now_ms=now_ms,
            policy=self._further.policy(row.slip.pool),
            take=self._further.take(book, row, last.model, now_ms),
            down=self._further.shut(book, row, now_ms, waited=True),
        )

    def culprit(self, record: Any, unit: UnitLike) -> None:
        """Give up a record that ended the process again and again: a dead letter, and the end of its request.

        An outcome's request that is not open will be opened by its decision and end by its deadline.
        """
        error = PointsmanError("the record ended the process again and again", code=RejectCode.INTERNAL_ERROR)
        self._reject(record, error, unit)
        book: Book = unit.index
        try:
            id16 = bytes.fromhex((record.key or b"").decode("ascii"))
            row = book.open.get(id16)
            if row is None and record.topic == self._decisions:
                row = self._opened(record, self._slip(slip_text(record), unit), book.kept(unit, id16)[0])
        except (ValueError, PointsmanError):
            return
        if row is not None:
            self._take(unit, id16, give_up(row))
            self._tell_spending(unit)

    def _decision(self, record: Any, unit: UnitLike) -> None:
        """A decision is its slip; only a refusal says more."""
        slip = self._slip(slip_text(record), unit)
        refusal = refusal_of(record.value) if slip.attempt == 0 else None
        book: Book = unit.index
        id16 = bytes.fromhex(slip.request_id)
        row = book.open.get(id16)
        is_new = row is None
        if row is None:
            row = self._opened(record, slip, book.kept(unit, id16)[0])
        if row is None:
            return
        step = decide(row, slip, refusal, now_ms=unit.now_ms)
        self._take(unit, id16, step)
        if is_new:
            self._further.began(book, step.row, unit.now_ms)

    def _outcome(self, record: Any, unit: UnitLike) -> None:
        outcome = decode(Outcome, record.value)
        slip = self._slip(outcome.slip, unit)
        if (outcome.request_id, outcome.attempt, outcome.model) != (slip.request_id, slip.attempt, slip.model):
            raise SlipError("slip: of another request, attempt or model than the outcome")
        outcome = bounded(outcome, len(record.value))
        book: Book = unit.index
        book.backlogs.answered(outcome.model, record.timestamp)
        id16, pair = bytes.fromhex(slip.request_id), (outcome.attempt, outcome.model)
        price = self._prices.get(outcome.model, UNPRICED)
        instead = None
        if slip.trial is not None and slip.baseline is not None:
            instead = cost_nano_usd(self._prices.get(slip.baseline, UNPRICED), outcome.usage)
        charge = Charge(cost_nano_usd(price, outcome.usage), price.version, instead)
        row = book.open.get(id16)
        kept, expires_s = (NOTHING, 0) if row is not None else book.kept(unit, id16)
        if row is None and record.timestamp < slip.deadline_at_ms:
            row = self._opened(record, slip, kept)
            if row is not None:
                self._further.began(book, row, unit.now_ms)
        priced, answer = kept.priced, None
        if row is not None:
            priced = row.priced
            failed = outcome.status != "ok"
            place = None if slip.trial is None and row.slip.sample is None else place_of(record)
            step = conclude(
                row,
                slip,
                outcome,
                charge,
                at_ms=record.timestamp,
                now_ms=unit.now_ms,
                policy=self._further.policy(slip.pool),
                room=book.room,
                place=place,
                take=self._further.take(book, row, outcome.model, unit.now_ms) if failed else unlimited,
                down=self._further.shut(book, row, unit.now_ms) if failed else frozenset(),
            )
            if slip.trial is not None and slip.trial.inclusion > 0.0 and pair not in priced:
                self._beside.sampled(record, step, pair, unit)
            answer = None if step.verdict is None else step.verdict.answered_by
            self._take(unit, id16, step)
        elif pair not in priced:
            expires_s = expires_s or self._expires_s(slip, unit.now_ms)
            book.keep(unit, id16, Kept(kept.settled, priced | {pair}), expires_s)
        self._charges.note(slip, (charge.cost_nano_usd or 0) if pair not in priced else 0)
        if pair not in priced:
            self._emit_usage(unit, record, slip, outcome, charge, answer=answer)
            if slip.mirror is not None:
                self._beside.concluded(record, slip, outcome, unit)

    @staticmethod
    def _opened(record: Any, slip: Slip, kept: Kept) -> Row | None:
        """The row of a request that is not open, ``None`` if it was settled: as is known, or as an order says."""
        if kept.settled or slip.of_order:
            return None
        return Row(slip=slip, priced=kept.priced, headers=tuple(passed_on(record.headers)))

    def _slip(self, text: str, unit: UnitLike) -> Slip:
        """The genuine slip; of a decision it is remembered for a while: the outcome most likely brings the same text."""
        slip = self._verified.pop(text, None)
        if slip is None:
            slip = self._verified[text] = verify(text, self._keyring)
            if len(self._verified) > VERIFIED_SLIPS:
                del self._verified[next(iter(self._verified))]
        home = partition_of(slip.request_id.encode(), self._partitions)
        if home != unit.partition:
            raise BadRecord(
                f"belongs into partition {home}, was produced to {unit.partition}", code=RejectCode.INVALID_OUTCOME
            )
        return slip

    def _take(self, unit: UnitLike, id16: bytes, step: Step) -> None:
        """Make the step: keep the row, or emit the result and keep the id. An order that is due at once goes out."""
        book: Book = unit.index
        if step.verdict is not None:
            token = self._emit_result(unit, step)
            if step.verdict.answered_by is not None and step.row.slip.sample is not None:
                self._beside.answered(step.row, step.verdict.answered_by.number, token, unit)
            if (charged := step.row.slip.charged) is not None:
                book.spend(step.row.slip, requests=1, charged=charged)
            book.close(unit, id16)
            kept = Kept(settled=True, priced=step.row.priced)
            book.keep(unit, id16, kept, self._expires_s(step.row.slip, unit.now_ms))
            return
        if step.order is None and step.row.pending is not None:
            step = pass_time(step.row, now_ms=unit.now_ms, read_to_ms=-1)
        if step.order is not None:
            self._beside.emit_order(unit, step.order, step.row.headers)
        if step.row is not book.open.get(id16):
            book.set(unit, id16, step.row)

    def _expires_s(self, slip: Slip, now_ms: int) -> int:
        """Until when an id is remembered: no duplicate counts within the window, no late outcome counts twice."""
        expires_ms = max(slip.deadline_at_ms + min(_HOUR_MS, self._window_ms), now_ms + self._window_ms)
        return -(-expires_ms // 1000)

    def _emit_result(self, unit: UnitLike, step: Step) -> str | None:
        """The result's feedback token."""
        row, verdict = step.row, step.verdict
        assert verdict is not None
        survey = None
        if verdict.answered_by is not None and row.slip.survey is not None:
            survey = self._beside.asked(row.slip, row.slip.survey, unit)
        result = result_record(
            row,
            verdict,
            now_ms=unit.now_ms,
            keyring=self._keyring,
            token_ttl_ms=self._token_ttl_ms,
            survey=survey,
        )
        headers = [("id", row.slip.request_id.encode()), ("lane", row.slip.lane.encode()), *row.headers]
        unit.emit(self._results, row.slip.key, encode(result), headers=headers)
        return result_token(result)

    def _emit_usage(
        self, unit: UnitLike, record: Any, slip: Slip, outcome: Outcome, charge: Charge, *, answer: Try | None
    ) -> None:
        """``answer``: what became the result now. Only then would the baseline have cost something instead."""
        baseline = None
        if answer is not None and answer.number != outcome.attempt:
            baseline = answer.charge.instead if answer.charge is not None else None  # an answer that was held
        elif answer is not None:
            if slip.baseline is not None:
                baseline = cost_nano_usd(self._prices.get(slip.baseline, UNPRICED), outcome.usage)
            if baseline is None:
                baseline = charge.cost_nano_usd
        of_baseline = self._prices.get(slip.baseline or "", UNPRICED)
        usage = usage_record(
            slip,
            outcome,
            charge,
            at_ms=record.timestamp,
            baseline_cost_nano_usd=baseline or 0,
            baseline_output_nano_usd_per_token=None if of_baseline.unpriced else of_baseline.output_nano_usd_per_token,
        )
        unit.emit(self._usage, slip.request_id.encode(), encode(usage))
        if slip.mirror is not None and slip.pool is not None:
            unit.index.spend(slip, requests=1, charged=slip.charged or 0, cost=charge.cost_nano_usd or 0)
        elif slip.pool in self._paced:
            unit.index.spend(slip, cost=charge.cost_nano_usd or 0)

    def _tell_spending(self, unit: UnitLike) -> None:
        """To the lanes of route that charged a budget, what became of it in this turn: one record a lane and pool."""
        spent = unit.index.spent
        for (lane, partition, pool, shadow), (requests, charged, cost) in spent.items():
            spending = Spending(pool=pool, requests=requests, charged=charged, cost=cost, shadow=shadow)
            unit.emit(self._spending[lane], pool.encode(), encode(spending), partition=partition)
        spent.clear()
        self._charges.tell(unit)

    def _emit_load(self, unit: UnitLike, load: Any) -> None:
        unit.emit(self._load, f"{NAME}/{unit.partition}".encode(), encode(load))

    def _reject(self, record: Any, error: PointsmanError, unit: UnitLike) -> None:
        unit.emit(self._dead, *dead_letter(record, error, stage=NAME, at_ms=unit.now_ms))


def build(context: Context) -> list[Stage]:
    """The stage ``settle``: decisions and outcomes in, results, usage and orders out; and ``reviews``, where items are to have texts."""
    stages = [Settle(context).stage()]
    if context.config.reviews.text:
        stages.append(ReviewText(context, BodyReader(context.client, context.names.bodies())).stage())
    return stages
