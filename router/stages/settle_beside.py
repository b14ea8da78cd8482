"""What settle does beside results: answers are given to people, shadows and judges ordered, pairs told (``core.beside``), users asked.

All of it leaves in the transaction of what it follows; none of it has a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router.contract.codec import encode
from router.contract.records import Origin, Outcome
from router.core.beside import judged_pair, order_judge, order_shadow
from router.core.records import Order, SurveyEvent
from router.core.results import review_item, shadow_token
from router.core.reward import reward_key
from router.core.settlement import Pair, Row, Step
from router.core.slip import Slip
from router.core.survey import Ask
from router.kafka.unit import UnitLike
from router.stages.context import Context
from router.stages.headers import passed_on

#: Within which an answer should be looked at.
LOOK_WITHIN_MS = 24 * 3_600_000


class Beside:
    """For one configuration; ``outputs``: the topics it writes to beside those of orders."""

    def __init__(self, context: Context) -> None:
        config, names = context.config, context.names
        self._judges = {name: pool.judge for name, pool in config.pools.items() if pool.judge is not None}
        self._redispatch = {"interactive": names.of("redispatch"), "batch": names.of("redispatch.batch")}
        self._pairs = names.of("pairs")
        self._reviews = names.of("reviews.wanted" if config.reviews.text else "reviews")
        self._surveys, self._asked = config.surveys, names.of("surveys")
        self._keyring = context.keyring
        self._token_ttl_ms = config.feedback.ttl_s * 1000
        self.outputs = frozenset({self._pairs, self._reviews, self._asked, *self._redispatch.values()})

    def answered(self, row: Row, number: int, token: str | None, unit: UnitLike) -> None:
        """A request that was drawn has its answer, of attempt ``number``; ``token``: feedback on it."""
        answered_by, sample = next(each for each in row.tries if each.number == number), row.slip.sample
        if sample is not None and sample.review > 0.0 and answered_by.place is not None:
            item = review_item(
                row.slip,
                number,
                answered_by.place,
                sample="review",
                inclusion=sample.review,
                weight=sample.weight,
                token=token,
                due_at_ms=unit.now_ms + LOOK_WITHIN_MS,
            )
            self._emit_item(item, unit)
        order = order_shadow(row.slip, answered_by, now_ms=unit.now_ms, token=self._for_people(row.slip, token))
        if order is not None:
            self.emit_order(unit, order, row.headers)

    def asked(self, slip: Slip, ask: Ask, unit: UnitLike) -> dict[str, Any] | None:
        """What the result says of its survey, and the word that its user was asked; ``None`` if there is no such survey any more."""
        template = self._surveys.get(ask.name)
        if template is None or slip.pool is None or slip.stratum is None:
            return None
        event = SurveyEvent(
            event="asked",
            survey=ask.name,
            request_id=slip.request_id,
            pool=slip.pool,
            stratum=slip.stratum,
            cohort=slip.cohort or "direct",
            at_ms=unit.now_ms,
            user=ask.user,
            inclusion=ask.inclusion,
        )
        unit.emit(self._asked, slip.request_id.encode(), encode(event))
        return {
            "name": ask.name,
            "question": template.question,
            "scale": template.scale,
            "inclusion_probability": ask.inclusion,
        }

    def concluded(self, record: Any, slip: Slip, outcome: Outcome, unit: UnitLike) -> None:
        """The first outcome of a shadow, or of a pair's judge, was read. Late or failed: nothing follows."""
        if outcome.status != "ok" or record.timestamp >= slip.deadline_at_ms:
            return
        if slip.reason == "judge":
            pair = judged_pair(slip, outcome, at_ms=record.timestamp)
            if pair is not None:
                key = reward_key(pair.pool, pair.stratum).encode()
                unit.emit(self._pairs, key, encode(pair), partition=unit.by_key(self._pairs, key))
            return
        judge = self._judges.get(slip.pool or "")
        order = None if judge is None else order_judge(slip, outcome, place_of(record), judge, now_ms=unit.now_ms)
        if order is not None:
            self.emit_order(unit, order, passed_on(record.headers))
        self._show(record, slip, outcome, unit)

    def sampled(self, record: Any, step: Step, pair: Pair, unit: UnitLike) -> None:
        """Give an answer of a cascade's sample to those who label it, if it is one whose confidence is known, or will be."""
        tried = next((each for each in step.row.tries if (each.number, each.model) == pair), None)
        if tried is None or tried.trial is None or tried.status != "ok":
            return
        if tried.confidence is not None or tried.trial.judge is not None:
            item = review_item(
                step.row.slip,
                tried.number,
                place_of(record),
                sample="cascade",
                inclusion=tried.trial.inclusion,
                due_at_ms=unit.now_ms + LOOK_WITHIN_MS,
            )
            self._emit_item(item, unit)

    def _show(self, record: Any, slip: Slip, outcome: Outcome, unit: UnitLike) -> None:
        """The pair to people: where no judge compares it, and where they look at the first answer anyway, by which the judge is judged."""
        mirror, judged = slip.mirror, slip.pool in self._judges
        if mirror is None or (judged and mirror.review <= 0.0):
            return
        due_at_ms = unit.now_ms + LOOK_WITHIN_MS
        inclusion = mirror.inclusion * mirror.review if judged else mirror.inclusion
        if not judged:
            item = review_item(
                slip,
                mirror.of,
                mirror.answer_at,
                sample="shadow",
                inclusion=inclusion,
                token=mirror.token,
                due_at_ms=due_at_ms,
            )
            self._emit_item(item, unit)
        item = review_item(
            slip,
            outcome.attempt,
            place_of(record),
            sample="shadow",
            inclusion=inclusion,
            token=shadow_token(slip, outcome, unit.now_ms, self._token_ttl_ms, self._keyring),
            due_at_ms=due_at_ms,
        )
        self._emit_item(item, unit)

    def _emit_item(self, item: dict[str, Any], unit: UnitLike) -> None:
        unit.emit(self._reviews, item["request_id"].encode(), encode(item))

    def emit_order(self, unit: UnitLike, order: Order, headers: Iterable[tuple[str, bytes]]) -> None:
        """To the lane of route that has the request's partition."""
        key, partition = order.request_id.encode(), order.origin.partition
        unit.emit(self._redispatch[order.lane], key, encode(order), partition=partition, headers=list(headers))

    def _for_people(self, slip: Slip, token: str | None) -> str | None:
        """The token, where people are to look at both answers of the pair."""
        return None if slip.pool in self._judges else token


def place_of(record: Any) -> Origin:
    """Where a record lies."""
    return Origin(topic=record.topic, partition=record.partition, offset=record.offset)
