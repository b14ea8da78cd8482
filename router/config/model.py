"""The settings as one tree of frozen values: each key with its type, range, default and meaning.

The docstring below a key is its entry in ``docs/config.md``. What needs more than one key to be judged is in
``checks``; where a value came from is in ``load``.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from router.config.cascade import CascadeConfig
from router.config.fallback import FallbackConfig
from router.config.kinds import (
    Brokers,
    EnvName,
    Label,
    Name,
    Percent,
    Port,
    Positive,
    Seconds,
    Share,
    Url,
    Usd,
    UsdPerMtok,
    Whole,
    no_bool,
)
from router.config.prices import ModelPrice, nano_usd, nano_usd_per_token
from router.config.rollout import RolloutConfig
from router.config.section import Section, switch

#: Where ``pointsman sim`` listens unless told otherwise; models of provider ``sim`` without ``base_url`` go there.
SIM_BASE_URL = "http://127.0.0.1:8089/v1"
OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY_ENV = "OPENAI_API_KEY"

#: Strata of a pool are class x band; more would starve each of evidence.
MAX_STRATA = 128


class KafkaConfig(Section):
    """The cluster, and what this installation calls its topics."""

    broker: Brokers | None = None
    """``HOST:PORT``, several with commas. Without one ``up`` starts an embedded broker."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "llm"
    """First part of every topic, group and transaction name."""
    partitions: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    """Of every topic, fixed for good: what must meet is keyed alike. Not set: as many as the topics have; new ones get 4,
    on the embedded broker 1."""
    replication_factor: Annotated[Whole, Field(ge=1, le=32)] = 1
    """Of topics that ``topics create`` makes."""
    compression: Literal["auto", "none", "gzip", "snappy", "lz4", "zstd"] = "auto"
    """Of all that pointsman writes; whatever others write is read. ``auto``: ``snappy`` in topics that pointsman alone reads
    (decisions and internal ones), none in those of other programs. What each costs and saves: ``docs/scale.md``."""
    data_dir: Path = Path("pointsman-data")
    """Tables, the embedded broker's log, the secret that ``up`` makes. Relative to the working directory."""
    session_timeout_s: Annotated[Seconds, Field(ge=1, le=300)] = 6.0
    """After this long a dead process's partitions go to another."""
    retention_hours: dict[str, Annotated[Whole, Field(ge=1, le=24 * 3650)]] = Field(default_factory=dict)
    """How long topics keep their records, by name without prefix (``work``: the work topics of all models), of topics that `topics create` and
    `up` make. What is not named is kept as `docs/security.md` shows; what a request needs on its way, 48 hours at least."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """As in Kafka's own clients."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Used with ``SASL_*`` only."""
    sasl_username: str | None = None
    """Used with ``SASL_*`` only."""
    sasl_password_env: EnvName | None = None
    """Variable that holds the password."""
    sasl_password_file: Path | None = None
    """File that holds the password, instead of ``sasl_password_env``."""
    ssl_cafile: Path | None = None
    """PEM file of the authorities to trust; without it those of the system."""
    ssl_certfile: Path | None = None
    """PEM file of the client's own certificate."""
    ssl_keyfile: Path | None = None
    """PEM file of its key."""


class WebConfig(Section):
    """The HTTP interface."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Loopback address to bind."""
    port: Port = 8080
    """Of the web stage; 0 takes a free one."""
    keys_env: EnvName | None = None
    """Variable with JSON ``[{"sha256", "tenant", "role"}]``: the bearer keys. Without any only loopback is served, to whoever is there."""
    keys_file: Path | None = None
    """File with the same, instead of ``keys_env``. It is read again when it has changed: keys come and go without a restart."""


class AccountConfig(Section):
    """Metric windows."""

    window_s: Annotated[Whole, Field(ge=1, le=86_400)] = 60
    """Length of the tumbling windows."""
    grace_s: Annotated[Seconds, Field(le=3600)] = 10
    """From a window's end to its ``final``."""
    max_rows: Annotated[Whole, Field(ge=1, le=100_000)] = 2000
    """Rows a window and partition; further dimensions count under tenant, then stratum ``other``."""


