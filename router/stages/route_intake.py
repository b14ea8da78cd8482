"""Before a turn: bodies are fetched, requests read, tokens counted.

All of it without looking at state: requests are classed in the turn, by the classifier of its snapshot. And all of it in little time, for whoever is in the same
batch waits: a long prompt whose exact count matters is left ``uncounted`` (``route_counts``).

Each record becomes one of

- ``Asked``: a request that can be decided, with the order that asks for a further attempt where there is one;
- ``Unusable``: why it cannot, and what is needed to say so;
- ``None``: a null value, skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from router.config import Config
from router.contract.codec import decode
from router.contract.errors import BadRecord, PointsmanError, RejectCode
from router.contract.records import Origin
from router.contract.requests import BadRequest, ParsedRequest, decode_request
from router.contract.values import value
from router.core.beside import swapped
from router.core.classify import Seen
from router.core.features import features_of
from router.core.judging import URL, comparison, question
from router.core.prompt import Prompt, read_body
from router.core.records import Order
from router.core.slicing import slices_of
from router.core.tokens import TokenCount, read
from router.kafka.bodies import BodyReader
from router.kafka.transport import Batch
from router.stages.tenants import Tenants

log = logging.getLogger(__name__)

#: A key travels in the slip, there and back; longer ones are refused.
MAX_KEY_BYTES = 16 * 1024

#: An estimate this near to a limit (a context window, the border of a band) is counted again, exactly: as a rule
#: estimates err by less.
_NEAR = 0.25

#: So many characters of a batch are counted exactly before its turn, the shortest prompts first: 2 to 8 ms, and 20 for a text made for it.
COUNTED_AT_ONCE = 32 * 1024


@value(frozen=True, slots=True)
class Asked:
    """``key``: of the request's own record, as ``origin`` in ``order`` has it. ``slices``: those of the prompt (``core.slicing``), also where a judge is asked about it. ``uncounted``: the exact number of ``tokens`` matters and is not known yet."""

    parsed: ParsedRequest
    key: bytes | None
    seen: Seen
    tokens: TokenCount
    completion_limit: int | None
    answers: int
    needs: tuple[str, ...]
    order: Order | None = None
    slices: tuple[str, ...] = ()
    uncounted: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """``order``: the attempt that could not be made; ``None`` for a request record."""

    error: PointsmanError
    key: bytes | None
    order: Order | None = None


Item = Asked | Unusable | None


