"""``run`` and ``worker``: some of the stages, the workers of some models, in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from router.cli.options import common
from router.contract.errors import ConfigError
from router.stages import NAMES

if TYPE_CHECKING:
    from router.config import Config

STAGE_NAMES = (*NAMES, "web")


@click.command
@click.argument("stages", nargs=-1, required=True, metavar="STAGE...")
@click.option("--worker", "models", multiple=True, metavar="MODEL", help="Run this model's worker here too.")
@click.option("--name", metavar="NAME", help="What `status` calls this process [default: its stages].")
@common
def run(config: Config, stages: tuple[str, ...], models: tuple[str, ...], name: str | None) -> int:
    """Run STAGE... in this process: route settle feedback account learn watch web."""
    for stage in stages:
        if stage not in STAGE_NAMES:
            raise ConfigError(f"there is no stage {stage!r}; stages: {' '.join(STAGE_NAMES)}")
    return _run(config, stages, models, name or "-".join(stages))


@click.command
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--name", metavar="NAME", help="What `status` calls this process.")
@common
def worker(config: Config, models: tuple[str, ...], name: str | None) -> int:
    """Run the workers of MODEL... in this process."""
    return _run(config, (), models, name or "worker-" + "-".join(models))


def _run(config: Config, stages: tuple[str, ...], models: tuple[str, ...], name: str) -> int:
    for model in models:
        if model not in config.models:
            raise ConfigError(f"there is no model {model!r}; models: {', '.join(config.models)}")
    from router.app import run_process

    run_process(config, tuple(dict.fromkeys(stages)), tuple(dict.fromkeys(models)), name)
