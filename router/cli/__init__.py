"""The command line: one command a file, no logic.

A command's file is imported when the command is called, so ``--help`` and ``status`` do not wait for Kafka clients.
Whatever goes wrong reaches the user as one line: exit code 2 for wrong usage or configuration, 1 for work that failed.
"""

from __future__ import annotations

import importlib
import keyword
import os
import sys
import traceback

import click

from router import __version__
from router.cli.status_units import on_screen
from router.contract.errors import ConfigError, PointsmanError

#: Command -> file in this folder, in the order of the help page. Each file has a click command of that name (``import_``).
COMMANDS = {
    "up": "up",
    "run": "run",
    "worker": "run",
    "sim": "sim",
    "submit": "submit",
    "feedback": "feedback",
    "review": "review",
    "surveys": "surveys",
    "status": "status",
    "pin": "control",
    "ban": "control",
    "drain": "control",
    "freeze": "control",
    "rollback": "control",
    "rollout": "control",
    "holdout": "control",
    "release": "control",
    "journal": "journal",
    "dead-letters": "dead_letters",
    "explain": "explain",
    "replay": "explain",
    "audit": "audit",
    "archive": "archive",
    "forget": "forget",
    "report": "report",
    "strata": "strata",
    "cascade": "cascade",
    "import": "import_",
    "train": "train",
    "evaluate": "train",
    "classifier": "classifier",
    "guard": "guard",
    "alerts": "alerts",
    "simulate": "simulate",
    "topics": "topics",
    "config": "config",
    "plan": "plan",
    "bench": "bench",
    "demo": "demo",
    "demo-trap": "demo_trap",
}


#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130


class Commands(click.Group):
    """Finds commands by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"router.cli.{COMMANDS[cmd_name]}")
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="pointsman")
def cli() -> None:
    """A streaming router for LLM requests on Apache Kafka.

    Start with `pointsman demo`, or `pointsman up` and `pointsman submit FILE`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns 0 done, 1 the work failed, 2 wrong usage or configuration."""
    try:
        code = cli.main(args=arguments, prog_name="pointsman", standalone_mode=False)
    except (click.ClickException, PointsmanError) as error:
        return _failed(error)
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # noqa: BLE001 - the last place before the user
        if os.environ.get("POINTSMAN_DEBUG"):
            traceback.print_exc()
        _tell(f"{type(error).__name__}: {error} (POINTSMAN_DEBUG=1 shows where)")
        code = 1
    return code if isinstance(code, int) else 0


def _failed(error: click.ClickException | PointsmanError) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help() if error.ctx else "")
    else:
        _tell(_usage(error) if isinstance(error, click.ClickException) else str(error))
    return 2 if isinstance(error, (click.ClickException, ConfigError)) else 1


def _usage(error: click.ClickException) -> str:
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "pointsman"
    message = error.format_message().replace("\n", " ").rstrip(".")
    return f"{message} (see {command} --help)"


def _tell(message: str) -> None:
    for line in message.splitlines() or ["failed"]:
        click.echo(on_screen(f"pointsman: {line}"), err=True)