class FeedbackConfig(Section):
    """Opinions about results."""

    ttl_s: Annotated[Whole, Field(ge=1, le=365 * 86_400)] = 30 * 86_400
    """How long a feedback token is accepted."""
    max_tenant_share: Annotated[Share, Field(ge=0.05)] = 0.67
    """Of what is learned of a model in a stratum, the most that one tenant may have said, once others have said something, too: by default twice
    what they say, as in the guard. 1: no limit."""


class SecurityConfig(Section):
    """The secret that signs slips and feedback tokens: at least 32 bytes, any text.

    Several lines rotate: the first signs, all verify.
    """

    secret_env: EnvName | None = None
    """Variable that holds the secret."""
    secret_file: Path | None = None
    """File that holds the secret, instead of ``secret_env``. Without either ``up`` makes one in the data folder."""


class Endpoint(Section):
    """One address that serves a model."""

    name: Label
    """As results and health show it."""
    base_url: Url
    """Up to and including ``/v1``."""
    api_key_env: EnvName | None = None
    """Variable that holds the key."""
    requests_per_minute: Positive | None = None
    """The provider's limit."""
    tokens_per_minute: Positive | None = None
    """The provider's limit."""
    concurrency: Annotated[Whole, Field(ge=1, le=400)] | None = None
    """The provider's limit of calls at once, per worker process."""
    weight: Annotated[float, BeforeValidator(no_bool), Field(ge=0.01, le=100, allow_inf_nan=False)] | None = None
    """Its share of calls beside the model's other endpoints. Not set: how its limits compare with theirs, 1 without limits."""


