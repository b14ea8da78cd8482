"""All topics in one registry: name, key, value type, cleanup policy, largest record, who writes, who reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from router.contract.ids import NAME
from router.contract.records import (
    MAX_DEADLINE_MS,
    Alert,
    Control,
    DeadLetter,
    Decision,
    Feedback,
    Health,
    MetricWindow,
    Outcome,
    Request,
    Result,
    ReviewItem,
    Reward,
    Weights,
    Work,
)

MIB = 1024 * 1024
DAY_MS = 86_400_000
HOUR_MS = 3_600_000

#: Of what a request needs on its way to its result: the longest deadline, and a day for whatever stands still meanwhile.
LEAST_ON_THE_WAY_MS = MAX_DEADLINE_MS + DAY_MS

#: A request may be this large: 1 MiB less 64 KiB for what a work record adds to it.
MAX_REQUEST_BYTES = MIB - 64 * 1024
MAX_ANSWER_BYTES = 2 * MIB


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``name`` is without the prefix; ``record`` is ``None`` for internal topics."""

    name: str
    key: str
    record: type | None
    writes: str
    reads: str
    cleanup: Literal["delete", "compact"] = "delete"
    max_bytes: int = MIB
    #: The broker stamps records when they arrive: a producer's clock decides nothing.
    append_time: bool = True
    retention_ms: int = 7 * DAY_MS
    #: What is removed earlier is still needed; of a compacted topic nothing is removed by its age.
    least_retention_ms: int = HOUR_MS

    @property
    def public(self) -> bool:
        return self.record is not None


#: Work topics exist once per model: ``work.<model>`` and ``work.<model>.batch``.
WORK = Topic(
    "work.{model}",
    "request id",
    Work,
    "route",
    "workers",
    max_bytes=3 * MIB,
    retention_ms=2 * DAY_MS,
    least_retention_ms=LEAST_ON_THE_WAY_MS,
)

TOPICS = (
    Topic(
        "requests",
        "any; tenant or session advised",
        Request,
        "users",
        "route, settle",
        retention_ms=3 * DAY_MS,
        least_retention_ms=LEAST_ON_THE_WAY_MS,
    ),
    Topic(
        "requests.batch",
        "any; tenant or session advised",
        Request,
        "users",
        "route, settle",
        retention_ms=3 * DAY_MS,
        least_retention_ms=LEAST_ON_THE_WAY_MS,
    ),
    Topic(
        "outcomes",
        "request id",
        Outcome,
        "workers",
        "settle, route",
        max_bytes=4 * MIB,
        retention_ms=2 * DAY_MS,
        least_retention_ms=LEAST_ON_THE_WAY_MS,
    ),
    Topic("results", "the request's key", Result, "settle", "users, feedback, account", max_bytes=4 * MIB),
    # Large for its header: the slip holds the request's metadata.
    Topic(
        "decisions",
        "request id",
        Decision,
        "route",
        "settle, audit",
        max_bytes=3 * MIB,
        least_retention_ms=LEAST_ON_THE_WAY_MS,
    ),
    Topic("feedback", "any", Feedback, "users", "feedback"),
    Topic("rewards", "pool/stratum", Reward, "feedback", "learn, watch"),
    Topic("metrics", "tenant/pool/model/stratum/cohort/lane", MetricWindow, "account", "web, users"),
    Topic("reviews", "request id", ReviewItem, "settle", "reviewers, web"),
    Topic("alerts", "pool/stratum/signal", Alert, "watch", "web, watch, users"),
    Topic("weights", "pool/stratum", Weights, "learn", "every router", cleanup="compact"),
    Topic("health", "model", Health, "watch", "every router, settle", cleanup="compact"),
    Topic("control", "scope/action", Control, "people, watch", "every router and worker, watch", cleanup="compact"),
    # One record: the file of the classifier that a person put in force, empty for the configured one.
    Topic("classifier", "current", None, "people", "every router", cleanup="compact", max_bytes=5 * MIB),
    Topic("dead-letter", "the original key", DeadLetter, "every stage", "people", max_bytes=4 * MIB),
    # Which dead letters went back: kept for longer than they are.
    Topic("redriven", "topic/partition/offset", None, "people", "people", retention_ms=14 * DAY_MS),
    Topic("redispatch", "request id", None, "settle, route", "route", least_retention_ms=LEAST_ON_THE_WAY_MS),
    Topic("redispatch.batch", "request id", None, "settle, route", "route", least_retention_ms=LEAST_ON_THE_WAY_MS),
    Topic("spending", "pool", None, "settle", "route"),
    Topic("spending.batch", "pool", None, "settle", "route"),
    # What each tenant may use, lent to lanes of route; and settle's word on what calls of limited tenants have cost.
    Topic("leases.wanted", "tenant", None, "route", "route"),
    Topic("leases", "tenant", None, "route, settle", "route"),
    Topic("leases.batch", "tenant", None, "route, settle", "route"),
    Topic("tenants", "tenant", None, "route", "web", cleanup="compact"),
    Topic("shares", "partition", None, "route", "route", cleanup="compact"),
    Topic("usage", "request id", None, "settle", "account, watch"),
    Topic("pairs", "pool/stratum", None, "settle", "watch"),
    Topic("focus", "pool/stratum", None, "watch", "every router", cleanup="compact"),
    Topic("reviews.wanted", "request id", None, "settle", "settle"),
    Topic("paces", "lane/partition/pool", None, "route", "every router", cleanup="compact"),
    # What a minute's requests look like to the classifier, counted.
    Topic("profiles", "pool", None, "route", "watch"),
    Topic("feedback.verified", "request id", None, "feedback", "feedback"),
    # Who was asked is left in peace as long as it is kept; rates are of what is kept.
    Topic("surveys", "request id", None, "settle, feedback", "every router", retention_ms=100 * DAY_MS),
    Topic("feedback.counted", "request id", None, "feedback", "account, web"),
    Topic("counts", "dimensions", None, "account", "account, watch"),
    Topic("health.counts", "model", None, "watch, settle", "watch"),
    Topic("guard.evidence", "pool", None, "watch", "watch"),
    Topic("rollout.evidence", "pool", None, "watch", "watch"),
    # What was decided about traffic, and why: control keeps the last order of a scope only.
    Topic("journal", "pool, or an order's scope", None, "watch", "people", retention_ms=400 * DAY_MS),
    Topic("guard.sight", "pool", None, "watch", "web", cleanup="compact"),
    # What people say of an alert: acknowledged, closed.
    Topic("alert.acts", "alert id", None, "people", "watch", cleanup="compact"),
    Topic("load", "stage/partition", None, "settle, feedback", "route, web", cleanup="compact"),
    # Each version is a key of its own, so compaction would keep all for ever; route writes a lasting one anew each day.
    Topic(
        "snapshots",
        "snapshot version",
        None,
        "route",
        "replay",
        retention_ms=14 * DAY_MS,
        least_retention_ms=2 * DAY_MS,
    ),
)