class Intake:
    """``fetch`` and ``read`` are the stage's ``prefetch`` and ``prepare``."""

    def __init__(self, config: Config, requests_topic: str, orders_topic: str, bodies: BodyReader) -> None:
        self._requests_topic, self._orders_topic = requests_topic, orders_topic
        self._bodies = bodies
        self._rubrics = {name: pool.judge_rubric for name, pool in config.pools.items()}
        self._tenants = Tenants(config)
        self._windows = sorted({model.context_window for model in config.models.values()})
        self._borders = sorted(band.max_tokens for band in config.classify.bands if band.max_tokens is not None)
        features_of([read("warm up")[1]])  # what is made at first use: now rather than in the first turn

    async def fetch(self, batch: Batch) -> Sequence[Any]:
        """For each order: (the order or the error in it, the record of the request's body, those of answers to be judged).

        For others: nothing.
        """
        if batch.tp.topic != self._orders_topic:
            return [None] * len(batch.records)
        orders = [read_order(record.value) for record in batch.records]
        places = [
            (order.origin.topic, order.origin.partition, order.origin.offset)
            for order in orders
            if isinstance(order, Order)
        ]
        found = iter(await self._bodies.fetch_in_the_end(places))
        judged = [_judged_in(order) if isinstance(order, Order) else [] for order in orders]
        flat = [(one.topic, one.partition, one.offset) for several in judged for one in several]
        answers = iter(await self._bodies.fetch_in_the_end(flat))
        return [
            (order, next(found), [next(answers) for _ in several]) if isinstance(order, Order) else (order, None, [])
            for order, several in zip(orders, judged, strict=True)
        ]

    def read(self, batch: Batch) -> Sequence[Item]:
        """One item a record; ``None`` for what is neither request nor order, too."""
        if batch.tp.topic == self._requests_topic:
            return _count_short([self._request(record.key, record.value) for record in batch.records])
        if batch.tp.topic != self._orders_topic:
            return [None] * len(batch.records)
        items = [
            None if record.value is None else self._ordered(order, body, answers)
            for record, (order, body, answers) in zip(batch.records, batch.fetched, strict=True)
        ]
        return _count_short(items)

    def _ordered(self, order: Order | BadRecord, body: Any, answers: Sequence[Any]) -> Item:
        if isinstance(order, BadRecord):
            return Unusable(order, None)
        if any(answer is None or answer.value is None for answer in answers):
            return Unusable(PointsmanError("the answer to be judged is no longer in its topic"), None, order)
        item = None if body is None else self._request(body.key, body.value, order)
        if isinstance(item, Asked) and item.parsed.request_id == order.request_id:
            return self._to_judge(item, [answer.value for answer in answers]) if answers else item
        problem = "is no longer in its topic" if item is None else "is not what it was"
        return Unusable(PointsmanError(f"the request's body {problem}"), None, order)

    def _request(self, key: bytes | None, value: bytes | None, order: Order | None = None) -> Item:
        if value is None:
            return None
        try:
            parsed = decode_request(value)
        except BadRequest as error:
            return Unusable(error, key_that_fits(key), order)
        if key is not None and len(key) > MAX_KEY_BYTES:
            return Unusable(
                bad_request(parsed, f"the record's key has {len(key)} bytes, more than {MAX_KEY_BYTES}"), None
            )
        prompt = read_body(parsed.request.body)
        uncounted = None
        if order is not None and order.counted is not None:
            tokens, ids = TokenCount(order.counted, order.counted_inexact), prompt.looked_at()
        else:
            tokens, ids = prompt.read()
            if tokens.estimated and self._matters(tokens.tokens, prompt.completion_limit or 0, parsed):
                uncounted = prompt
        text = prompt.last_user_text
        return Asked(
            parsed=parsed,
            key=key,
            seen=Seen(text, ids),
            tokens=tokens,
            completion_limit=prompt.completion_limit,
            answers=prompt.answers,
            needs=prompt.needs,
            order=order,
            slices=slices_of(text, tokens.tokens),
            uncounted=uncounted,
        )

    def _to_judge(self, asked: Asked, outcomes: Sequence[bytes]) -> Asked:
        """What a judge is asked, in the place of the request that it is about: of one answer, or of two beside each other."""
        request = asked.parsed.request
        bodies = [orjson.loads(outcome).get("body") or {} for outcome in outcomes]
        if len(bodies) == 1:
            body = question(request.body, bodies[0])
        else:
            if swapped(request.router.tenant, asked.parsed.request_id):
                bodies.reverse()
            body = comparison(request.body, bodies[0], bodies[1], self._rubrics.get(asked.parsed.model))
        prompt = read_body(body)
        return replace(
            asked,
            parsed=replace(asked.parsed, request=replace(request, url=URL, body=body)),
            tokens=prompt.tokens(),
            completion_limit=prompt.completion_limit,
            answers=1,
            needs=(),
            uncounted=None,
        )

    def _matters(self, tokens: int, completion: int, parsed: ParsedRequest) -> bool:
        """Whether a limit, a budget or the stratum hangs on the exact number."""
        if parsed.request.router.max_cost_nano_usd is not None or self._tenants.of(parsed.request.router.tenant):
            return True
        return _is_near(tokens + completion, self._windows) or _is_near(tokens, self._borders)


def _count_short(items: Sequence[Item]) -> Sequence[Item]:
    """The same, with the prompts counted for which there is time."""
    chars = {
        at: item.uncounted.chars
        for at, item in enumerate(items)
        if isinstance(item, Asked) and item.uncounted is not None
    }
    if not chars:
        return items
    found = list(items)
    for at in by_length(chars, COUNTED_AT_ONCE):
        item = found[at]
        assert isinstance(item, Asked)
        assert item.uncounted is not None
        tokens = item.uncounted.tokens(exact=True)
        text = item.uncounted.last_user_text
        found[at] = replace(item, tokens=tokens, slices=slices_of(text, tokens.tokens), uncounted=None)
    return found


def by_length(chars: Mapping[int, int], most: int) -> list[int]:
    """Whose turn it is: the shortest first, as long as all of them together have no more than ``most`` characters.

    >>> by_length({0: 900, 1: 50, 2: 20}, 100)
    [2, 1]
    """
    found = []
    for at in sorted(chars, key=chars.__getitem__):
        most -= chars[at]
        if most < 0:
            break
        found.append(at)
    return found


def _is_near(tokens: int, limits: Sequence[int]) -> bool:
    return any((1 - _NEAR) * limit <= tokens <= (1 + _NEAR) * limit for limit in limits)


def key_that_fits(key: bytes | None) -> bytes | None:
    """A record's key where it is short enough to travel, else none."""
    return None if key is None or len(key) > MAX_KEY_BYTES else key


def bad_request(parsed: ParsedRequest, problem: str) -> BadRequest:
    """A request that reads well and yet cannot be routed."""
    options = parsed.request.router
    return BadRequest(problem, custom_id=parsed.request.custom_id, tenant=options.tenant, metadata=options.metadata)


def _judged_in(order: Order) -> list[Origin]:
    """Where the answers lie that the order wants to be judged: none, one, or the two of a pair."""
    if order.reason != "judge":
        return []
    places = [order.answer] if order.mirror is None else [order.mirror.answer_at, order.mirror.shadow_at]
    return [place for place in places if place is not None]


def read_order(value: bytes | None) -> Order | BadRecord:
    """Settle's order for a further attempt, or what is wrong with it."""
    try:
        return decode(Order, value)
    except BadRecord as error:
        return BadRecord(str(error), code=RejectCode.INTERNAL_ERROR)