class ModelConfig(Section):
    """What a request can be routed to. A price is required, or ``unpriced = true``."""

    provider: Literal["openai", "litellm", "sim", "external"] = "openai"
    """``openai``: any compatible server; ``sim``: ``pointsman sim``; ``external``: nobody here serves it."""
    provider_model: Annotated[str, Field(max_length=256)] = ""
    """What the provider calls it; the model's own name if absent."""
    context_window: Positive = 128_000
    """Tokens of prompt and answer together."""
    max_output_tokens: Positive = 16_384
    """Longest answer."""
    capabilities: frozenset[Literal["tools", "images", "json_schema", "logprobs"]] = frozenset()
    """A request that uses another goes to another model, also when it falls back."""
    concurrency: Annotated[Whole, Field(ge=1, le=400)] = 32
    """Calls in hand at once, per worker process."""
    timeout_s: Annotated[Seconds, Field(le=86_400)] = 60
    """Longest call; a nearer deadline cuts it."""
    first_token_timeout_s: Annotated[Seconds, Field(le=86_400)] | None = None
    """Longest wait for the first token of an answer. With this or the next key set, the worker asks the provider for streams; results are
    whole as ever. Not set: no limit but ``timeout_s``."""
    idle_timeout_s: Annotated[Seconds, Field(le=86_400)] | None = None
    """Longest wait from one token of an answer to the next."""
    max_error_rate: Annotated[Share, Field(gt=0)] = 0.5
    """Of ten or more attempts in 30 s: from this share of errors on the model is ``down``, and its requests go to others."""
    max_p95_s: Annotated[Seconds, Field(gt=0, le=86_400)] | None = None
    """The same when p95 of its latency is above that; absent: it is ``degraded`` when p95 is three times the usual, which moves nothing."""
    silent_after_s: Annotated[Seconds, Field(ge=2, le=3_600)] = 8.0
    """The same when something waits for so long (or three times p95, if that is longer) and nothing of the model is answered meanwhile: no worker
    takes its work, or all calls hang. What waits is sent to other models of the pool. Set it above the longest usual call."""
    input_usd_per_mtok: UsdPerMtok | None = None
    """Price of a million prompt tokens; a multiple of 0.001."""
    output_usd_per_mtok: UsdPerMtok | None = None
    """Price of a million completion tokens; a multiple of 0.001."""
    cached_input_usd_per_mtok: UsdPerMtok | None = None
    """Price of prompt tokens read from the provider's cache; the input price if absent."""
    cache_write_usd_per_mtok: UsdPerMtok | None = None
    """Price of prompt tokens written to the provider's cache; the input price if absent."""
    cache_ttl_s: Annotated[Whole, Field(ge=0, le=86_400)] = 300
    """How long the provider keeps a prompt for the next one that begins like it. Within it the model that answered last in a conversation
    is expected to cost less, where ``cached_input_usd_per_mtok`` is."""
    price_version: Annotated[str, Field(max_length=64)] | None = None
    """Goes with every cost that this price made."""
    unpriced: bool = False
    """Serve it although nobody knows its price: ``cost_unknown`` is true then, never a cost of 0."""
    listed_endpoints: tuple[Endpoint, ...] = Field(default=(), alias="endpoints")
    """Tables with ``name``, ``base_url``, ``api_key_env``, ``requests_per_minute``, ``tokens_per_minute``, ``concurrency``, ``weight``."""
    base_url: Url | None = None
    """Instead of ``endpoints``: the only one, called ``default``."""
    api_key_env: EnvName | None = None
    """Goes with ``base_url``: variable that holds the key."""

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the model is served; empty for ``external`` and for ``litellm`` without an address."""
        if self.listed_endpoints:
            return self.listed_endpoints
        base_url, api_key_env = self.base_url, self.api_key_env
        if base_url is None and self.provider == "openai":
            base_url, api_key_env = OPENAI_BASE_URL, api_key_env or OPENAI_KEY_ENV
        elif base_url is None and self.provider == "sim":
            base_url = SIM_BASE_URL
        if base_url is None:
            return ()
        return (Endpoint(name="default", base_url=base_url, api_key_env=api_key_env),)

    @cached_property
    def price(self) -> ModelPrice:
        """The price in whole nano-dollars a token; ``unpriced`` where input or output price is missing."""
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return ModelPrice(
                input_nano_usd_per_token=0,
                output_nano_usd_per_token=0,
                price_version=self.price_version,
                unpriced=True,
            )
        cached, written = self.cached_input_usd_per_mtok, self.cache_write_usd_per_mtok
        return ModelPrice(
            input_nano_usd_per_token=nano_usd_per_token(self.input_usd_per_mtok),
            output_nano_usd_per_token=nano_usd_per_token(self.output_usd_per_mtok),
            cached_input_nano_usd_per_token=None if cached is None else nano_usd_per_token(cached),
            cache_write_nano_usd_per_token=None if written is None else nano_usd_per_token(written),
            price_version=self.price_version,
        )


class PoolConfig(Section):
    """Models that may answer for each other, and how one of them is chosen."""

    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    """From cheap to dear: the order in which a failed attempt falls back."""
    baseline: Name
    """The most capable model; the last one listed if absent."""
    policy: Literal["thompson", "squarecb", "fixed", "observe"] = "thompson"
    """``thompson`` learns from feedback how much each stratum trusts each model; ``squarecb`` also looks at the single request:
    its ``p_ok`` and length; ``fixed`` follows ``weights``, ``observe`` sends all to the baseline and only records what it would do."""
    weights: dict[Name, Share] = Field(default_factory=dict)
    """With ``fixed`` only: the share of each model; sum 1."""
    objective: Literal["quality_floor", "budget"] = "quality_floor"
    """``quality_floor``: the cheapest model that stays within ``margin`` of the baseline. ``budget``: the best answers for
    ``budget_usd_per_request`` on average; with policy ``squarecb``."""
    margin: Share = 0.05
    """How much worse than the baseline an answer's mean quality may be."""
    budget_usd_per_request: Usd | None = None
    """Goes with objective ``budget``: mean cost of a request, all its attempts. At most 1 % above, or one call of the dearest model."""
    sticky: Literal["session", "none"] = "session"
    """``session``: a conversation keeps its model."""
    session_ttl_s: Annotated[Whole, Field(ge=1, le=30 * 86_400)] = 3600
    """A session is forgotten after being idle for this long."""
    epsilon: Annotated[Share, Field(le=0.5)] = 0.02
    """Exploration floor: share of the pilot's traffic spread evenly over the candidates; 0 turns it off."""
    optimistic_start: bool = False
    """With policy ``squarecb``: believe the classifier's ``p_ok`` from the first request on. Else a model gets its share only as its first
    20 rewards in a stratum come in, and until then the baseline has it."""
    max_attempts: Annotated[Whole, Field(ge=1, le=20)] = 4
    """Tries of one request, retries and fallbacks together; what a cascade asks beyond its first answer, and hedges, come on top."""
    fallback: FallbackConfig = Field(default_factory=FallbackConfig)
    """Who is asked after a failure, by its kind; how much may be asked again."""
    rollout_percent: Percent = 100
    """Of what the holdout leaves: the share that the policy decides; the rest goes to the baseline."""
    holdout_percent: Percent = 2
    """Always sent to the baseline, to compare with."""
    auto_rollback: bool = False
    """A stratum that fell below the floor goes back to the baseline by itself; else the alert proposes it."""
    auto_release: bool = False
    """A stratum that the guard gave back is the pilot's again, once shadow pairs have shown that it is within the margin (``shadow_percent``,
    ``judge``)."""
    bad_answer_usd: Usd = Decimal("0.01")
    """What a bad answer costs you: alerts weigh it against what the stratum saves."""
    shadow_percent: Percent = 0
    """Of the pilot's requests that another model than the baseline answered: those that the baseline answers too, unseen, as batch work.
    With policy ``observe``, at a rollout of 0 %, and in strata that were rolled back, of the baseline's: those that the cheapest model answers too."""
    shadow_usd_per_day: Usd | None = None
    """At most this much is spent on such answers, and on judging them, in a day (UTC); each partition has an equal part of it. Not set:
    no limit."""
    reviews_per_day: Annotated[Whole, Field(ge=0, le=1_000_000)] = 0
    """Answers that people shall look at, on average: `pointsman review`."""
    judge: Name | None = None
    """Model that says how good an answer is: in a cascade with signal ``judge``; and which of two is better, of an answer and its
    shadow. Without one people look at both."""
    judge_rubric: Annotated[str, Field(min_length=1, max_length=8000)] | None = None
    """What "better" means when the judge compares two answers, in sentences. Not set: right, complete, clear, in this order."""
    judge_power: Annotated[Share, Field(ge=0.1)] = 0.7
    """How much of a difference in bad answers the judge's mean verdict shows: `pointsman review rates` measures it. The guard bets by it, and lets
    a stratum come back by it: too high a number lets it come back too easily."""
    cascade: Annotated[CascadeConfig | None, BeforeValidator(switch)] = None
    """Ask the cheapest model first, and a better one where the answer is not sure enough: ``true``, or a table."""
    rollout: Annotated[RolloutConfig | None, BeforeValidator(switch)] = None
    """Raise the pilot's share by itself, stratum by stratum, as it shows what was declared: ``true``, or a table. In place of ``rollout_percent``."""

    @model_validator(mode="before")
    @classmethod
    def _baseline_is_last(cls, data: Any) -> Any:
        if isinstance(data, dict) and "baseline" not in data:
            models = data.get("models")
            if isinstance(models, list | tuple) and models and isinstance(models[-1], str):
                return data | {"baseline": models[-1]}
        return data

    @property
    def escalate_to(self) -> str:
        """Who is asked in a cascade where the first of ``models`` is not sure enough."""
        return (self.cascade.escalate_to if self.cascade is not None else None) or self.baseline

    @property
    def bad_answer_nano_usd(self) -> int:
        """What a bad answer costs, in nano-dollars."""
        return nano_usd(self.bad_answer_usd)

    @property
    def shadow_nano_usd_per_day(self) -> int | None:
        """The limit in nano-dollars."""
        return None if self.shadow_usd_per_day is None else nano_usd(self.shadow_usd_per_day)

    @property
    def budget_nano_usd_per_request(self) -> int | None:
        """The budget in nano-dollars."""
        return None if self.budget_usd_per_request is None else nano_usd(self.budget_usd_per_request)


