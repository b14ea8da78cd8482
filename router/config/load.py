"""From file, environment and command line to one ``Config``, or to one clear line per problem.

A value comes from the first of: the command line, ``BROKER`` (the broker only), ``POINTSMAN_SECTION__KEY``, the file, the
default. The file is the first of: ``--config``, ``POINTSMAN_CONFIG``, ``./pointsman.toml``, the example that is shipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from router.config import checks, problems
from router.config.model import Config
from router.config.toml import read_toml
from router.contract.errors import ConfigError

DEFAULT_FILE = Path("pointsman.toml")
ENV_PREFIX = "POINTSMAN_"
ENV_DELIMITER = "__"
COMMAND_LINE = "command line"
EXAMPLE = "example.toml"
_MOST_DIGITS = 400

Tree = dict[str, Any]
Sources = dict[str, str]


def example() -> str:
    """The text of the example configuration: two simulated models, one pool."""
    return (files("router") / EXAMPLE).read_text(encoding="utf-8")


def load(
    path: str | Path | None = None,
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration as ``path`` (``--config``), environment and ``overrides`` give it.

    ``overrides``: dotted key -> value, as ``{"kafka.broker": "127.0.0.1:9092"}``; ``None`` values are left out.
    Raises ``ConfigError`` whose ``problems`` are one line each, naming file or variable, section and key.
    """
    environ = os.environ if environ is None else environ
    name, text = _find(path, environ)
    return loads(text, name=name, overrides=overrides, environ=environ)


def loads(
    text: str,
    *,
    name: str = str(DEFAULT_FILE),
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Like ``load``, from the text of a file that is called ``name``. Without ``environ`` no variable is read."""
    tree = read_toml(text, name, _number)
    sources = {".".join(path): name for path in _leaves(tree)}
    found = _Merge(tree, sources, name)
    found.environment(environ or {})
    found.overrides(overrides or {})
    return found.config()


class _Merge:
    """Layers of values, later ones on top, and where each came from."""

    def __init__(self, tree: Tree, sources: Sources, file: str) -> None:
        self.tree, self.sources, self.file = tree, sources, file
        self.problems: list[str] = []

    def environment(self, environ: Mapping[str, str]) -> None:
        for variable, text in sorted(environ.items()):
            if variable.upper().startswith(ENV_PREFIX) and ENV_DELIMITER in variable:
                self._variable(variable, text)
        if broker := environ.get("BROKER"):
            self._put({"kafka": {"broker": broker}}, "BROKER")

    def overrides(self, overrides: Mapping[str, object]) -> None:
        for key, value in overrides.items():
            if value is None:
                continue
            tree: Any = value
            for part in reversed(key.split(".")):
                tree = {part: tree}
            self._put(tree, COMMAND_LINE)

    def config(self) -> Config:
        try:
            config = Config(**self.tree) if not self.problems else None
        except ValidationError as error:
            self.problems += problems.lines(error, self.file, self.sources)
            config = None
        if config is not None:
            config._sources.update(self.sources)  # noqa: SLF001 - what is loaded remembers where from
            self.problems += problems.labelled(checks.contradictions(config), self.file, self.sources)
        if config is None or self.problems:
            raise ConfigError("\n".join(self.problems), problems=self.problems)
        return config

    def _variable(self, variable: str, text: str) -> None:
        section = variable[len(ENV_PREFIX) :].split(ENV_DELIMITER, 1)[0].lower()
        if section not in Config.model_fields:
            hint = problems.did_you_mean(section, Config.model_fields)
            self.problems.append(f"{variable}: {section}: unknown section{hint}")
            return
        try:
            self._put(_OneVariable(variable, text)(), variable)
        except (SettingsError, ValueError):
            path = variable[len(ENV_PREFIX) :].lower().replace(ENV_DELIMITER, ".")
            self.problems.append(f'{variable}: {path}: must be JSON, like ["a", "b"]')

    def _put(self, layer: Tree, source: str) -> None:
        _merge_into(self.tree, layer)
        self.sources |= {".".join(path): source for path in _leaves(layer)}


class _OneVariable(EnvSettingsSource):
    """pydantic-settings' reading of one variable, so that what is wrong with it can name it."""

    def __init__(self, variable: str, text: str) -> None:
        self._only = {variable.lower(): text}
        super().__init__(Config)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._only


def _find(path: str | Path | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Name and text of the file to read."""
    if path is not None:
        return str(path), _read(Path(path), f"--config {path}")
    if named := environ.get("POINTSMAN_CONFIG"):
        return named, _read(Path(named), f"POINTSMAN_CONFIG={named}")
    if DEFAULT_FILE.exists():
        return str(DEFAULT_FILE), _read(DEFAULT_FILE, str(DEFAULT_FILE))
    return EXAMPLE, example()


def _read(path: Path, label: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"{label}: {(error.strerror or str(error)).lower()}"
    except UnicodeDecodeError as error:
        problem = f"{label}: not UTF-8 at byte {error.start}"
    raise ConfigError(problem, problems=[problem])


def _number(text: str) -> Decimal | float:
    """Exact, for prices; what is too large for that is infinite, since its digits could fill the memory."""
    exact = Decimal(text)
    return exact if exact.is_finite() and exact.adjusted() < _MOST_DIGITS else float(text)


def _leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _merge_into(below: Tree, above: Tree) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge_into(below[key], value)
        else:
            below[key] = value
