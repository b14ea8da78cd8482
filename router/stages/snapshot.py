"""The snapshot as it is now: configuration, and what the topics weights, health, control, classifier and focus say.

Every router reads these topics whole and decides nothing before it has, nor when it has not confirmed their ends for two
seconds. An order, or another classifier, is in the next snapshot at once; weights, health and focus at most once a second, together: each change is a
version that is written to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from router.config import Config, ModelConfig, PoolConfig
from router.contract.codec import decode, decode_control, from_rfc3339
from router.contract.errors import BadRecord
from router.contract.ids import OTHER
from router.contract.records import CascadeThreshold, Checks, Health, Weights
from router.contract.topics import DAY_MS
from router.core.artefact import Artefact, ArtefactError
from router.core.bandit.squarecb import regression_of
from router.core.cascade import Calibrated, CascadeFacts, scale_of
from router.core.price import Price
from router.core.records import Focus, Pace, SurveyEvent
from router.core.shedding import Queues
from router.core.snapshot import (
    DECISIVE,
    FocusFacts,
    HealthFacts,
    ModelFacts,
    PoolFacts,
    Snapshot,
    StandingOrder,
    StratumWeights,
    standing_order,
    two_digits,
)
from router.core.survey import Quiet, Template
from router.kafka.follow import Follower
from router.stages.context import Context
from router.stages.taxonomy import Taxonomy

log = logging.getLogger(__name__)

#: Between two snapshots that differ only in weights and health.
SETTLED_EVERY_MS = 1_000


class Snapshots:
    """Applies records and makes snapshots. ``current(now_ms)`` is quick while nothing has changed.

    ``taxonomy`` is that of the last snapshot that ``current`` returned.
    """

    def __init__(self, config: Config, artefact: Artefact | None = None) -> None:
        self._config = config
        self._configured = self._taxonomy = Taxonomy(config, artefact)
        self.taxonomy = self._taxonomy
        self._models = {name: model_facts(name, config) for name in config.models}
        self._pools = {name: pool_facts(name, config) for name in config.pools}
        self._tenants = {name: tenant.pools for name, tenant in config.tenants.items() if tenant.pools}
        self._tenant_models = {name: tenant.models for name, tenant in config.tenants.items() if tenant.models}
        self._known = config.tenants if OTHER in self._tenants or OTHER in self._tenant_models else ()
        self._weights: dict[tuple[str, str], StratumWeights] = {}
        self._health: dict[str, HealthFacts] = {}
        self._orders: dict[str, StandingOrder] = {}
        self._focus: dict[tuple[str, str], FocusFacts] = {}
        #: By pool, what each lane of route has of it a day; no part of the snapshot, for it changes all the time.
        self.paces: dict[str, dict[str, float]] = {}
        #: Whom surveys have asked; no part of the snapshot either.
        self.quiet = Quiet(max((one.quiet_days for one in config.surveys.values()), default=0) * DAY_MS)
        #: What waits for models that have too much to do; no part of the snapshot: what it decides is refused, and a refusal is not replayed.
        self.queues = Queues(float(config.route.max_queue_s))
        self._made: Snapshot | None = None
        self._made_ms = 0
        self._ordered = False
        self._changed = False

    def current(self, now_ms: int) -> Snapshot:
        """The snapshot to decide by; 0.1 - 1 ms when a new one is due."""
        due = self._ordered or (self._changed and abs(now_ms - self._made_ms) >= SETTLED_EVERY_MS)
        if self._made is not None and not due:
            return self._made
        self._made = Snapshot.build(
            models=self._models,
            pools=self._pools,
            tenants=self._tenants,
            weights=dict(self._weights),
            health=dict(self._health),
            orders=tuple(self._orders.values()),
            classifier=self._taxonomy.version,
            focus=dict(self._focus),
            tenant_models=self._tenant_models,
            known=self._known,
        )
        self.taxonomy = self._taxonomy
        self._made_ms, self._ordered, self._changed = now_ms, False, False
        return self._made

    def apply_weights(self, key: bytes, value: bytes | None) -> None:
        """Key ``pool/stratum``."""
        if value is None:
            pool, _, stratum = key.decode("utf-8", "replace").partition("/")
            self._changed |= self._weights.pop((pool, stratum), None) is not None
            return
        try:
            found = decode(Weights, value)
            regression = regression_of(found.regression)
        except (BadRecord, ValueError, TypeError, KeyError, AttributeError):
            return
        if found.pool in self._pools:
            weights = {model: float(weight) for model, weight in sorted(found.weights.items())}
            known = found.cascade
            cascade = None if known is None else calibrated_of(known)
            made = StratumWeights(
                weights=weights, policy_version=found.policy_version, regression=regression, cascade=cascade
            )
            self._changed |= self._weights.get((found.pool, found.stratum)) != made
            self._weights[found.pool, found.stratum] = made

    def apply_health(self, key: bytes, value: bytes | None) -> None:
        """Key: the model's name."""
        if value is None:
            model = key.decode("utf-8", "replace")
            self._changed |= self._health.pop(model, None) is not None
            self.queues.hear(model, None, 0)
            return
        try:
            found = decode(Health, value)
            made = HealthFacts(
                state=found.state,
                p95_ms=None if found.p95_ms is None else two_digits(found.p95_ms),
                until_ms=None if found.until is None else from_rfc3339(found.until),
                wait_ms=two_digits(found.queue_wait_ms or 0.0),
            )
            said_ms = from_rfc3339(found.at)
        except (BadRecord, ValueError):
            return
        if found.model in self._models:
            self._changed |= self._health.get(found.model) != made
            self._health[found.model] = made
            self.queues.hear(found.model, found.saturated, said_ms)

    def apply_control(self, key: bytes, value: bytes | None) -> None:
        """Key ``scope/action``. What is no order was sent to the dead letter by ``watch``."""
        if value is None:
            self._ordered |= self._orders.pop(key.decode("utf-8", "replace"), None) is not None
            return
        try:
            found = decode_control(value)
        except BadRecord:
            return
        name = f"{found.scope}/{found.action}"
        if not found.active:
            self._ordered |= self._orders.pop(name, None) is not None
        elif found.action in DECISIVE:
            self._orders[name] = standing_order(found)
            self._ordered = True

    def apply_focus(self, key: bytes, value: bytes | None) -> None:
        """Key ``pool/stratum``."""
        if value is None:
            pool, _, stratum = key.decode("utf-8", "replace").partition("/")
            self._changed |= self._focus.pop((pool, stratum), None) is not None
            return
        try:
            found = decode(Focus, value)
        except BadRecord:
            return
        if found.pool in self._pools and min(found.reviews, found.shadow) >= 0.0:
            made = FocusFacts(reviews=float(found.reviews), shadow=float(found.shadow))
            self._changed |= self._focus.get((found.pool, found.stratum)) != made
            self._focus[found.pool, found.stratum] = made

    def apply_pace(self, key: bytes, value: bytes | None) -> None:
        """Key ``lane/partition/pool``."""
        name = key.decode("utf-8", "replace")
        try:
            found = None if value is None else decode(Pace, value)
        except BadRecord:
            return
        if found is None:
            self.paces.get(name.rpartition("/")[2], {}).pop(name, None)
        else:
            self.paces.setdefault(found.pool, {})[name] = max(0.0, found.per_day)

    def apply_survey(self, key: bytes, value: bytes | None) -> None:  # noqa: ARG002 - the record says it
        """Somebody was asked."""
        try:
            found = None if value is None else decode(SurveyEvent, value)
        except BadRecord:
            return
        if found is not None and found.event == "asked" and found.user is not None:
            self.quiet.note(found.user, found.at_ms)

    def apply_classifier(self, key: bytes, value: bytes | None) -> None:  # noqa: ARG002 - the topic has one key
        """The file of a classifier; none, or an empty one: the configured one again. What is no classifier changes nothing."""
        try:
            found = Taxonomy(self._config, Artefact.from_bytes(value)) if value else self._configured
        except ArtefactError as error:
            log.error("the topic of classifiers holds what is none, so it is passed over: %s", error)  # noqa: TRY400
            return
        self._ordered |= found.version != self._taxonomy.version
        self._taxonomy = found


