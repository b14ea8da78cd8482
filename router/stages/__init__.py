"""Each stage one file: decode -> core -> encode. A new one is a file here and its name below."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.kafka.stage import Stage
    from router.stages.context import Context

NAMES = ("route", "settle", "feedback", "account", "learn", "watch")


def build(name: str, context: Context) -> list[Stage]:
    """The stages of one file; only its own imports are made: settle needs no tokeniser."""
    module = importlib.import_module(f"router.stages.{name}")
    stages: list[Stage] = module.build(context)
    reading_known = importlib.import_module("router.stages.versions").reading_known
    return [reading_known(stage, name, context.names.of("dead-letter")) for stage in stages]