class TenantConfig(Section):
    """Limits and rights of one tenant. The table ``other`` is that of all tenants without one: together they have its limits, each has its rights.

    Minutes, days and months are those of the calendar, in UTC. See ``docs/tenants.md``.
    """

    budget_usd_per_day: Usd | None = None
    """Spending beyond which requests are refused with ``budget_exceeded``. A call counts with the most that it can cost until that is known."""
    budget_usd_per_month: Usd | None = None
    """The same of a calendar month."""
    soft_usd_per_day: Usd | None = None
    """Spending from which on there is an alert, and nothing else."""
    soft_usd_per_month: Usd | None = None
    """The same of a calendar month."""
    requests_per_minute: Positive | None = None
    """Requests beyond it are refused with ``rate_limited``."""
    tokens_per_minute: Positive | None = None
    """The same of prompt tokens."""
    pools: tuple[Name, ...] = ()
    """Pools it may use; all if empty."""
    models: tuple[Name, ...] = ()
    """Models that may see its requests, in any role; all if empty."""
    weight: Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0
    """Its share where more is asked for than workers can do at once, beside that of others."""

    @property
    def limits(self) -> dict[Literal["requests", "tokens", "day", "month"], int]:
        """Those that there are, by what they limit; money in nano-dollars."""
        given: dict[Literal["requests", "tokens", "day", "month"], int | None] = {
            "requests": self.requests_per_minute,
            "tokens": self.tokens_per_minute,
            "day": None if self.budget_usd_per_day is None else nano_usd(self.budget_usd_per_day),
            "month": None if self.budget_usd_per_month is None else nano_usd(self.budget_usd_per_month),
        }
        return {kind: limit for kind, limit in given.items() if limit is not None}

    @property
    def soft_limits(self) -> dict[Literal["requests", "tokens", "day", "month"], int]:
        """Those that there are, in nano-dollars; of money only."""
        given: dict[Literal["requests", "tokens", "day", "month"], Decimal | None] = {
            "day": self.soft_usd_per_day,
            "month": self.soft_usd_per_month,
        }
        return {kind: nano_usd(limit) for kind, limit in given.items() if limit is not None}