class SnapshotFollower(Follower):
    """A resource of a stage: keeps ``snapshots`` up to date; ``fresh()`` says whether it may be decided by."""

    def __init__(self, context: Context) -> None:
        names = context.names
        self.snapshots = Snapshots(context.config, context.artefact)
        self._appliers: dict[str, Callable[[bytes, bytes | None], None]] = {
            names.of("weights"): self.snapshots.apply_weights,
            names.of("health"): self.snapshots.apply_health,
            names.of("control"): self.snapshots.apply_control,
            names.of("classifier"): self.snapshots.apply_classifier,
            names.of("focus"): self.snapshots.apply_focus,
            names.of("paces"): self.snapshots.apply_pace,
        }
        if context.config.surveys:
            self._appliers[names.of("surveys")] = self.snapshots.apply_survey
        super().__init__(context.client, tuple(self._appliers), self._take)

    def _take(self, record: Any) -> None:
        self._appliers[record.topic](record.key or b"", record.value)


def model_facts(name: str, config: Config) -> ModelFacts:
    """A configured model as the core knows it."""
    model = config.models[name]
    return ModelFacts(
        name=name,
        provider_model=model.provider_model,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        capabilities=frozenset(model.capabilities),
        price=price_of(model),
        cache_ttl_ms=cache_ttl_ms(model),
    )


