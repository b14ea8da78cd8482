"""What a pool's cascade costs and risks, stratum by stratum, from what is in the topics; and the sample to be labelled.

Costs and latencies are those of both models' own attempts in the pool's strata. The cascade's: each call of the cheap model, and in
the share that escalates one of the other behind it, taken as independent of each other. Thresholds come from the labels, as in
``core.risk``; where there are too few, the configured one stands, and what it risks is not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import xxhash

from router.config import PoolConfig
from router.contract.codec import decode, from_rfc3339
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import ReviewItem, Reward
from router.contract.topics import Names
from router.core.records import PricedAttempt
from router.core.risk import Calibration, Label, calibrate
from router.kafka.bodies import BodyReader
from router.kafka.client import Client
from router.kafka.scan import scan

#: Attempts whose latency is kept, per stratum and model: enough for a p95.
MOST_LATENCIES = 5_000
#: Of a file of labels, without a stratum.
ALL = "all"
#: Bodies of answers that are read at once.
_AT_ONCE = 200


@dataclass(slots=True)
class Calls:
    """One model's attempts in a stratum."""

    count: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0
    latencies_ms: list[int] = field(default_factory=list)

    def add(self, attempt: PricedAttempt) -> None:
        self.count += 1
        self.cost_nano_usd += attempt.cost_nano_usd or 0
        self.unpriced += attempt.cost_nano_usd is None
        if attempt.latency_ms is not None and attempt.status == "ok" and len(self.latencies_ms) < MOST_LATENCIES:
            self.latencies_ms.append(attempt.latency_ms)

    @property
    def mean_nano_usd(self) -> float | None:
        return self.cost_nano_usd / self.count if self.count and not self.unpriced else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """One stratum. Costs in nano-dollars a request, latencies in ms; ``None`` where nothing is known.

    ``threshold``: what would hold; ``calibration`` by the labels; ``escalates``: share of the labelled answers below it.
    """

    stratum: str
    calibration: Calibration
    threshold: float
    escalates: float | None
    cost: Mapping[str, float | None]
    p50_ms: Mapping[str, float | None]
    p95_ms: Mapping[str, float | None]


async def outlooks(client: Client, names: Names, pool: str, config: PoolConfig) -> list[Outlook]:
    """From all usage and labels that are still kept."""
    assert config.cascade is not None
    cheap, to = config.models[0], config.escalate_to
    calls: defaultdict[str, defaultdict[str, Calls]] = defaultdict(lambda: defaultdict(Calls))
    async for record in scan(client, [names.of("usage")]):
        if record.value is not None:
            attempt = PricedAttempt(**orjson.loads(record.value))
            if attempt.pool == pool and attempt.model in {cheap, to} and attempt.stratum is not None:
                calls[attempt.stratum][attempt.model].add(attempt)
    labels: defaultdict[str, list[Label]] = defaultdict(list)
    async for record in scan(client, [names.of("rewards")]):
        reward = _reward(record.value)
        if reward is not None and reward.pool == pool and reward.label is not None and reward.label.inclusion > 0.0:
            labels[reward.stratum].append(_label(reward))
    strata = sorted(calls.keys() | labels.keys())
    return [outlook(stratum, labels[stratum], config, calls[stratum]) for stratum in strata]


def outlook(stratum: str, labels: Sequence[Label], config: PoolConfig, calls: Mapping[str, Calls]) -> Outlook:
    """One stratum's, from its labels and calls."""
    cascade = config.cascade
    assert cascade is not None
    newest = max(labels, key=lambda one: one.at_ms, default=None)
    served = [one for one in labels if newest is not None and one.served_model == newest.served_model]
    found = calibrate(served, float(cascade.target_risk), float(cascade.delta))
    threshold = float(cascade.threshold) if found.threshold is None else found.threshold
    total = sum(one.weight for one in served)
    share = sum(one.weight for one in served if one.confidence < threshold) / total if total else None
    cheap, to = config.models[0], config.escalate_to
    mine, theirs = calls.get(cheap, Calls()), calls.get(to, Calls())
    cost = {cheap: mine.mean_nano_usd, to: theirs.mean_nano_usd, "cascade": None}
    if share is not None and (low := cost[cheap]) is not None and (high := cost[to]) is not None:
        cost["cascade"] = low + share * high
    latencies = {cheap: (_array(mine), None), to: (_array(theirs), None), "cascade": _mixture(mine, theirs, share)}
    return Outlook(
        stratum,
        found,
        threshold,
        share,
        cost,
        {name: _quantile(*one, 0.5) for name, one in latencies.items()},
        {name: _quantile(*one, 0.95) for name, one in latencies.items()},
    )


def labels_in(file: Path) -> dict[str, list[Label]]:
    """Labelled answers of a file by stratum, one JSON object a line: ``confidence``, ``quality``; ``stratum``, ``inclusion``.

    Raises:
        ConfigError: names the line and what is wrong with it.
    """
    found: defaultdict[str, list[Label]] = defaultdict(list)
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}, line {number}"
            one = _object(line, where)
            confidence, quality = (_share(one, name, where) for name in ("confidence", "quality"))
            inclusion = _share(one, "inclusion", where) if "inclusion" in one else 1.0
            if inclusion <= 0.0:
                raise ConfigError(f"{where}: inclusion: must be above 0: what could not be drawn cannot be there")
            label = Label(confidence, quality, 1.0 / inclusion, number, str(one.get("served_model", "")))
            found[str(one.get("stratum", ALL))].append(label)
    return dict(found)


