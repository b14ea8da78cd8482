"""What a pool's cascade costs and risks, stratum by stratum, from what is in the topics.

Costs and latencies are those of both models' answers in the pool's strata, and of its judge's. The cascade's: each call of the cheap
model, one of the judge if there is one, and in the share that escalates one of the other model behind, taken as independent of each other.
Thresholds come from the labels as learn has them (``core/labels``), but for what its watch dropped; where there are too few, the configured
one stands, and what it risks is not known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from router.config import PoolConfig
from router.contract.codec import decode
from router.contract.errors import BadRecord, ConfigError
from router.contract.records import Reward
from router.contract.topics import Names
from router.core.cascade import too_low
from router.core.labels import Labels, label_of
from router.core.records import PricedAttempt
from router.core.risk import Calibration, Label, calibrate
from router.kafka.client import Client
from router.kafka.scan import scan

#: Attempts whose latency is kept, per stratum and model: enough for a p95.
MOST_LATENCIES = 5_000
#: Of a file of labels, without a stratum.
ALL = "all"


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

    ``threshold``: what would hold, ``calibrated`` or as configured; ``calibration`` of the model as served that has most labels;
    ``escalates``: share of the labelled answers below the threshold.
    """

    stratum: str
    calibration: Calibration
    calibrated: bool
    threshold: float
    escalates: float | None
    cost: Mapping[str, float | None]
    p50_ms: Mapping[str, float | None]
    p95_ms: Mapping[str, float | None]


JUDGE = "judge"


async def outlooks(client: Client, names: Names, pool: str, config: PoolConfig, scale: str) -> list[Outlook]:
    """From all usage, and labels of this ``scale``, that are still kept."""
    answering = {config.models[0], config.escalate_to, JUDGE}
    calls: defaultdict[str, defaultdict[str, Calls]] = defaultdict(lambda: defaultdict(Calls))
    async for record in scan(client, [names.of("usage")]):
        if record.value is not None:
            attempt = PricedAttempt(**orjson.loads(record.value))
            if attempt.pool == pool and attempt.stratum is not None and attempt.status == "ok":
                part = JUDGE if attempt.reason == "judge" else attempt.model
                if attempt.cohort != "shadow" and part in answering:
                    calls[attempt.stratum][part].add(attempt)
    labels: defaultdict[str, list[Label]] = defaultdict(list)
    async for record in scan(client, [names.of("rewards")]):
        reward = reward_in(record.value)
        if reward is not None and reward.pool == pool and (label := label_of(reward, scale)) is not None:
            labels[reward.stratum].append(label)
    strata = sorted(calls.keys() | labels.keys())
    return [outlook(stratum, labels[stratum], config, calls[stratum]) for stratum in strata]


def outlook(stratum: str, labels: Sequence[Label], config: PoolConfig, calls: Mapping[str, Calls]) -> Outlook:
    """One stratum's, from its labels and calls."""
    cascade = config.cascade
    assert cascade is not None
    known = Labels("").adding(labels, float(cascade.target_risk), 0)
    found = known.in_force(float(cascade.threshold), float(cascade.target_risk), float(cascade.delta))
    total = sum(one.weight for one in known.known)
    below = sum(one.weight for one in known.known if too_low(one.confidence, found.threshold))
    share = below / total if total else None
    cheap, to = config.models[0], config.escalate_to
    mine, theirs, judge = (calls.get(name, Calls()) for name in (cheap, to, JUDGE))
    cost = {cheap: mine.mean_nano_usd, to: theirs.mean_nano_usd, "cascade": None}
    if share is not None and (low := cost[cheap]) is not None and (high := cost[to]) is not None:
        cost["cascade"] = low + (judge.mean_nano_usd or 0.0) + share * high
    latencies = {
        cheap: (_array(mine), None),
        to: (_array(theirs), None),
        "cascade": _mixture(mine, judge, theirs, share),
    }
    served = max(found.served.values(), key=lambda one: one.labels, default=calibrate([], 0.5, 0.5))
    return Outlook(
        stratum,
        served,
        found.calibrated,
        found.threshold,
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


def reward_in(value: bytes | None) -> Reward | None:
    """The reward of a record, ``None`` for what is none."""
    try:
        return None if value is None else decode(Reward, value)
    except BadRecord:
        return None


def _array(calls: Calls) -> Any:
    return np.array(calls.latencies_ms, dtype=np.float64)


def _mixture(mine: Calls, judge: Calls, theirs: Calls, share: float | None) -> tuple[Any, Any]:
    """Latencies of the cascade, and their weights: the cheap model's and its judge's, some with one of the other model behind."""
    low, between, high = _array(mine), _array(judge), _array(theirs)
    if share is None or not len(low) or not len(high):
        return np.array([]), None
    dice = np.random.default_rng(0)
    first = dice.choice(low, MOST_LATENCIES) + (dice.choice(between, MOST_LATENCIES) if len(between) else 0.0)
    both = first + dice.choice(high, MOST_LATENCIES)
    weights = np.concatenate(
        [np.full(len(one), part / len(one)) for one, part in ((first, 1.0 - share), (both, share))]
    )
    return np.concatenate([first, both]), weights


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
            "calibrated": one.calibrated,
            "threshold": one.threshold,
            "risk": one.calibration.risk if one.calibrated else None,
            "bound": one.calibration.bound if one.calibrated else None,
            "escalates": one.escalates,
            "cost_nano_usd": one.cost,
            "p50_ms": one.p50_ms,
            "p95_ms": one.p95_ms,
        }
        for one in found
    ]
