"""The configuration for people: what is in force and where each value comes from, and the reference of all keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from router.config.kinds import masked
from router.config.model import Config
from router.config.problems import TABLES, keys_of


def show(config: Config) -> str:
    """The effective configuration as TOML; behind each value the file or variable it comes from, or ``default``.

    It holds no secret: a configuration only names the variables and files that do. Of an address that alerts are sent to, only the host is
    shown, of a server's no query: who knows the rest may use it.
    """
    lines: list[str] = []
    for key in Config.model_fields:
        value = getattr(config, key)
        tables = {f"{key}.{name}": table for name, table in value.items()} if isinstance(value, dict) else {key: value}
        for path, table in tables.items():
            lines += ["", f"[{path}]", *_rows(path, table, config.sources)]
    return "\n".join(lines[1:]) + "\n"


def _rows(path: str, table: BaseModel, sources: dict[str, str]) -> Iterator[str]:
    for key, name in keys_of(type(table)).items():
        value = _without_secrets(key, getattr(table, name))
        below = [sources[given] for given in sources if given == f"{path}.{key}" or given.startswith(f"{path}.{key}.")]
        source = ", ".join(dict.fromkeys(below)) or "default"
        row = f"# {key} is not set" if value is None else f"{key} = {_toml(value)}"
        yield f"{row:<48}  # {source}" if value is not None else row


def _without_secrets(key: str, value: Any) -> Any:
    if key in _SECRET_ADDRESSES and value is not None:
        return masked(value)
    if key == "base_url" and value is not None and "?" in value:
        return value.partition("?")[0] + "?***"
    if key == "endpoints":
        return tuple(one.model_copy(update={"base_url": _without_secrets("base_url", one.base_url)}) for one in value)
    return value


def _toml(value: Any) -> str:  # noqa: PLR0911 - one return a kind of value
    """A TOML value on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float() | Decimal():
            return f"{value:f}" if isinstance(value, Decimal) else repr(value)
        case BaseModel():
            given = {key: getattr(value, name) for key, name in keys_of(type(value)).items()}
            return _toml({key: item for key, item in given.items() if item is not None})
        case dict():
            return (
                "{ " + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + " }"
                if value
                else "{}"
            )
        case frozenset():
            return _toml(sorted(value))
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def _key(name: str) -> str:
    """As TOML has it: what is more than letters, digits, ``-`` and ``_`` stands in quotes."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


_SECRET_ADDRESSES = frozenset({"webhook_url", "alertmanager_url"})

_TITLES = {
    (): "Sections",
    ("models", "*"): "[models.NAME]",
    ("models", "*", "endpoints", "*"): "[[models.NAME.endpoints]]",
    ("pools", "*"): "[pools.NAME]",
    ("pools", "*", "fallback"): "[pools.NAME.fallback]",
    ("pools", "*", "cascade"): "[pools.NAME.cascade]",
    ("pools", "*", "rollout"): "[pools.NAME.rollout]",
    ("tenants", "*"): "[tenants.NAME]",
    ("surveys", "*"): "[surveys.NAME]",
    ("classify", "rules", "*"): "[[classify.rules]]",
    ("classify", "bands", "*"): "[[classify.bands]]",
}


def reference_markdown() -> str:
    """``docs/config.md``: every key with type, range, default and meaning, generated from the settings model."""
    parts = [_INTRODUCTION]
    for path, table in TABLES.items():
        if not path:
            continue
        title = _TITLES.get(path, f"[{'.'.join(path)}]")
        parts += [f"## `{title}`\n", _first_paragraphs(table), "", *_table(path, table), ""]
    return "\n".join(parts).rstrip() + "\n"


def _first_paragraphs(table: type[BaseModel]) -> str:
    return "\n".join(line.strip() for line in (table.__doc__ or "").replace("``", "`").strip().splitlines())


def _table(path: tuple[str, ...], table: type[BaseModel]) -> Iterator[str]:
    yield "| key | type | default | variable | meaning |"
    yield "|---|---|---|---|---|"
    for key, name in keys_of(table).items():
        field = table.model_fields[name]
        variable = "" if path in _LISTED else f"`{_variable(path, key)}`"
        meaning = " ".join((field.description or "").replace("``", "`").split())
        yield f"| `{key}` | {_type(field)} | {_default(path, key, field)} | {variable} | {meaning} |"


def _variable(path: tuple[str, ...], key: str) -> str:
    return "POINTSMAN_" + "__".join("NAME" if part == "*" else part.upper() for part in (*path, key))


def _default(path: tuple[str, ...], key: str, field: FieldInfo) -> str:
    if (path, key) in _SPECIAL_DEFAULTS:
        return _SPECIAL_DEFAULTS[path, key]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "not set" if value is None or value is PydanticUndefined else f"`{_toml(value)}`"


#: Tables in a list: a variable sets the whole list.
_LISTED = {("models", "*", "endpoints", "*"), ("classify", "rules", "*"), ("classify", "bands", "*")}

_SPECIAL_DEFAULTS: dict[tuple[tuple[str, ...], str], str] = {
    (("pools", "*"), "baseline"): "last of `models`",
    (("models", "*"), "provider_model"): "the name",
    (("models", "*"), "input_usd_per_mtok"): "required unless `unpriced`",
    (("models", "*"), "output_usd_per_mtok"): "required unless `unpriced`",
}

_WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true, false",
    Decimal: "number",
    Path: "path",
}


def _type(field: FieldInfo) -> str:
    return _type_words(field.annotation, _limits(field.metadata)).replace("|", "\\|")


def _type_words(kind: Any, limits: str = "") -> str:  # noqa: PLR0911 - one return a kind of type
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_words(args[0], limits or _limits(args[1:]))
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in args)
    if origin in {Union, UnionType}:
        return " or ".join(_type_words(arg, limits) for arg in args if arg is not NoneType)
    if origin in {tuple, frozenset, list}:
        return f"list of {_type_words(args[0])}"
    if origin is dict:
        return f"table of {_type_words(args[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table"
    return _WORDS[kind] + limits


def _limits(metadata: Any) -> str:
    """The tightest bound on each side, as `` >= 1, <= 10``."""
    items = [item for entry in metadata for item in (getattr(entry, "metadata", None) or [entry])]
    sides = [max(_bounds(items, ge=">=", gt=">"), default=None), min(_bounds(items, le="<=", lt="<"), default=None)]
    shown = [f"{sign} {_number(value)}" for value, sign in filter(None, sides)]
    return f" {', '.join(shown)}" if shown else ""


def _bounds(items: list[Any], **signs: str) -> Iterator[tuple[float, str]]:
    for name, sign in signs.items():
        values = (getattr(item, name, None) for item in items)
        yield from ((value, sign) for value in values if isinstance(value, int | float))


def _number(value: float) -> str:
    return "2^53" if value == 2**53 else f"{value:,}"


_INTRODUCTION = """\
# Configuration

Generated from the settings model by `python -m router.config`; a test keeps it so. `pointsman config example` prints a file
to start from, `pointsman config check` says what is wrong with yours, `pointsman config show` prints what is in force and
where each value comes from.

One TOML file: the first of `--config FILE`, `POINTSMAN_CONFIG`, `./pointsman.toml`; without any, the example's values. A key
in it can be set by `POINTSMAN_SECTION__KEY` (lists and tables as JSON), and the command line stands above both: `--broker`, or
`BROKER`, is `kafka.broker`. Only `models` and `pools` have no default.

Names of models, pools and tenants: lower-case letters, digits, `-` and `_`, at most 64. Secrets stand in variables or files
that the configuration names, never in it.
"""
