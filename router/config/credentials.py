"""Secrets, read at start from the environment or a file and from nowhere else. Never part of ``Config``, never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from router.config.model import Config
from router.contract.errors import ConfigError

MIN_SECRET_BYTES = 32


def signing_secret(config: Config, environ: Mapping[str, str] | None = None) -> str | None:
    """The text that signs slips and tokens, one key a line, each at least 32 bytes; ``None`` where none is configured.

    Raises ``ConfigError`` if the variable or file is missing, or a line too short. Blank lines are left out.
    """
    named = config.security
    key, text = _read("security.secret", named.secret_env, named.secret_file, environ)
    if text is None:
        return None
    keys = [line for line in (line.strip() for line in text.splitlines()) if line]
    if not keys:
        raise ConfigError(f"{key}: is empty; it needs at least {MIN_SECRET_BYTES} bytes")
    for number, line in enumerate(keys, start=1):
        if len(line.encode()) < MIN_SECRET_BYTES:
            raise ConfigError(f"{key}: key {number} has {len(line.encode())} bytes, fewer than {MIN_SECRET_BYTES}")
    return "\n".join(keys)


def sasl_password(config: Config, environ: Mapping[str, str] | None = None) -> str | None:
    """The broker's password without trailing line ends; ``None`` where none is configured. Raises ``ConfigError``."""
    named = config.kafka
    _, text = _read("kafka.sasl_password", named.sasl_password_env, named.sasl_password_file, environ)
    return None if text is None else text.rstrip("\r\n")


def _read(
    key: str, variable: str | None, path: Path | None, environ: Mapping[str, str] | None
) -> tuple[str, str | None]:
    if variable is not None:
        environ = os.environ if environ is None else environ
        if variable not in environ:
            raise ConfigError(f"{key}_env: variable {variable} is not set")
        return f"{key}_env", environ[variable]
    if path is not None:
        try:
            return f"{key}_file", path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{key}_file: {path}: {(error.strerror or str(error)).lower()}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{key}_file: {path}: not UTF-8") from None
    return key, None
