"""One settings model: one TOML file, any key by variable, one clear line for each mistake, one generated reference.

``load`` gives a ``Config``; ``check`` and ``show`` serve ``pointsman config``; ``signing_secret`` and ``sasl_password`` read
what must not stand in the file.
"""

from router.config.cascade import CascadeConfig
from router.config.checks import check
from router.config.credentials import sasl_password, signing_secret
from router.config.load import example, load, loads
from router.config.model import (
    AccountConfig,
    Band,
    ClassifyConfig,
    Config,
    Endpoint,
    FeedbackConfig,
    KafkaConfig,
    ModelConfig,
    PoolConfig,
    ReviewsConfig,
    RouteConfig,
    Rule,
    SecurityConfig,
    SettleConfig,
    TenantConfig,
    WebConfig,
)
from router.config.prices import ModelPrice
from router.config.rollout import RolloutConfig
from router.config.show import reference_markdown, show
from router.contract.errors import ConfigError

__all__ = [
    "AccountConfig",
    "Band",
    "CascadeConfig",
    "ClassifyConfig",
    "Config",
    "ConfigError",
    "Endpoint",
    "FeedbackConfig",
    "KafkaConfig",
    "ModelConfig",
    "ModelPrice",
    "PoolConfig",
    "ReviewsConfig",
    "RolloutConfig",
    "RouteConfig",
    "Rule",
    "SecurityConfig",
    "SettleConfig",
    "TenantConfig",
    "WebConfig",
    "check",
    "example",
    "load",
    "loads",
    "reference_markdown",
    "sasl_password",
    "show",
    "signing_secret",
]
