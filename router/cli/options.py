"""Options that every command takes, and what most of them need first: the configuration and a broker."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from router.contract.errors import ConfigError

if TYPE_CHECKING:
    from router.config import Config
    from router.kafka.client import Client

Command = Callable[..., Any]


def common(command: Command) -> Command:
    """``--config`` and ``--broker``; the command gets ``config: Config``."""

    @click.option("--config", "config_path", metavar="FILE", help="Configuration file [default: ./pointsman.toml].")
    @click.option("--broker", metavar="HOST:PORT", envvar="BROKER", help="Kafka to use instead of the embedded one.")
    @functools.wraps(command)
    def with_config(*args: Any, config_path: str | None, broker: str | None, **options: Any) -> Any:
        from router.config import load

        if config_path:
            os.environ["POINTSMAN_CONFIG"] = str(Path(config_path).resolve())  # for the processes of `up`
        if broker:
            os.environ["BROKER"] = checked_address(broker)
        return command(*args, config=load(config_path), **options)

    return with_config


def checked_address(broker: str) -> str:
    """``HOST:PORT[,HOST:PORT...]``, or a clear error."""
    for one in broker.split(","):
        host, _, port = one.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"--broker {one.strip()!r}: expected HOST:PORT, for example 127.0.0.1:9092")
    return broker


def client_of(config: Config) -> Client:
    """The Kafka that the configuration names, else the one that `pointsman up` runs in the data folder."""
    from router.cluster import client_of as find

    return find(config)
