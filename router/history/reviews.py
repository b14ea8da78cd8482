"""The answers that people are to look at, what they have said, and what that amounts to: out of the topics (rules: ``core.reviewing``).

What is done is read anew each time: so a queue can be left and taken up again anywhere, and shared among several by request id.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from router.contract.codec import decode
from router.contract.errors import BadRecord
from router.contract.records import ReviewItem
from router.contract.topics import Names
from router.core.records import CountedFeedback, JudgedPair
from router.core.review_rates import JudgeError, Rate, corrected, judge_error, judge_power, rate_of
from router.core.reviewing import Key, Shard, Shown, item_in, key_of, opinion_in, order_of, places, with_texts
from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.kafka.scan import scan


@dataclass(frozen=True, slots=True)
class StratumRate:
    """How often a model's answers were found bad. ``sample``: ``review``, or ``shadow`` of pairs."""

    pool: str
    stratum: str
    model: str
    sample: str
    bad: Rate


@dataclass(frozen=True, slots=True)
class PairRate:
    """How often a judge found a model's answer worse than the baseline's; ``corrected`` for the judge's error where that is known."""

    pool: str
    stratum: str
    model: str
    judge: str
    worse: Rate
    corrected: Rate | None


@dataclass(frozen=True, slots=True)
class Rates:
    """All of it. ``errors``: of each judge beside people; ``powers``: what it sees of a difference, where that is known."""

    strata: Sequence[StratumRate]
    pairs: Sequence[PairRate]
    errors: Mapping[str, JudgeError]
    powers: Mapping[str, Rate]


async def pending(
    client: Client, names: Names, *, pool: str | None = None, shard: Shard | None = None
) -> list[ReviewItem]:
    """What nobody has looked at yet: what is due first comes first, within a day in no order that says anything."""
    done = {(one.request_id, one.attempt) for one in await opinions(client, names)}
    found: dict[Key, ReviewItem] = {}
    for item in await items(client, names):
        key = key_of(item)
        wanted = pool in {None, item.pool} and (shard is None or shard.has(item.request_id))
        if wanted and key not in done and key not in found:
            found[key] = item
    return sorted(found.values(), key=order_of)


async def items(client: Client, names: Names) -> list[ReviewItem]:
    """All items that are kept and name an answer."""
    found = [item_in(record.value) async for record in scan(client, [names.of("reviews")])]
    return [one for one in found if one is not None]


async def opinions(client: Client, names: Names) -> list[CountedFeedback]:
    """What reviewers said of answers, each once."""
    found = [opinion_in(record.value) async for record in scan(client, [names.of("feedback.counted")])]
    return [one for one in found if one is not None]


async def shown(bodies: BodyReader, of: Sequence[ReviewItem], redact: Callable[[str], str]) -> list[Shown]:
    """Items with their texts, without those whose text is past retention. ``bodies``: started."""
    at = places(of)
    records = zip(at, await bodies.fetch(at), strict=True)
    return with_texts(of, {place: one.value for place, one in records if one is not None and one.value}, redact)


async def rates(client: Client, names: Names, pool: str | None = None) -> Rates:
    """From everything that is kept."""
    pairs = []
    async for record in scan(client, [names.of("pairs")]):
        with contextlib.suppress(BadRecord):
            pairs.append(decode(JudgedPair, record.value))
    wanted = [one for one in await items(client, names) if pool in {None, one.pool}]
    return rates_of(wanted, await opinions(client, names), [one for one in pairs if pool in {None, one.pool}])


def rates_of(of: Iterable[ReviewItem], said: Iterable[CountedFeedback], pairs: Sequence[JudgedPair]) -> Rates:
    """Pure: items, opinions and judged pairs, each once however often it is there."""
    by_answer: dict[Key, CountedFeedback] = {}
    for one in said:
        by_answer.setdefault((one.request_id, one.attempt or 0), one)
    groups: defaultdict[tuple[str, str, str, str], dict[Key, tuple[float, float]]] = defaultdict(dict)
    for item in of:
        key = key_of(item)
        opinion = by_answer.get(key)
        if opinion is not None and item.sample in {"review", "shadow"}:
            group = (item.pool, item.stratum, opinion.model, item.sample)
            groups[group].setdefault(key, (1.0 - opinion.value, item.inclusion_probability))
    strata = [
        StratumRate(*group, bad)
        for group, found in sorted(groups.items())
        if (bad := rate_of(found.values())) is not None
    ]
    beside = _beside_people(by_answer.values(), pairs)
    errors = {
        judge: judge_error([(people > 0.0, verdict > 0.0) for people, verdict in seen])
        for judge, seen in beside.items()
    }
    powers = {judge: found for judge, seen in beside.items() if (found := judge_power(seen)) is not None}
    judged: defaultdict[tuple[str, str, str, str], dict[str, tuple[float, float]]] = defaultdict(dict)
    for pair in pairs:
        told = judged[pair.pool, pair.stratum, pair.model, pair.judge]
        told.setdefault(pair.request_id, (float(pair.verdict > 0.0), pair.inclusion))
    compared = [
        PairRate(*group, worse, corrected(worse, errors[group[3]]))
        for group, found in sorted(judged.items())
        if (worse := rate_of(found.values())) is not None
    ]
    return Rates(strata, compared, errors, powers)


def _beside_people(
    said: Iterable[CountedFeedback], pairs: Iterable[JudgedPair]
) -> dict[str, list[tuple[float, float]]]:
    """Of each judge: by how much people who looked at both answers found the model's worse, -1..1, and its verdict."""
    by_model = {(one.request_id, one.model): one.value for one in said}
    seen: defaultdict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for pair in pairs:
        mine, theirs = (by_model.get((pair.request_id, name)) for name in (pair.model, pair.reference_model))
        both = seen[pair.judge]
        if mine is not None and theirs is not None:
            both.setdefault(pair.request_id, (theirs - mine, pair.verdict))
    return {judge: list(both.values()) for judge, both in seen.items()}