async def to_label(client: Client, names: Names, pool: str, most: int) -> list[dict[str, Any]]:
    """Up to ``most`` answers of the pool's sample that nobody has labelled, evenly drawn, as feedback records without a value.

    Beside them stand ``prompt`` (messages) and ``answer`` (text), for whoever labels; nothing says which model it was.
    """
    done = set()
    async for record in scan(client, [names.of("rewards")]):
        reward = _reward(record.value)
        if reward is not None and reward.label is not None:
            done.add((reward.request_id, reward.answered_by_attempt))
    items: list[ReviewItem] = []
    async for record in scan(client, [names.of("reviews")]):
        item = _review(record.value)
        if item is not None and item.pool == pool and (item.request_id, item.attempt) not in done:
            items.append(item)
    items.sort(key=lambda one: xxhash.xxh3_64_intdigest(one.request_id.encode()))
    bodies = BodyReader(client)
    await bodies.start()
    try:
        return [line async for line in _lines(items, bodies, most)]
    finally:
        await bodies.stop()


async def _lines(items: Sequence[ReviewItem], bodies: BodyReader, most: int) -> Any:
    given = 0
    for start in range(0, len(items), _AT_ONCE):
        part = [
            one for one in items[start : start + _AT_ONCE] if one.request_at is not None and one.answer_at is not None
        ]
        asked = await bodies.fetch([_place(one.request_at) for one in part])
        answered = await bodies.fetch([_place(one.answer_at) for one in part])
        for item, request, outcome in zip(part, asked, answered, strict=True):
            if request is None or outcome is None:
                continue  # past retention
            if given >= most:
                return
            given += 1
            yield {
                "request_id": item.request_id,
                "attempt": item.attempt,
                "kind": "label",
                "source": "reviewer",
                "value": None,
                "stratum": item.stratum,
                "prompt": _prompt(orjson.loads(request.value)),
                "answer": _texts(orjson.loads(outcome.value)),
            }


def _place(origin: Any) -> tuple[str, int, int]:
    return origin.topic, origin.partition, origin.offset


def _prompt(request: Mapping[str, Any]) -> Any:
    body = request.get("body") or {}
    return body.get("messages", body.get("prompt"))


def _texts(outcome: Mapping[str, Any]) -> Any:
    """What the answer says: its text, or its messages where there are several or where it is a call."""
    choices = (outcome.get("body") or {}).get("choices") or []
    said = [one.get("message", one.get("text")) for one in choices if isinstance(one, dict)]
    texts = [one["content"] if isinstance(one, dict) and isinstance(one.get("content"), str) else one for one in said]
    return texts[0] if len(texts) == 1 else texts


def _label(reward: Reward) -> Label:
    label = reward.label
    assert label is not None
    return Label(
        float(label.confidence),
        float(reward.reward),
        1.0 / float(label.inclusion),
        from_rfc3339(reward.at),
        label.served_model,
        label.threshold,
    )


def _reward(value: bytes | None) -> Reward | None:
    try:
        return None if value is None else decode(Reward, value)
    except BadRecord:
        return None


def _review(value: bytes | None) -> ReviewItem | None:
    try:
        item = None if value is None else decode(ReviewItem, value)
    except BadRecord:
        return None
    return item if item is not None and item.attempt is not None else None


def _array(calls: Calls) -> Any:
    return np.array(calls.latencies_ms, dtype=np.float64)


def _mixture(mine: Calls, theirs: Calls, share: float | None) -> tuple[Any, Any]:
    """Latencies of the cascade, and their weights: some of the cheap model's alone, some with one of the other behind."""
    low, high = _array(mine), _array(theirs)
    if share is None or not len(low) or not len(high):
        return np.array([]), None
    both = np.random.default_rng(0).choice(low, MOST_LATENCIES) + np.random.default_rng(1).choice(high, MOST_LATENCIES)
    weights = np.concatenate(
        [np.full(len(low), (1.0 - share) / len(low)), np.full(len(both), share / len(both))],
    )
    return np.concatenate([low, both]), weights


def _quantile(values: Any, weights: Any, share: float) -> float | None:
    if not len(values):
        return None
    if weights is None:
        return float(np.quantile(values, share))
    order = np.argsort(values)
    at = int(np.searchsorted(np.cumsum(weights[order]), share))
    return float(values[order][min(at, len(values) - 1)])


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ConfigError(f"{where}: is not JSON") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: a JSON object is wanted")
    return found


def _share(one: Mapping[str, Any], name: str, where: str) -> float:
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ConfigError(f"{where}: {name}: a number from 0 to 1 is wanted, not {str(value)[:80]!r}")
    return float(value)


def named(file: Path, config: PoolConfig) -> Iterator[Outlook]:
    """The outlook of a file's strata; of cost and latency it knows nothing."""
    yield from (outlook(stratum, labels, config, {}) for stratum, labels in sorted(labels_in(file).items()))


def documents(found: Iterable[Outlook]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "stratum": one.stratum,
            "labels": one.calibration.labels,
            "calibrated": one.calibration.threshold is not None,
            "threshold": one.threshold,
            "risk": one.calibration.risk if one.calibration.threshold is not None else None,
            "bound": one.calibration.bound if one.calibration.threshold is not None else None,
            "escalates": one.escalates,
            "cost_nano_usd": one.cost,
            "p50_ms": one.p50_ms,
            "p95_ms": one.p95_ms,
        }
        for one in found
    ]
