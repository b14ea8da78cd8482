"""What the demonstration has to tell: results, weights, what a cascade made of some requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import xxhash

from router.config import Config
from router.contract.records import Feedback

FEEDBACK_SHARE = 0.8


@dataclass(slots=True)
class Group:
    """Results of one stratum and model."""

    ok: int = 0
    failed: int = 0
    good: int = 0
    cost_nano_usd: int = 0
    baseline_nano_usd: int = 0
    latencies_ms: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.ok + self.failed

    def add(self, result: Mapping[str, Any], baseline_nano_usd: int) -> None:
        self.latencies_ms.append(result["router"]["latency_ms"])
        self.cost_nano_usd += result["router"]["cost_nano_usd"] or 0
        if result["error"] is None:
            self.ok += 1
            self.good += bool(result["response"]["body"]["sim"]["good"])
            self.baseline_nano_usd += baseline_nano_usd
        else:
            self.failed += 1


@dataclass(frozen=True, slots=True)
class Careful:
    """What a cascade made of some requests.

    ``threshold``: its mean, ``calibrated`` for a share of the requests. Costs in nano-dollars: of the same answers on one model alone.
    """

    threshold: float
    calibrated: float
    results: Sequence[Mapping[str, Any]]
    all_on_large: int
    all_on_small: int

    @property
    def cost(self) -> int:
        return sum(one["router"]["cost_nano_usd"] or 0 for one in self.results)

    @property
    def escalated(self) -> int:
        return sum(any(each["reason"] == "escalate" for each in one["router"]["attempts"]) for one in self.results)

    @property
    def answered(self) -> int:
        return sum(one["error"] is None for one in self.results)

    @property
    def good(self) -> int:
        return sum(one["error"] is None and bool(one["response"]["body"]["sim"]["good"]) for one in self.results)


@dataclass(frozen=True, slots=True)
class Story:
    """All that the demo has to tell: results of both halves and the weights between them."""

    halves: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]
    weights: Mapping[str, Mapping[str, float]]
    config: Config
    status: Mapping[str, Any]
    careful: tuple[Careful, Careful]
    why: Sequence[str]
    seconds: float

    def groups(self, half: int, by: Callable[[Mapping[str, Any]], str]) -> dict[str, Group]:
        """Results of a half, grouped; sorted by name."""
        price = self.config.models[self.config.pools["auto"].baseline].price
        found: dict[str, Group] = {}
        for result in self.halves[half]:
            usage = (result["response"] or {"body": {}})["body"].get("usage", {})
            baseline = usage.get("prompt_tokens", 0) * price.input_nano_usd_per_token
            baseline += usage.get("completion_tokens", 0) * price.output_nano_usd_per_token
            found.setdefault(by(result), Group()).add(result, baseline)
        return dict(sorted(found.items()))

    def reviews(self, by: Callable[[Mapping[str, Any]], str]) -> dict[str, list[float]]:
        """What the reviewer said of the first half, grouped: 1.0 for a good answer, 0.0 for a bad one."""
        found: dict[str, list[float]] = {}
        for result in self.halves[0]:
            if (said := opinion(result)) is not None:
                found.setdefault(by(result), []).append(said.value)
        return found


def opinion(result: Mapping[str, Any]) -> Feedback | None:
    """What a reviewer of the demo says of an answer; most answers are looked at, none of a failed request."""
    token = result["router"]["feedback_token"]
    if token is None or result["error"] is not None or _draw(result["id"]) > FEEDBACK_SHARE:
        return None
    good = bool(result["response"]["body"]["sim"]["good"])
    return Feedback(feedback_token=token, kind="review", value=float(good), source="reviewer")


def _draw(request_id: str) -> float:
    return float(xxhash.xxh3_64_intdigest(request_id.encode())) / 2**64


def percentiles_ms(latencies_ms: Iterable[int]) -> tuple[float, float]:
    """Median and 95th percentile."""
    values = sorted(latencies_ms)
    if len(values) < 2:
        return (float(values[0]) if values else 0.0,) * 2
    cuts = quantiles(values, n=100)
    return cuts[49], cuts[94]
