"""What is wrong with a configuration, said in one line: source, dotted key, what it must be, what may be meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from router.config import model
from router.config.cascade import CascadeConfig
from router.config.fallback import FallbackConfig
from router.config.rollout import RolloutConfig
from router.contract.ids import NAME

#: Every table of the file: its path (``*`` for a name or a place in a list) and the model of its keys.
TABLES: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): model.Config,
    ("models", "*"): model.ModelConfig,
    ("models", "*", "endpoints", "*"): model.Endpoint,
    ("pools", "*"): model.PoolConfig,
    ("pools", "*", "fallback"): FallbackConfig,
    ("pools", "*", "cascade"): CascadeConfig,
    ("pools", "*", "rollout"): RolloutConfig,
    ("tenants", "*"): model.TenantConfig,
    ("classify",): model.ClassifyConfig,
    ("classify", "rules", "*"): model.Rule,
    ("classify", "bands", "*"): model.Band,
    ("kafka",): model.KafkaConfig,
    ("web",): model.WebConfig,
    ("account",): model.AccountConfig,
    ("feedback",): model.FeedbackConfig,
    ("security",): model.SecurityConfig,
    ("settle",): model.SettleConfig,
    ("route",): model.RouteConfig,
    ("guard",): model.GuardConfig,
    ("reviews",): model.ReviewsConfig,
    ("surveys", "*"): model.SurveyConfig,
}

#: Keys that people write when they want to put a secret into the file, and what to write instead.
SECRETS = {
    "api_key": "api_key_env",
    "key": "api_key_env",
    "sasl_password": "sasl_password_env or sasl_password_file",
    "password": "sasl_password_env or sasl_password_file",
    "secret": "secret_env or secret_file",
    "keys": "keys_env",
}
_MOST_SHOWN = 60

#: Kind of error -> what the value must be, in the words of the file.
_MUST = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "decimal_type", "decimal_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("tuple_type", "frozen_set_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a table"),
    **dict.fromkeys(("string_type", "path_type"), "must be text"),
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}

Problem = tuple[str, str]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean "x"?)`` or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""


def keys_of(table: type[BaseModel]) -> dict[str, str]:
    """The table's keys as they are written in the file -> field names."""
    return {field.alias or name: name for name, field in table.model_fields.items()}


def lines(error: ValidationError, file: str, sources: Mapping[str, str]) -> list[str]:
    """One line a problem that pydantic found."""
    return labelled(map(_problem, error.errors(include_url=False, include_context=True)), file, sources)


def labelled(problems: Iterable[Problem], file: str, sources: Mapping[str, str]) -> list[str]:
    """Each ``(dotted key, message)`` behind the file or variable that the key came from."""
    return [f"{_source(key, file, sources)}: {key}: {message}" for key, message in problems]


def _source(key: str, file: str, sources: Mapping[str, str]) -> str:
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if found := sources.get(".".join(parts[:end])):
            return found
    return file


def _problem(error: ErrorDetails) -> Problem:
    loc = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":
        return ".".join(loc), _unknown(loc)
    if error["type"] == "missing":
        return ".".join(loc), "is missing"
    if loc and loc[-1] == "[key]":
        return ".".join(loc[:-1]), _name_message(loc[-2])
    return ".".join(loc), _wrong(error, loc[-1] if loc else "")


def _unknown(loc: list[str]) -> str:
    word = loc[-1]
    if word in SECRETS:
        return f"secrets come only from the environment or a file: use {SECRETS[word]}"
    kind = "section" if len(loc) == 1 else "key"
    table = next((t for path, t in TABLES.items() if _fits(path, loc[:-1])), None)
    return f"unknown {kind}" + (did_you_mean(word, keys_of(table)) if table else "")


def _fits(path: tuple[str, ...], loc: list[str]) -> bool:
    return len(path) == len(loc) and all(want in {"*", got} for want, got in zip(path, loc, strict=True))


def _name_message(name: str) -> str:
    return f"{_shown(name)} is no usable name: lower-case letters, digits, - and _, at most 64"


def _wrong(error: ErrorDetails, key: str) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if context.get("pattern") == f"^{NAME.pattern}$":
        return _name_message(str(value))
    message = _MUST[kind].format_map(context) if kind in _MUST else error["msg"]
    # A secret put where the name of a variable or file belongs must not be printed.
    if not key.endswith(("_env", "_file")) and not isinstance(value, dict | list):
        message += f", not {_shown(value)}"
    if kind == "literal_error":
        message += did_you_mean(str(value), re.findall(r"'([^']+)'", context["expected"]))
    return message


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."
