"""The runbook knows every alert, and what it says to type can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from router.cli import cli
from router.contract.errors import Code
from router.core.budget_alerts import SIGNALS as OF_TENANTS
from router.core.guard.drift import SIGNALS as OF_DRIFT
from router.core.guard.grid import Grid
from router.core.incidents import SIGNALS as OF_MODELS
from router.core.records import NEW_NAME
from router.stages.guard_baseline import SIGNAL as OF_BASELINE

TEXT = (Path(__file__).parents[1] / "docs/runbook.md").read_text()
WORDS = set(re.findall(r"`([a-z_]+)`", TEXT))
COMMANDS = sorted(
    {
        found.strip()
        for found in re.findall(r"`(pointsman [^`]+)`|^(pointsman [^#\n]+)", TEXT, re.MULTILINE)
        for found in found
        if found
    }
)


@pytest.mark.parametrize(
    "signal", sorted({*Grid.of(0.1).group, *OF_DRIFT, *OF_MODELS, *OF_TENANTS, NEW_NAME, OF_BASELINE})
)
def test_every_alert_has_an_entry(signal):
    assert signal in WORDS


@pytest.mark.parametrize("code", list(Code))
def test_every_code_of_a_failed_result_is_named(code):
    assert code.value in WORDS


@pytest.mark.parametrize("line", COMMANDS)
def test_what_it_says_to_type_is_a_command_with_these_options(line):
    words = shlex.split(line.replace("...", ""))[1:]
    found: click.Command = cli
    while (
        isinstance(found, click.Group)
        and words
        and (inner := found.get_command(click.Context(found), words[0])) is not None
    ):
        found = inner
        words = words[1:]
    assert found is not cli, f"no such command: {line}"
    inside = (
        found.commands.values() if isinstance(found, click.Group) else ()
    )  # `rollout SCOPE PERCENT` beside `rollout plan`
    options = {name for command in (found, *inside) for one in command.params for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= options