@dataclass(frozen=True, slots=True)
class Names:
    """Topic names under one prefix.

    >>> Names("llm").of("results")
    'llm.results'
    >>> Names("llm").work("small", "batch")
    'llm.work.small.batch'
    """

    prefix: str = "llm"

    def of(self, name: str) -> str:
        """The full name of a topic of the registry; ``KeyError`` for one that is not in it."""
        if name not in _NAMES:
            raise KeyError(name)
        return f"{self.prefix}.{name}"

    def work(self, model: str, lane: str = "interactive") -> str:
        """The work topic of a model in a lane."""
        return f"{self.prefix}.work.{model}" + (".batch" if lane == "batch" else "")

    def bodies(self) -> tuple[str, ...]:
        """Where prompts and answers lie that other records only name the place of."""
        return self.of("requests"), self.of("requests.batch"), self.of("outcomes")

    def read_elsewhere(self, topic: str) -> bool:
        """Whether programs other than ours read it as a rule; of an internal topic or a table's changelog, none does.

        >>> Names("llm").read_elsewhere("llm.results"), Names("llm").read_elsewhere("llm.usage")
        (True, False)
        """
        name = topic.removeprefix(f"{self.prefix}.")
        return name in _READ_ELSEWHERE or name.startswith("work.")

    def group(self, stage: str) -> str:
        """The consumer group of a stage, also its Faust app id."""
        return f"{self.prefix}-{stage}"

    def all(self, models: Iterator[str] | list[str] | tuple[str, ...]) -> dict[str, Topic]:
        """Every topic of an installation that serves ``models``, by full name."""
        found = {self.of(topic.name): topic for topic in TOPICS}
        for model in models:
            if not NAME.fullmatch(model):
                raise ValueError(f"model name {model!r}: only [a-z0-9][a-z0-9_-]{{0,63}}")
            found |= {self.work(model, lane): WORK for lane in ("interactive", "batch")}
        return found


_NAMES = frozenset(topic.name for topic in TOPICS)
_READ_ELSEWHERE = frozenset(topic.name for topic in TOPICS if topic.public) - {"decisions"}
