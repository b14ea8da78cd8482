"""The kinds of values that keys have: each with its range, and the words that say what is wrong with another."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from router.config.prices import nano_usd, nano_usd_per_token
from router.contract.ids import NAME


def no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic collects ValueError
    return value


def _url(value: str) -> str:
    scheme, _, rest = value.partition("://")
    host = rest.split("/", 1)[0]
    if scheme not in {"http", "https"} or not host or any(ch.isspace() for ch in value):
        raise ValueError("must be an http:// or https:// address")
    if "@" in host:
        raise ValueError("must not hold a user name or password; name a variable in api_key_env")
    return value.rstrip("/")


def masked(url: str) -> str:
    """An address without what may be a secret in it: a path or query that only who may use it knows.

    >>> masked("https://hooks.example.com:8443/services/T0/B0/x?y"), masked("http://alerts:9093")
    ('https://hooks.example.com:8443/***', 'http://alerts:9093')
    """
    scheme, _, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{host}" + ("/***" if len(rest) > len(host) else "")


def _brokers(value: str) -> str:
    for address in value.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65_536:
            raise ValueError(f'"{address.strip()[:60]}" is no HOST:PORT, like 127.0.0.1:9092')
    return value


def _usd_per_mtok(value: Decimal) -> Decimal:
    nano_usd_per_token(value)
    return value


def _usd(value: Decimal) -> Decimal:
    nano_usd(value)
    return value


Whole = Annotated[int, BeforeValidator(no_bool)]
Positive = Annotated[Whole, Field(ge=1, le=2**53)]
Seconds = Annotated[float, BeforeValidator(no_bool), Field(gt=0, le=365 * 86_400, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=1, allow_inf_nan=False)]
Percent = Annotated[float, BeforeValidator(no_bool), Field(ge=0, le=100, allow_inf_nan=False)]
Port = Annotated[Whole, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Brokers = Annotated[str, AfterValidator(_brokers)]
Url = Annotated[str, AfterValidator(_url)]
UsdPerMtok = Annotated[Decimal, BeforeValidator(no_bool), AfterValidator(_usd_per_mtok)]
Usd = Annotated[Decimal, BeforeValidator(no_bool), AfterValidator(_usd)]
