"""What one key alone cannot tell: contradictions between keys, and things worth a warning."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from router.config.model import MAX_STRATA, Config, ModelConfig, PoolConfig, TenantConfig
from router.config.problems import Problem, did_you_mean
from router.config.redact import redactor
from router.contract.errors import ConfigError
from router.contract.ids import DEFAULT_POOL
from router.contract.patterns import pattern_problem
from router.contract.topics import HOUR_MS, TOPICS, WORK, Topic

GENERAL = "general"
#: ``core.slicing.KIND``: what alerts and orders call slices of traffic.
SLICE = "slice"
#: Of ``core.survey.MOST_USERS``.
MOST_ASKED = 300_000


def contradictions(config: Config) -> Iterator[Problem]:
    """``(dotted key, message)`` of everything that makes the configuration unusable."""
    for name, model in config.models.items():
        yield from _model(f"models.{name}", model)
    for name, pool in config.pools.items():
        if name in config.models:
            yield f"pools.{name}", "is also the name of a model; a request could not tell them apart"
        yield from _pool(f"pools.{name}", pool, config)
    for name, tenant in config.tenants.items():
        yield from _known(f"tenants.{name}.pools", tenant.pools, "pool", config.pools)
        yield from _known(f"tenants.{name}.models", tenant.models, "model", config.models)
    yield from _surveys(config)
    yield from _classify(config)
    yield from _kafka(config)
    yield from _retention(config)
    if config.security.secret_env and config.security.secret_file:
        yield "security.secret_file", "give secret_env or secret_file, not both"
    if config.web.keys_env and config.web.keys_file:
        yield "web.keys_file", "give keys_env or keys_file, not both"


def check(config: Config, environ: Mapping[str, str] | None = None) -> list[str]:
    """Warnings about a configuration that works: what is missing around it, and what it asks for in vain.

    ``config check`` prints them; contradictions never get this far, ``load`` refuses them.
    """
    environ = os.environ if environ is None else environ
    return [f"{key}: {message}" for key, message in _warnings(config, environ)]


def _model(key: str, model: ModelConfig) -> Iterator[Problem]:
    parts = (model.input_usd_per_mtok, model.output_usd_per_mtok)
    extra = (model.cached_input_usd_per_mtok, model.cache_write_usd_per_mtok)
    if model.unpriced and any(part is not None for part in parts + extra):
        yield f"{key}.unpriced", "is true, but a price is given"
    if not model.unpriced:
        for name, part in zip(("input_usd_per_mtok", "output_usd_per_mtok"), parts, strict=True):
            if part is None:
                yield f"{key}.{name}", "is missing; give the price, or unpriced = true if nobody knows it"
    if model.listed_endpoints and (model.base_url or model.api_key_env):
        yield f"{key}.endpoints", "give endpoints, or base_url and api_key_env for a single one, not both"
    if model.provider == "external" and (model.listed_endpoints or model.base_url or model.api_key_env):
        yield f"{key}.provider", "nobody here serves an external model; leave its endpoints out"
    yield from _unique(f"{key}.endpoints", [endpoint.name for endpoint in model.listed_endpoints])
    yield from _token_times(key, model)
    if model.max_output_tokens > model.context_window:
        yield (
            f"{key}.max_output_tokens",
            f"{model.max_output_tokens} is more than context_window {model.context_window}",
        )


def _token_times(key: str, model: ModelConfig) -> Iterator[Problem]:
    times = {"first_token_timeout_s": model.first_token_timeout_s, "idle_timeout_s": model.idle_timeout_s}
    for name, limit_s in times.items():
        if limit_s is None:
            continue
        if model.provider not in {"openai", "sim"}:
            yield f"{key}.{name}", f'provider "{model.provider}" does not stream here; only "openai" and "sim" do'
        if limit_s >= model.timeout_s:
            yield f"{key}.{name}", f"{limit_s:g} must be less than timeout_s {model.timeout_s:g}, which ends every call"


def _pool(key: str, pool: PoolConfig, config: Config) -> Iterator[Problem]:
    yield from _known(f"{key}.models", pool.models, "model", config.models)
    yield from _unique(f"{key}.models", pool.models)
    if pool.baseline not in pool.models:
        yield from _known(f"{key}.baseline", [pool.baseline], "model", config.models)
    if pool.baseline in config.models and pool.baseline not in pool.models:
        yield f"{key}.baseline", f'model "{pool.baseline}" is not in this pool\'s models'
    if pool.judge is not None:
        yield from _known(f"{key}.judge", [pool.judge], "model", config.models)
    yield from _start(key, pool)
    yield from _budget(key, pool, config)
    yield from _weights(key, pool)
    yield from _cascade(f"{key}.cascade", pool, config)
    yield from _rollout(f"{key}.rollout", pool)
    yield from _fallback(f"{key}.fallback", pool, config)


def _fallback(key: str, pool: PoolConfig, config: Config) -> Iterator[Problem]:
    for kind, chain in pool.fallback.chains.items():
        yield from _known(f"{key}.{kind}", chain, "model", config.models)
        yield from _unique(f"{key}.{kind}", chain)
    if pool.fallback.hedge_to is not None:
        yield from _known(f"{key}.hedge_to", [pool.fallback.hedge_to], "model", config.models)
        if not pool.fallback.hedge_percent:
            yield f"{key}.hedge_to", "hedges nothing: hedge_percent is 0"


def _rollout(key: str, pool: PoolConfig) -> Iterator[Problem]:
    rollout = pool.rollout
    if rollout is None:
        return
    if "rollout_percent" in pool.model_fields_set:
        yield key, "raises the share by itself, and rollout_percent is given: leave one out"
    if pool.policy == "observe":
        yield key, 'has nothing to raise: policy is "observe"; a first stage of 0 does what it does'
    if not pool.holdout_percent:
        yield key, "compares with the holdout in the end, and holdout_percent is 0"
    if rollout.stages[0] == 0 and (pool.shadow_percent <= 0 or pool.judge is None):
        yield f"{key}.stages", "begin with 0, where only pairs speak: that needs shadow_percent and judge"


def _surveys(config: Config) -> Iterator[Problem]:
    of: dict[str, str] = {}
    for name, survey in config.surveys.items():
        yield from _known(f"surveys.{name}.pools", survey.pools, "pool", config.pools)
        yield from _unique(f"surveys.{name}.pools", survey.pools)
        for pool in survey.pools or config.pools:
            if (other := of.setdefault(pool, name)) != name:
                yield f"surveys.{name}.pools", f'pool "{pool}" has the survey "{other}", and a pool has one'
    remembered = sum(survey.per_day for survey in config.surveys.values()) * max(
        (survey.quiet_days for survey in config.surveys.values()), default=0
    )
    if remembered > MOST_ASKED:
        yield (
            "surveys",
            f"per_day x quiet_days may come to {remembered:,} users who are to be left in peace; at most {MOST_ASKED:,} are remembered",
        )


def _start(key: str, pool: PoolConfig) -> Iterator[Problem]:
    if pool.optimistic_start and pool.policy != "squarecb":
        yield f"{key}.optimistic_start", f'only policy "squarecb" looks at p_ok, and policy is "{pool.policy}"'


def _budget(key: str, pool: PoolConfig, config: Config) -> Iterator[Problem]:
    if pool.objective != "budget":
        if pool.budget_usd_per_request is not None:
            yield f"{key}.budget_usd_per_request", 'only objective "budget" keeps one, and objective is "quality_floor"'
        return
    if pool.policy != "squarecb":
        yield f"{key}.objective", f'"budget" needs policy "squarecb", and policy is "{pool.policy}"'
    if not pool.budget_nano_usd_per_request:
        yield f"{key}.budget_usd_per_request", 'is missing; objective "budget" needs it, above 0'
    for name in pool.models:
        if name in config.models and config.models[name].unpriced:
            yield f"{key}.objective", f'"budget" needs the price of every model, and "{name}" is unpriced'


def _cascade(key: str, pool: PoolConfig, config: Config) -> Iterator[Problem]:
    cascade, cheap = pool.cascade, pool.models[0]
    if cascade is None:
        return
    to = pool.escalate_to
    yield from _known(f"{key}.escalate_to", [to], "model", pool.models, "this pool's models")
    if pool.baseline == cheap:
        yield f"{key}", f'"{cheap}", the cheapest model, is the baseline: there is no better one to ask'
    elif to == cheap:
        yield f"{key}.escalate_to", f'"{cheap}" is the model that is asked first: the cheapest of the pool'
    model = config.models.get(cheap)
    if cascade.signal == "logprobs" and model is not None and "logprobs" not in model.capabilities:
        yield f"{key}.signal", f'"logprobs" needs that capability, and models.{cheap}.capabilities does not have it'
    if cascade.signal == "judge" and pool.judge is None:
        yield f"{key}.signal", f'"judge" needs one: {key.removesuffix(".cascade")}.judge is not set'
    if cascade.pattern is not None and (problem := pattern_problem(cascade.pattern)) is not None:
        yield f"{key}.pattern", problem


def _weights(key: str, pool: PoolConfig) -> Iterator[Problem]:
    if pool.policy != "fixed":
        if pool.weights:
            yield f"{key}.weights", f'only policy "fixed" follows weights, and policy is "{pool.policy}"'
        return
    if not pool.weights:
        yield f"{key}.weights", 'is missing; policy "fixed" needs the share of each model'
        return
    for name in pool.weights:
        yield from _known(f"{key}.weights.{name}", [name], "model", pool.models, "this pool's models")
    total = math.fsum(pool.weights.values())
    if abs(total - 1) > 1e-6:
        yield f"{key}.weights", f"sum to {total:.6g}, not 1"


def _classify(config: Config) -> Iterator[Problem]:
    rules, bands = config.classify.rules, config.classify.bands
    yield from _unique("classify.bands", [band.name for band in bands])
    limits = [band.max_tokens for band in bands]
    if limits[-1] is not None:
        yield "classify.bands", "the last band must have no max_tokens, so that every prompt has a band"
    before = [limit for limit in limits[:-1] if limit is not None]
    if len(before) < len(limits) - 1 or any(low >= high for low, high in pairwise(before)):
        yield "classify.bands", "each band but the last needs max_tokens, ascending"
    classes = {rule.name for rule in rules} | {GENERAL}
    for rule in rules:
        if rule.name == SLICE:
            yield "classify.rules", f"no class may be called {SLICE!r}: orders and alerts call slices of traffic so"
    if len(classes) * len(bands) > MAX_STRATA:
        yield "classify", f"{len(classes)} classes x {len(bands)} bands are more than {MAX_STRATA} strata"


def _kafka(config: Config) -> Iterator[Problem]:
    kafka = config.kafka
    sasl = kafka.security_protocol.startswith("SASL")
    given = {
        "sasl_username": kafka.sasl_username,
        "sasl_password_env": kafka.sasl_password_env,
        "sasl_password_file": kafka.sasl_password_file,
    }
    if kafka.sasl_password_env and kafka.sasl_password_file:
        yield "kafka.sasl_password_file", "give sasl_password_env or sasl_password_file, not both"
    if sasl and not kafka.sasl_username:
        yield "kafka.sasl_username", f"is missing; security_protocol {kafka.security_protocol} needs it"
    if sasl and not (kafka.sasl_password_env or kafka.sasl_password_file):
        yield "kafka.sasl_password_env", f"is missing; security_protocol {kafka.security_protocol} needs it"
    for name, value in given.items():
        if value and not sasl:
            yield f"kafka.{name}", f"has no effect with security_protocol {kafka.security_protocol}"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if getattr(kafka, name) and not kafka.security_protocol.endswith("SSL"):
            yield f"kafka.{name}", f"has no effect with security_protocol {kafka.security_protocol}"
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "kafka.ssl_certfile", "is missing; ssl_keyfile belongs to it"


def _retention(config: Config) -> Iterator[Problem]:
    """A topic that forgets what is still needed loses requests, quietly."""
    topics = {topic.name: topic for topic in TOPICS} | {"work": WORK}
    for name, hours in config.kafka.retention_hours.items():
        key = f"kafka.retention_hours.{name}"
        yield from _known(key, [name], "topic", topics, "the registry of topics")
        if name in {"reviews", "reviews.wanted"}:
            yield key, "is set by reviews.retention_days"
        elif name in topics and topics[name].cleanup == "compact":
            yield key, "has no effect: the topic keeps the last record of each key, for good"
        elif name in topics and hours < (least := _least_hours(config, topics[name])):
            yield key, f"{hours} hours are too few: {least} is the least, for what is still needed then"


def _least_hours(config: Config, topic: Topic) -> int:
    """Of a topic under this configuration: the registry's, and as long as reviews and surveys ask for it."""
    days = 0
    if topic.name in {"feedback.counted", "pairs"}:
        days = config.reviews.retention_days
    elif topic.name == "surveys":
        days = max((one.quiet_days for one in config.surveys.values()), default=0)
    return max(topic.least_retention_ms // HOUR_MS, 24 * days)


def _known(
    key: str, names: Sequence[str], kind: str, among: Mapping[str, object] | Sequence[str], where: str = ""
) -> Iterator[Problem]:
    for name in names:
        if name not in among:
            yield key, f'{kind} "{name}" is not in {where or kind + "s"}{did_you_mean(name, among)}'


def _unique(key: str, names: Sequence[str]) -> Iterator[Problem]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield key, f'"{name}" is listed twice'


def _warnings(config: Config, environ: Mapping[str, str]) -> Iterator[Problem]:
    if DEFAULT_POOL not in config.pools:
        yield "pools", f'there is no pool "{DEFAULT_POOL}": a request that names no model will be refused'
    yield from ((key, f"variable {name} is not set") for key, name in _variables(config) if not environ.get(name))
    yield from ((key, f"no file {path}") for key, path in _files(config) if not path.is_file())
    for name in (name for name, model in config.models.items() if model.unpriced):
        yield f"models.{name}.unpriced", "the cost of its answers will be unknown"
    for name, model in config.models.items():
        slots = [endpoint.concurrency for endpoint in model.endpoints]
        taken = sum(slot for slot in slots if slot is not None)
        if slots and None not in slots and taken < model.concurrency:
            yield (
                f"models.{name}.concurrency",
                f"its endpoints take {taken} calls at once, and {model.concurrency} are in hand",
            )
    try:
        redactor(config.reviews.redact)
    except ConfigError as error:
        key, _, message = str(error).partition(": ")
        yield key, message
    for name, pool in config.pools.items():
        yield from _shadow(f"pools.{name}", pool)
        if pool.rollout is not None and not pool.reviews_per_day and (not pool.shadow_percent or pool.judge is None):
            yield (
                f"pools.{name}.rollout",
                "will stay at its first stage: nobody looks at answers (reviews_per_day, or shadow_percent and judge)",
            )
    for name, tenant in config.tenants.items():
        yield from _tenant(f"tenants.{name}", tenant, config)


def _shadow(key: str, pool: PoolConfig) -> Iterator[Problem]:
    cascaded = pool.cascade is not None and pool.cascade.signal == "judge"
    if pool.judge is not None and not cascaded and pool.shadow_percent <= 0:
        yield f"{key}.judge", 'has no effect without shadow_percent, or a cascade whose signal is "judge"'
    if pool.judge_rubric is not None and (pool.judge is None or pool.shadow_percent <= 0):
        yield f"{key}.judge_rubric", "has no effect without judge and shadow_percent"
    if pool.shadow_percent > 0 and len(pool.models) == 1:
        yield f"{key}.shadow_percent", "has no effect: the pool has one model, and nobody to answer in its shadow"
    if pool.shadow_usd_per_day is not None and pool.shadow_percent <= 0:
        yield f"{key}.shadow_usd_per_day", "has no effect without shadow_percent"
    if pool.shadow_percent > 0 and pool.judge in pool.models:
        yield f"{key}.judge", "is one of the two that are compared, and models like their own answers"


def _tenant(key: str, tenant: TenantConfig, config: Config) -> Iterator[Problem]:
    """What a tenant's table asks for in vain."""
    for name in tenant.pools or config.pools if tenant.models else ():
        if set(tenant.models).isdisjoint(config.pools[name].models):
            yield f"{key}.models", f'none of them is in pool "{name}": its requests to it are refused'
    for span in ("day", "month"):
        soft, hard = getattr(tenant, f"soft_usd_per_{span}"), getattr(tenant, f"budget_usd_per_{span}")
        if soft is not None and hard is not None and soft >= hard:
            yield f"{key}.soft_usd_per_{span}", f"is no warning: requests are refused from {hard} USD on"
    if "day" in tenant.limits or "month" in tenant.limits:
        for name, model in config.models.items():
            if model.unpriced and (not tenant.models or name in tenant.models):
                yield key, f'its budget does not see what model "{name}" costs: it is unpriced'


def _variables(config: Config) -> Iterator[tuple[str, str]]:
    for name, model in config.models.items():
        for endpoint in model.endpoints:
            if endpoint.api_key_env:
                yield f"models.{name}.api_key_env", endpoint.api_key_env
    named = {
        "kafka.sasl_password_env": config.kafka.sasl_password_env,
        "security.secret_env": config.security.secret_env,
        "web.keys_env": config.web.keys_env,
    }
    yield from ((key, variable) for key, variable in named.items() if variable)


def _files(config: Config) -> Iterator[tuple[str, Path]]:
    kafka = config.kafka
    named = {
        "kafka.sasl_password_file": kafka.sasl_password_file,
        "kafka.ssl_cafile": kafka.ssl_cafile,
        "kafka.ssl_certfile": kafka.ssl_certfile,
        "kafka.ssl_keyfile": kafka.ssl_keyfile,
        "security.secret_file": config.security.secret_file,
        "web.keys_file": config.web.keys_file,
    }
    yield from ((key, path) for key, path in named.items() if path)