class Rule(Section):
    """A task class and the words that show it."""

    name: Name
    """The class."""
    any: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)]
    """The class holds if the last user message has one of these, whatever its case."""


class Band(Section):
    """A difficulty band."""

    name: Name
    """As strata show it."""
    max_tokens: Positive | None = None
    """Longest prompt of the band; only the last band has none."""


class ClassifyConfig(Section):
    """Strata: task class x difficulty band.

    The class is that of the first rule that fits, else what the model says, else ``general``. The band goes by how much more
    probably the baseline's answer is good enough than the cheapest model's, where the model knows both; else by prompt tokens.
    """

    model: Annotated[str, Field(min_length=1)] | None = None
    """The classifier: a file that ``pointsman train`` made, relative to the working directory; ``builtin`` for the one that is
    shipped, which knows task classes only; ``demo`` for the demonstration's, which knows its simulated models; ``none``. Not set: ``builtin``, or ``none`` where there are rules."""
    rules: tuple[Rule, ...] = ()
    """Tables with ``name`` and ``any``, tried in order."""
    bands: Annotated[tuple[Band, ...], Field(min_length=1)] = (Band(name="easy", max_tokens=200), Band(name="hard"))
    """Tables with ``name`` and ``max_tokens``, ascending; of pools whose models the classifier does not know."""


class SettleConfig(Section):
    """How long a finished request is remembered, so that a duplicate stays silent."""

    dedupe_window_s: Annotated[Whole, Field(ge=1, le=30 * 86_400)] = 86_400
    """Dedupe window."""
    dedupe_max_ids: Annotated[Whole, Field(ge=1000, le=10**9)] = 20_000_000
    """At most this many ids, the newest ones."""


class RouteConfig(Section):
    """Admission."""

    max_inflight: Annotated[Whole, Field(ge=1, le=10_000_000)] = 5000
    """Batch requests in work at once; further ones wait in their topic."""
    max_queue_s: Annotated[Seconds, Field(gt=0, le=3_600)] = 20
    """An interactive request is refused with ``overloaded`` where it would wait longer for a free slot of any model that may answer it. With a
    ``priority`` above 0: half as long again; below 0: half as long."""