def price_of(model: ModelConfig) -> Price:
    """A configured price as the core has it."""
    listed = model.price
    return Price(
        input_nano_usd_per_token=listed.input_nano_usd_per_token,
        output_nano_usd_per_token=listed.output_nano_usd_per_token,
        cached_input_nano_usd_per_token=listed.cached_input_nano_usd_per_token,
        cache_write_nano_usd_per_token=listed.cache_write_nano_usd_per_token,
        version=listed.price_version,
        unpriced=listed.unpriced,
    )


def cache_ttl_ms(model: ModelConfig) -> int:
    """How long the provider keeps prompts, 0 where a cached one costs as much as another."""
    cached = model.price.cached_input_nano_usd_per_token
    cheaper = cached is not None and cached < model.price.input_nano_usd_per_token
    return model.cache_ttl_s * 1000 if cheaper else 0


def pool_facts(name: str, config: Config) -> PoolFacts:
    """A configured pool as the core knows it."""
    pool = config.pools[name]
    return PoolFacts(
        name=name,
        models=tuple(pool.models),
        baseline=pool.baseline,
        policy=pool.policy,
        weights={model: float(weight) for model, weight in sorted(pool.weights.items())},
        epsilon=float(pool.epsilon),
        rollout_percent=0.0 if pool.rollout is not None else float(pool.rollout_percent),
        holdout_percent=float(pool.holdout_percent),
        sticky=pool.sticky == "session",
        objective=pool.objective,
        margin=float(pool.margin),
        budget_nano_usd=pool.budget_nano_usd_per_request or 0,
        optimistic=pool.optimistic_start,
        cascade=cascade_facts(pool, config.models),
        shadow_percent=float(pool.shadow_percent),
    )


def calibrated_of(found: CascadeThreshold) -> Calibrated:
    """What learn published of a stratum's cascade."""
    return Calibrated(threshold=found.threshold, escalates=found.escalates, scale=found.scale, shown=found.calibrated)


def surveys_by_pool(config: Config) -> dict[str, Template]:
    """Pool -> the survey on its answers."""
    return {
        pool: Template(
            name=name,
            share=float(found.percent) / 100.0,
            quiet_ms=found.quiet_days * DAY_MS,
            per_day=found.per_day,
        )
        for name, found in config.surveys.items()
        for pool in found.pools or config.pools
    }


def cascade_facts(pool: PoolConfig, models: Mapping[str, ModelConfig]) -> CascadeFacts | None:
    """A pool's cascade as the core knows it."""
    found = pool.cascade
    if found is None:
        return None
    cheap, judge = pool.models[0], pool.judge if found.signal == "judge" else None
    return CascadeFacts(
        cheap=cheap,
        to=pool.escalate_to,
        threshold=float(found.threshold),
        label_percent=float(found.label_percent),
        judge=judge,
        scale=scale_of(cheap, models[cheap].provider_model, checks_of(pool, models), judge),
        observe=found.observe,
        hold_streams=found.stream == "hold",
    )


def checks_of(pool: PoolConfig, models: Mapping[str, ModelConfig]) -> Checks | None:
    """How a worker shall check an answer of the pool's cascade."""
    cascade = pool.cascade
    if cascade is None:
        return None
    able = "logprobs" in models[pool.models[0]].capabilities
    return Checks(
        logprobs=able if cascade.signal is None else cascade.signal == "logprobs",
        refusal="refusal" in cascade.checks,
        length="length" in cascade.checks,
        json="json" in cascade.checks,
        pattern=cascade.pattern,
    )