class GuardConfig(Section):
    """What watches the quality of every stratum. See ``docs/guard.md``."""

    arl_days: Annotated[float, BeforeValidator(no_bool), Field(ge=1, le=100_000, allow_inf_nan=False)] = 200
    """Days between two false alarms of a pool, on average at least: all its strata, slices and signals together."""
    day_s: Annotated[Whole, Field(ge=1, le=86_400)] = 86_400
    """Seconds of a day as the guard counts; fewer only to show in minutes what takes weeks."""
    webhook_url: Url | None = None
    """Alerts are posted there as JSON."""
    alertmanager_url: Url | None = None
    """Alerts are posted to this Alertmanager (``/api/v2/alerts`` is added)."""


class ReviewsConfig(Section):
    """Answers that people look at. Items name the places of prompt and answer; whoever may read those topics sees them."""

    text: bool = False
    """Put prompt and answer into the items themselves (topic ``reviews``), redacted, and show them at ``/review``: for reviewers who may read no
    other topic."""
    redact: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """``module:function`` that takes a text and returns one: called with each prompt and answer before a reviewer sees it, or it is written.
    What it cannot do is withheld."""
    retention_days: Annotated[Whole, Field(ge=1, le=365)] = 7
    """How long items are kept, of topics that `topics create` and `up` make."""


class SurveyConfig(Section):
    """A question to users about an answer: a share of results carries it as `router.survey`. See `docs/surveys.md`."""

    question: Annotated[str, Field(min_length=1, max_length=500)]
    """What the application shall ask."""
    scale: Literal["thumbs", "1-5", "1-7", "0-10"] = "thumbs"
    """What it shall offer. The feedback's ``value`` is 0 at the low end and 1 at the high one."""
    pools: tuple[Name, ...] = ()
    """Pools whose answers it is about; all if empty. A pool has one survey."""
    percent: Percent = 5
    """Of interactive requests whose user may be asked: those whose result asks, drawn before the answer and alike in all cohorts."""
    quiet_days: Annotated[Whole, Field(ge=1, le=90)] = 30
    """For so long a user who was asked anything is not asked by this survey."""
    per_day: Annotated[Whole, Field(ge=1, le=100_000)] = 200
    """At most so many results ask in a day (UTC); each partition has an equal part of them."""
    answer_days: Annotated[Whole, Field(ge=1, le=30)] = 3
    """Who has not answered by then counts as silent in response rates."""


class Config(BaseSettings):
    """All settings of an installation. Made by ``load``; frozen."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    models: Annotated[dict[Name, ModelConfig], Field(min_length=1)]
    pools: Annotated[dict[Name, PoolConfig], Field(min_length=1)]
    tenants: dict[Name, TenantConfig] = Field(default_factory=dict)
    classify: ClassifyConfig = ClassifyConfig()
    kafka: KafkaConfig = KafkaConfig()
    web: WebConfig = WebConfig()
    account: AccountConfig = AccountConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    security: SecurityConfig = SecurityConfig()
    settle: SettleConfig = SettleConfig()
    route: RouteConfig = RouteConfig()
    guard: GuardConfig = GuardConfig()
    reviews: ReviewsConfig = ReviewsConfig()
    surveys: dict[Name, SurveyConfig] = Field(default_factory=dict)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def sources(self) -> dict[str, str]:
        """Where each given value came from: dotted key -> file name or variable. Keys that are absent have their default."""
        return self._sources

    @model_validator(mode="before")
    @classmethod
    def _provider_model_is_name(cls, data: Any) -> Any:
        models = data.get("models")
        if not isinstance(models, dict):
            return data
        named = {
            name: {"provider_model": name} | model if isinstance(model, dict) else model
            for name, model in models.items()
        }
        return data | {"models": named}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """``load`` has merged file and environment, so that an error can name where its value came from."""
        return (init_settings,)
